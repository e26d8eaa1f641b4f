//! Minting, as far as it is the same in every dialect.

use jiff::Timestamp;

use super::token_response;
use crate::github::failure::{Failure, Kind, Origin};
use crate::github::http::answer::Answer;
use crate::github::http::client::Client;
use crate::github::http::request::Request;
use crate::model::{Installation, InstallationToken, Minted, Priority, TokenKey};
use crate::single_flight::{Demand, Requester};

/// The token that `request` brings, by `read`, and how long it lives.
pub(super) async fn mint(
    client: &Client,
    key: &TokenKey,
    request: &Request,
    demand: &mut Demand,
    read: impl Fn(&Answer) -> Result<(InstallationToken, Timestamp), Failure>,
) -> Result<Minted, Failure> {
    let read = |answer: &Answer, sent| {
        let (token, expires) = read(answer)?;
        let now = answer.date.unwrap_or_else(|| client.github_clock().now());
        let lifetime = token_response::token_lifetime(answer, expires, now)?;
        Ok(Minted { token, sent, landed: client.github_clock().boot(), lifetime })
    };
    client.call(&client.calls().mint(key), request, demand, read).await
}

/// Whether GitHub answered that there is no such installation: its replicas lag, and one 404 must not drop the tokens of
/// an installation that is there.
pub(super) fn needs_confirmation(failure: &Failure) -> bool {
    failure.kind == Kind::NotFound && failure.origin == Origin::Upstream
}

/// A 404 to a mint, as [`Kind::Gone`] if `look_up`, asked with [`probe`], finds no such installation either.
pub(super) fn confirmed(
    client: &Client,
    key: &TokenKey,
    failure: Failure,
    found: Result<Installation, Failure>,
) -> Failure {
    if found.is_err_and(|failure| failure.kind == Kind::NotFound) {
        // The wait of the question is not that of the installation.
        let gone = Failure { kind: Kind::Gone, retry_after: None, origin: Origin::Upstream, ..failure };
        return client.remember(&client.calls().mint(key), gone);
    }
    failure
}

/// Goes before all else: tokens are dropped by it, or stay in service.
pub(super) fn probe() -> Demand {
    Demand::of(Requester::background(Priority::Probe, None))
}
