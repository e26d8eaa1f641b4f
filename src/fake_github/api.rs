//! GitHub's API: the table of routes and its handlers, in today's dialect and in that of the preview of 2016.

mod apps;
mod authentication;
mod context;
mod dialect;
mod grant;
mod installations;
mod jwt;
mod meta;
mod middleware;
mod page;
mod preview;
mod problem;
mod rate_limit;
mod replacement;
mod repositories;
mod routes;
pub(crate) mod service;
mod token_text;
mod tokens;
