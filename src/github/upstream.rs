//! One GitHub, for all configured apps: what is the same in every dialect.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::admission::AdmissionStatus;
use super::auth::key::Key;
use super::dialect::{self, Api};
use super::failure::Failure;
use super::http::client::Client;
use super::http::config::{BuildError, UpstreamConfig};
use super::http::transport::{HttpTransport, Transport};
use super::{Github, InstallationPage, Page, Reply};
use crate::clock::{Clock, GithubClock};
use crate::model::{
    App, AppName, Capabilities, ClientId, Identity, Installation, InstallationId, KeyInUse, Minted, Scope,
    Secret, Selector, TokenKey, UserId,
};
use crate::single_flight::Demand;

/// One GitHub, for all configured apps.
pub struct Upstream {
    client: Arc<Client>,
    capabilities: Capabilities,
    api: Box<dyn Api>,
}

impl Upstream {
    /// The GitHub of `config`, for `apps`, each with its id and its keys, newest first.
    pub fn new(
        config: &UpstreamConfig,
        apps: BTreeMap<AppName, (String, Vec<Key>)>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, BuildError> {
        let transport = Arc::new(HttpTransport::new(config, dialect::headers(config), Arc::clone(&clock))?);
        Ok(Self::over(transport, config, apps, clock))
    }

    /// The same over another transport: for tests that simulate GitHub.
    pub fn over(
        transport: Arc<dyn Transport>,
        config: &UpstreamConfig,
        apps: BTreeMap<AppName, (String, Vec<Key>)>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let client = Arc::new(Client::new(transport, config, apps, Arc::clone(&clock)));
        let api = dialect::api(config.dialect, Arc::clone(&client), clock);
        Self { client, capabilities: config.dialect.capabilities(), api }
    }

    /// GitHub's clock, as it is learnt from every answer.
    pub fn github_clock(&self) -> &GithubClock {
        self.client.github_clock()
    }

    /// Puts `keys`, newest first, in the place of those that `app` has. Whether that changes anything.
    pub fn replace_keys(&self, app: &AppName, keys: Vec<Key>) -> bool {
        self.client.replace_keys(app, keys)
    }

    /// The configuration was read again: what GitHub has refused is asked for anew.
    pub fn forget_refusals(&self) {
        self.client.admission().forget_refusals();
    }
}

impl Github for Upstream {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn keys(&self, app: &AppName) -> Vec<KeyInUse> {
        self.client.keys(app)
    }

    fn check_supported(
        &self,
        selector: &Selector,
        scope: &Scope,
        user: Option<UserId>,
    ) -> Result<(), Failure> {
        self.api.check_supported(selector, scope, user)
    }

    fn mint<'a>(&'a self, key: &'a TokenKey, demand: Demand) -> Reply<'a, Minted> {
        // The resolver has checked this already; here it ensures that no wider token is ever minted.
        match self.api.check_supported(&Selector::Id(key.installation), &key.scope, key.user) {
            Ok(()) => self.api.mint(key, demand),
            Err(failure) => Box::pin(async { Err(failure) }),
        }
    }

    fn look_up<'a>(
        &'a self,
        app: &'a AppName,
        selector: &'a Selector,
        demand: Demand,
    ) -> Reply<'a, Installation> {
        self.api.look_up(app, selector, demand)
    }

    fn installations<'a>(
        &'a self,
        app: &'a AppName,
        enough: usize,
        demand: Demand,
    ) -> Reply<'a, Vec<Installation>> {
        self.api.installations(app, enough, demand)
    }

    fn authenticated_app<'a>(&'a self, app: &'a AppName) -> Reply<'a, Option<App>> {
        self.api.authenticated_app(app)
    }

    fn describe_app<'a>(&'a self, app: &'a AppName, client: ClientId) -> Reply<'a, App> {
        self.api.describe_app(app, client)
    }

    fn installation_page<'a>(
        &'a self,
        app: &'a AppName,
        page: Page,
        client: ClientId,
    ) -> Reply<'a, InstallationPage> {
        self.api.installation_page(app, page, client)
    }

    fn forget_installations(&self) {
        self.api.forget_installations();
    }

    fn forget_refusals(&self) {
        self.client.admission().forget_refusals();
    }

    fn admission(&self) -> AdmissionStatus {
        self.client.status()
    }

    fn revoke<'a>(
        &'a self,
        token: &'a Secret,
        of: Option<(&'a AppName, InstallationId)>,
        client: ClientId,
    ) -> Reply<'a, ()> {
        self.api.revoke(token, of, client)
    }

    fn identify<'a>(&'a self, app: &'a AppName, nonce: &'a Secret, client: ClientId) -> Reply<'a, Identity> {
        self.api.identify(app, nonce, client)
    }
}
