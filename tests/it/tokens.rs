//! The life of a token: minted, cached, renewed, rejected, expired.

mod clocks;
mod life;
mod min_ttl;
mod prefetch;
mod reject;
pub mod renewal;
mod vend;
