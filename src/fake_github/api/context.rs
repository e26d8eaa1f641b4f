//! What handlers know about a request.

use serde_json::{Map, Value};

use super::problem::{Docs, Problem};
use crate::fake_github::faults::fault::Effect;
use crate::fake_github::state::State;
use crate::fake_github::wire::request::Request;

/// The first argument of every handler.
#[derive(Debug)]
pub(super) struct RequestContext<'a> {
    pub(super) state: &'a State,
    pub(super) request: &'a Request,
    /// The values of the path's parameters.
    pub(super) parameters: Vec<&'a str>,
    /// The API version in force.
    pub(super) version: &'a str,
    /// The faults that change the response.
    pub(super) effects: &'a [Effect],
}

impl<'a> RequestContext<'a> {
    /// The `n`th path parameter; empty if there is none.
    pub(super) fn text(&self, n: usize) -> &'a str {
        self.parameters.get(n).copied().unwrap_or_default()
    }

    /// The `n`th path parameter, if it is an id.
    pub(super) fn id(&self, n: usize) -> Option<u64> {
        self.text(n).parse().ok()
    }

    /// The body, an object; an empty one is `{}`.
    pub(super) fn object(&self) -> Result<Map<String, Value>, Problem> {
        let bad_request = |message| Problem::new(400, message, Docs::Operation);
        match self.request.json() {
            Ok(Value::Object(body)) => Ok(body),
            Ok(_) => Err(bad_request("Body should be a JSON object")),
            Err(_) => Err(bad_request("Problems parsing JSON")),
        }
    }
}
