//! The way out to GitHub: the only place that knows its HTTP API, in either of its two dialects.

mod admission;
mod auth;
mod dialect;
pub mod failure;
mod http;
pub(crate) mod staleness;
mod upstream;
pub mod webhook;

use std::pin::Pin;

pub use admission::{AdmissionStatus, AppAdmission, Operation};
pub use auth::key;
pub use failure::{Failure, Kind, Origin};
pub use http::answer::Answer;
pub use http::config::{BuildError, UpstreamConfig};
pub use http::request::Request;
pub use http::transport::{HttpTransport, Transport};
pub use upstream::Upstream;

use crate::model::{
    App, AppName, Capabilities, ClientId, Identity, Installation, InstallationId, KeyInUse, Minted, Scope,
    Secret, Selector, TokenKey, UserId,
};
pub use crate::single_flight::{Demand, Requester};

/// What the broker needs of GitHub, in words of the domain. Each dialect implements it over HTTP.
pub trait Github: Send + Sync + 'static {
    /// What its dialect can do.
    fn capabilities(&self) -> Capabilities;

    /// The private keys of `app`, newest first, and how each stands. Asks nobody.
    fn keys(&self, app: &AppName) -> Vec<KeyInUse>;

    /// Whether the dialect has words for a request; if not, what to ask for instead. Asks nobody.
    fn check_supported(
        &self,
        selector: &Selector,
        scope: &Scope,
        user: Option<UserId>,
    ) -> Result<(), Failure>;

    /// Asks for a token. Every call is a new token. [`Kind::Gone`] and [`Kind::Suspended`] are GitHub's word that all
    /// tokens of the installation are worthless.
    fn mint<'a>(&'a self, key: &'a TokenKey, demand: Demand) -> Reply<'a, Minted>;

    /// Finds the installation that `selector` names. [`Selector::Default`] is [`Kind::NotFound`]: it is no question
    /// that GitHub could answer.
    fn look_up<'a>(
        &'a self,
        app: &'a AppName,
        selector: &'a Selector,
        demand: Demand,
    ) -> Reply<'a, Installation>;

    /// The app's installations, page after page, until there are `enough` or no more.
    fn installations<'a>(
        &'a self,
        app: &'a AppName,
        enough: usize,
        demand: Demand,
    ) -> Reply<'a, Vec<Installation>>;

    /// Who GitHub takes us for, if the dialect can say: the cheapest proof that GitHub accepts the app JWT. Asked anew, and
    /// before all else.
    fn authenticated_app<'a>(&'a self, app: &'a AppName) -> Reply<'a, Option<App>>;

    /// The app as GitHub describes it, where the dialect has words for that: as it was a minute ago at most.
    fn describe_app<'a>(&'a self, app: &'a AppName, client: ClientId) -> Reply<'a, App>;

    /// One page of the app's installations, as GitHub listed them five seconds ago at most.
    fn installation_page<'a>(
        &'a self,
        app: &'a AppName,
        page: Page,
        client: ClientId,
    ) -> Reply<'a, InstallationPage>;

    /// Forgets the lists of installations that the dialect may keep. Asks nobody.
    fn forget_installations(&self);

    /// What GitHub has refused, it may grant now: it is asked again. Asks nobody.
    fn forget_refusals(&self);

    /// What is limited, waits and was counted on the way to GitHub. Asks nobody.
    fn admission(&self) -> AdmissionStatus;

    /// Ends the life of an installation token; one that is dead already is no failure. `of` is whose token it is, if it
    /// was minted here.
    fn revoke<'a>(
        &'a self,
        token: &'a Secret,
        of: Option<(&'a AppName, InstallationId)>,
        client: ClientId,
    ) -> Reply<'a, ()>;

    /// Who the user is that came by with `nonce`. Every call spends a nonce, also one whose answer is lost: it must not
    /// be repeated, shared or remembered, and is not repeated here.
    fn identify<'a>(&'a self, app: &'a AppName, nonce: &'a Secret, client: ClientId) -> Reply<'a, Identity>;
}

/// Which part of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Page {
    /// Counted from 1.
    pub number: u64,
    /// Items on each page, from 1 to 100.
    pub size: u64,
}

/// A part of the list of installations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InstallationPage {
    /// What is on it.
    pub installations: Vec<Installation>,
    /// Whether there is a page after it.
    pub more: bool,
    /// The number of the last page; GitHub may not say.
    pub last: Option<u64>,
}

/// An answer that is under way.
pub type Reply<'a, T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + 'a>>;
