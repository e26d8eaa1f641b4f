//! A request on its way through a handler, with what the frame already knows about it.

use super::dialect::Dialect;
use crate::fake_github::faults::fault::Effect;
use crate::fake_github::state::Shared;
use crate::fake_github::wire::request::Request;

/// What every handler is given.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) request: &'a Request,
    /// What the path has in the places of the template's `{…}`.
    pub(crate) parameters: Vec<&'a str>,
    /// The dialect to answer in.
    pub(crate) dialect: Dialect,
    /// The API version in force.
    pub(crate) version: &'a str,
    /// The faults that change the answer.
    pub(crate) effects: &'a [Effect],
}

impl<'a> Call<'a> {
    /// The `n`th parameter; empty if there is none.
    pub(crate) fn text(&self, n: usize) -> &'a str {
        self.parameters.get(n).copied().unwrap_or_default()
    }

    /// The `n`th parameter, if it is an id.
    pub(crate) fn id(&self, n: usize) -> Option<u64> {
        self.text(n).parse().ok()
    }
}
