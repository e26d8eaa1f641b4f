//! A request on its way through a handler, with what the frame already knows about it.

use super::Shared;
use super::fault::Effect;
use super::preview::gate::Dialect;
use super::request::Request;

/// What every handler is given.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) shared: &'a Shared,
    pub(super) request: &'a Request,
    /// What the path has in the places of the template's `{…}`.
    pub(super) parameters: Vec<&'a str>,
    /// The dialect to answer in.
    pub(super) dialect: Dialect,
    /// The API version in force.
    pub(super) version: &'a str,
    /// The faults that change the answer.
    pub(super) effects: &'a [Effect],
}

impl<'a> Call<'a> {
    /// The `n`th parameter; empty if there is none.
    pub(super) fn text(&self, n: usize) -> &'a str {
        self.parameters.get(n).copied().unwrap_or_default()
    }

    /// The `n`th parameter, if it is an id.
    pub(super) fn id(&self, n: usize) -> Option<u64> {
        self.text(n).parse().ok()
    }
}
