//! HTTP on the wire: the listeners, requests, responses and their bodies.

pub(crate) mod body;
pub(crate) mod path_template;
pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod server;
