//! The way out to GitHub: the only place that knows its HTTP API.

mod answer;
mod apps;
mod client;
pub mod failure;
mod jwt;
pub mod key;
mod request;

use std::pin::Pin;

pub use client::{BuildError, Client, Reach};
pub use failure::{Failure, Kind};

use crate::model::{App, AppName, Installation, Minted, Selector, TokenKey};

/// What the broker needs of GitHub, in words of the domain. [`Client`] is the one that talks HTTP.
pub trait Github: Send + Sync + 'static {
    /// Asks for a token. Every call is a new token.
    fn mint<'a>(&'a self, key: &'a TokenKey) -> Reply<'a, Minted>;

    /// Finds the installation that `selector` names. [`Selector::Default`] is [`Kind::NotFound`]: it is no question
    /// that GitHub could answer.
    fn look_up<'a>(&'a self, app: &'a AppName, selector: &'a Selector) -> Reply<'a, Installation>;

    /// The app's installations, page after page, until there are `enough` or no more.
    fn installations<'a>(&'a self, app: &'a AppName, enough: usize) -> Reply<'a, Vec<Installation>>;

    /// Who GitHub takes us for: the cheapest proof that it accepts the app JWT.
    fn who_am_i<'a>(&'a self, app: &'a AppName) -> Reply<'a, App>;
}

/// An answer that is under way.
pub type Reply<'a, T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + 'a>>;
