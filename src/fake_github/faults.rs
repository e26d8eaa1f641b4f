//! Misbehaviour on demand: faults, and holds of responses.

pub(crate) mod fault;
pub(crate) mod hold;
