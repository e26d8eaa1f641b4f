//! Each of GitHub's calls, answered.

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::HeaderMap;
use hyper::http::request::Parts;

use super::base_url::BaseUrl;
use super::{app_selection, identity, installations, tokens};
use crate::broker::TokenHash;
use crate::model::id::Invalid;
use crate::model::{ErrorCode, Selector};
use crate::server::config::ServedApp;
use crate::server::context::Context;
use crate::server::reply::{ApiError, Reply, json};
use crate::server::route::{Call, InstallationPath};
use crate::server::token_service::TokenService;
use crate::telemetry::audit::{self, Requested};

/// GitHub's own endpoints.
pub(in crate::server) struct GithubApi {
    pub(in crate::server) tokens: TokenService,
    pub(in crate::server) apps: Vec<ServedApp>,
}

impl GithubApi {
    /// Answers one of GitHub's own endpoints.
    pub(in crate::server) async fn call(
        &self,
        call: Call<'_>,
        head: &Parts,
        body: Bytes,
        context: Context<'_>,
    ) -> Result<Reply, ApiError> {
        self.answer(call, head, body, context).await.map_err(as_github_would)
    }

    /// Ends the life of the token that authorises the call.
    pub(in crate::server) async fn revoke(
        &self,
        headers: &HeaderMap,
        context: Context<'_>,
    ) -> Result<Reply, ApiError> {
        let token = tokens::revoked_token(headers)?;
        let hash = TokenHash::of(&token);
        self.tokens.within_deadline(self.tokens.broker.revoke(token, context.client())).await?;
        audit::revoked(context.audited(), &hash);
        let mut reply = Reply::default();
        *reply.status_mut() = StatusCode::NO_CONTENT;
        Ok(reply)
    }

    async fn answer(
        &self,
        call: Call<'_>,
        head: &Parts,
        body: Bytes,
        context: Context<'_>,
    ) -> Result<Reply, ApiError> {
        let app = app_selection::app(&head.headers, &self.apps)?;
        let (broker, app, client) = (&self.tokens.broker, app.as_ref(), context.client());
        let base = BaseUrl::of(head);
        match call {
            Call::App => {
                let described = self.tokens.within_deadline(broker.describe_app(app, client)).await?;
                Ok(json(StatusCode::OK, described.json))
            }
            Call::Installations(style) => {
                let page = installations::page(head.uri.query().unwrap_or_default());
                let found = broker.installation_page(app, page, client);
                installations::list(&base, &head.uri, &self.tokens.within_deadline(found).await?, style)
            }
            Call::Installation(path) => {
                let selector = selector(path)?;
                let found = self.tokens.within_deadline(broker.describe(app, &selector, client)).await;
                let found = found.map_err(|error| {
                    let requested = Requested { selector, scope: None, user: None, min_ttl: None };
                    ApiError { requested: Some(Box::new(requested)), ..error }
                })?;
                installations::one(&base, &found)
            }
            Call::Mint(style, id) => {
                let request = tokens::read(app.cloned(), selector(InstallationPath::Id(id))?, &body)?;
                // Many callers may wait for a mint, each with a large body.
                drop(body);
                tokens::reply(&self.tokens.vend(request, context).await?, style)
            }
            Call::Identity => {
                let nonce = identity::read_nonce(&body)?;
                let identity = broker.identify(app, &nonce, client).await;
                identity::reply(&identity.map_err(identity::identity_error)?)
            }
        }
    }
}

/// A path that cannot be a login, a name or a number is unknown: GitHub is not asked.
fn selector(path: InstallationPath<'_>) -> Result<Selector, ApiError> {
    let unknown = |invalid: Invalid| {
        ApiError::new(ErrorCode::UnknownInstallation, format!("no such installation: {invalid}"))
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

/// GitHub answers 422 where the rest of this daemon answers 400.
fn as_github_would(error: ApiError) -> ApiError {
    match error.status {
        StatusCode::BAD_REQUEST => ApiError { status: StatusCode::UNPROCESSABLE_ENTITY, ..error },
        _ => error,
    }
}
