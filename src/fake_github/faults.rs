//! Misbehaviour on demand: faults, and answers held back.

pub(crate) mod fault;
pub(crate) mod hold;
