//! Caller proofs: a file for each, and [`Callers`], which has the list of them.
//!
//! A proof is a function from a request's head, or the connection that it came on, to the [evidence] that it gives. A
//! new one is a file and a line in that list.

mod callers;
mod client_header;
mod evidence;
mod fair_shares;
mod peer_uid;
mod user_agent;

pub(crate) use callers::{Caller, Callers};
pub(crate) use client_header::is_named;
pub(crate) use evidence::Peer;
