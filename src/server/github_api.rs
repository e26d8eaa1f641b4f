//! GitHub's own endpoints, served locally: an SDK's app calls go here, and need no private key. In whichever of GitHub's two
//! styles the caller speaks, and whichever dialect the upstream does.

mod app_selection;
mod identity;
mod installations;
mod object;
mod tokens;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, HOST, HeaderMap};
use hyper::http::request::Parts;
use hyper::http::uri::Authority;

use super::reply::{ApiError, Format, NO_STORE, Reply, ok};
use super::route::{Call, InstallationPath, PREFIX};
use super::{Caller, Server};
use crate::broker::TokenHash;
use crate::model::id::Invalid;
use crate::model::{ErrorCode, Selector};
use crate::telemetry::audit;

impl Server {
    /// Answers one of GitHub's own endpoints.
    pub(super) async fn github(
        &self,
        call: Call<'_>,
        head: &Parts,
        body: Bytes,
        caller: Caller<'_>,
    ) -> Result<Reply, ApiError> {
        self.called(call, head, body, caller).await.map_err(as_github_would)
    }

    /// Ends the life of the token that authorises the call.
    pub(super) async fn revoke(&self, headers: &HeaderMap, caller: Caller<'_>) -> Result<Reply, ApiError> {
        let token = tokens::to_revoke(headers)?;
        let hash = TokenHash::of(&token);
        self.in_time(self.broker.revoke(token, caller.client)).await?;
        audit::revoked(caller.asker, &hash);
        let mut reply = Reply::default();
        *reply.status_mut() = StatusCode::NO_CONTENT;
        Ok(reply)
    }

    async fn called(
        &self,
        call: Call<'_>,
        head: &Parts,
        body: Bytes,
        caller: Caller<'_>,
    ) -> Result<Reply, ApiError> {
        let app = app_selection::app(&head.headers, &self.apps)?;
        let base = BaseUrl::of(head);
        match call {
            Call::App => {
                let described = self.in_time(self.broker.describe_app(app.as_ref(), caller.client)).await?;
                Ok(json(StatusCode::OK, described.json))
            }
            Call::Installations(style) => {
                let page = installations::page(head.uri.query().unwrap_or_default());
                let found =
                    self.in_time(self.broker.installation_page(app.as_ref(), page, caller.client)).await?;
                installations::list(&base, &head.uri, &found, style)
            }
            Call::Installation(path) => {
                let selector = selector(path)?;
                let found = self.in_time(self.broker.describe(app.as_ref(), &selector, caller.client)).await;
                let found =
                    found.map_err(|refusal| ApiError { asked: Some(selector.to_string()), ..refusal })?;
                installations::one(&base, &found)
            }
            Call::Mint(style, id) => {
                let request = tokens::read(app, selector(InstallationPath::Id(id))?, &body)?;
                // Many may wait for their mint with a large one.
                drop(body);
                tokens::minted(&self.vend(request, caller).await?, style)
            }
            Call::Identity => {
                let nonce = identity::read_nonce(&body)?;
                let identity = self.broker.identify(app.as_ref(), &nonce, caller.client).await;
                identity::identity(&identity.map_err(identity::no_identity)?)
            }
        }
    }
}

/// Where the caller reaches us: what is linked to has to be there for it too.
struct BaseUrl {
    /// `http://HOST`
    origin: String,
    /// [`PREFIX`] if the caller used it.
    prefix: &'static str,
}

impl BaseUrl {
    fn of(head: &Parts) -> Self {
        let host = head.headers.get(HOST).and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
        // The unix socket's callers may send anything, or nothing.
        let host = host.filter(|host| !host.as_str().contains('@'));
        Self {
            origin: format!("http://{}", host.as_ref().map_or("localhost", Authority::as_str)),
            prefix: if head.uri.path().starts_with(PREFIX) { PREFIX } else { "" },
        }
    }

    /// The URL of a path of the API.
    fn api(&self, path: &str) -> String {
        format!("{}{}{path}", self.origin, self.prefix)
    }

    /// The URL of a path as it was asked for.
    fn of_path(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }
}

/// What is no login, name or number at all is not at GitHub either.
fn selector(path: InstallationPath<'_>) -> Result<Selector, ApiError> {
    let unknown = |error: Invalid| {
        ApiError::new(ErrorCode::UnknownInstallation, format!("no such installation: {error}"))
    };
    let selector = || {
        Ok(match path {
            InstallationPath::Id(id) => Selector::Id(id.parse()?),
            InstallationPath::Repository(owner, name) => Selector::Repository(owner.parse()?, name.parse()?),
            InstallationPath::Organization(login) => Selector::Organization(login.parse()?),
            InstallationPath::User(login) => Selector::Owner(login.parse()?),
            InstallationPath::Enterprise(slug) => Selector::Enterprise(slug.parse()?),
        })
    };
    selector().map_err(unknown)
}

/// GitHub says 422 where the rest of this daemon says 400.
fn as_github_would(refusal: ApiError) -> ApiError {
    match refusal.status {
        StatusCode::BAD_REQUEST => ApiError { status: StatusCode::UNPROCESSABLE_ENTITY, ..refusal },
        _ => refusal,
    }
}

fn json(status: StatusCode, body: impl Into<Bytes>) -> Reply {
    let mut reply = ok(Format::Json, body.into());
    *reply.status_mut() = status;
    reply.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    reply
}
