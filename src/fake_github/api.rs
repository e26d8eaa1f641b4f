//! GitHub's API: the table of routes and its handlers, in today's dialect and in that of the preview of 2016.

pub(crate) mod apps;
pub(crate) mod context;
pub(crate) mod dialect;
pub(crate) mod installations;
pub(crate) mod jwt;
pub(crate) mod meta;
pub(crate) mod middleware;
pub(crate) mod page;
pub(crate) mod preview;
pub(crate) mod repositories;
pub(crate) mod routes;
pub(crate) mod token_text;
pub(crate) mod tokens;
