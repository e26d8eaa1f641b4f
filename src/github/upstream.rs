//! One GitHub, in the dialect that it speaks: which calls an answer takes. What is said in them is in [`super::apps`]
//! and [`super::integrations`].

use std::collections::BTreeMap;
use std::sync::Arc;

use std::time::Duration;

use jiff::Timestamp;

use super::answer::Answer;
use super::client::{BuildError, Client, ReadPage, UpstreamConfig};
use super::failure::{Failure, Kind, Origin};
use super::installation_list::{InstallationListCache, ListRead};
use super::integrations::Listed;
use super::key::Key;
use super::read_cache::ReadCache;
use super::request::Request;
use super::transport::{HttpTransport, Transport};
use super::{
    AdmissionStatus, Demand, Github, InstallationPage, Page, Reply, Requester, apps, integrations,
    token_response,
};
use crate::clock::{Clock, GithubClock};
use crate::model::{
    App, AppName, ClientId, Dialect, Identity, Installation, InstallationId, InstallationToken, KeyInUse,
    Minted, Priority, Scope, Secret, Selector, TokenKey, UserId,
};

/// One GitHub, for all configured apps.
pub struct Upstream {
    client: Arc<Client>,
    dialect: Dialect,
    /// Of dialect `integrations`, which has no look-ups.
    listing: InstallationListCache,
    described: ReadCache<AppName, App>,
    pages: ReadCache<(AppName, Page), InstallationPage>,
    clock: Arc<dyn Clock>,
}

impl Upstream {
    /// The GitHub of `reach`, for `apps`, each with its id and its keys, newest first.
    pub fn new(
        reach: &UpstreamConfig,
        apps: BTreeMap<AppName, (String, Vec<Key>)>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, BuildError> {
        let transport = Arc::new(HttpTransport::new(reach, Arc::clone(&clock))?);
        Ok(Self::over(transport, reach, apps, clock))
    }

    /// The same over another transport: for tests that simulate GitHub.
    pub fn over(
        transport: Arc<dyn Transport>,
        reach: &UpstreamConfig,
        apps: BTreeMap<AppName, (String, Vec<Key>)>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let client = Arc::new(Client::new(transport, reach, apps, Arc::clone(&clock)));
        Self {
            client,
            dialect: reach.dialect,
            listing: InstallationListCache::new(Arc::clone(&clock)),
            described: ReadCache::new(APP_TTL, |app: &App| app.json.len(), Arc::clone(&clock)),
            pages: ReadCache::new(PAGE_TTL, weight_of_page, Arc::clone(&clock)),
            clock,
        }
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

    async fn mint(&self, key: &TokenKey, mut demand: Demand) -> Result<Minted, Failure> {
        let selector = Selector::Id(key.installation);
        // Asked before, by whoever resolved the request; here it keeps a wider token from ever being minted.
        self.check_supported(&selector, &key.scope, key.user)?;
        let minted = match self.dialect {
            Dialect::Apps => {
                let request = apps::mint(self.client.base(), key.installation, &key.scope);
                self.minted(key, &request, &mut demand, |answer| apps::read_mint(answer, &key.scope)).await
            }
            Dialect::Integrations => {
                let listed = match self.listed(&key.app, &selector, &demand).await {
                    // What has had tokens before is not gone for one list that lacks it.
                    Err(failure) if failure.kind == Kind::NotFound && demand.requester().is_refresh() => {
                        return Err(self.confirmed(key, failure).await);
                    }
                    listed => listed?,
                };
                let request = integrations::mint(self.client.base(), &listed, key.user)?;
                self.minted(key, &request, &mut demand, |answer| integrations::read_mint(answer, key.user))
                    .await
            }
        };
        match minted {
            Err(failure) if failure.kind == Kind::NotFound && failure.origin == Origin::Upstream => {
                Err(self.confirmed(key, failure).await)
            }
            minted => minted,
        }
    }

    /// A 404 to a mint, as [`Kind::Gone`] if GitHub confirms that there is no such installation: its replicas lag, and one
    /// 404 must not drop the tokens of an installation that is there.
    async fn confirmed(&self, key: &TokenKey, failure: Failure) -> Failure {
        // The list says otherwise: it is out of date.
        self.listing.forget(&key.app);
        let demand = Demand::of(Requester::background(Priority::Probe, None));
        let found = self.look_up(&key.app, &Selector::Id(key.installation), demand).await;
        if found.is_err_and(|failure| failure.kind == Kind::NotFound) {
            // The wait of the question is not that of the installation.
            let gone = Failure { kind: Kind::Gone, retry_after: None, origin: Origin::Upstream, ..failure };
            return self.client.remember(&self.client.calls().mint(key), gone);
        }
        failure
    }

    async fn minted(
        &self,
        key: &TokenKey,
        request: &Request,
        demand: &mut Demand,
        read: impl Fn(&Answer) -> Result<(InstallationToken, Timestamp), Failure>,
    ) -> Result<Minted, Failure> {
        let read = |answer: &Answer, sent| {
            let (token, expires) = read(answer)?;
            let now = answer.date.unwrap_or_else(|| self.client.github_clock().now());
            let lifetime = token_response::token_lifetime(answer, expires, now)?;
            Ok(Minted { token, sent, landed: self.clock.boot(), lifetime })
        };
        self.client.call(&self.client.calls().mint(key), request, demand, read).await
    }

    async fn look_up(
        &self,
        app: &AppName,
        selector: &Selector,
        mut demand: Demand,
    ) -> Result<Installation, Failure> {
        match self.dialect {
            Dialect::Apps => {
                let request = apps::look_up(self.client.base(), selector);
                let request =
                    request.ok_or_else(|| Failure::new(Kind::NotFound, "nothing names an installation"))?;
                let call = self.client.calls().look_up(app, selector, demand.requester().priority);
                let read = |answer: &Answer, _| apps::read_installation(answer).map_err(not_installed);
                let found = self.client.call(&call, &request, &mut demand, read).await?;
                self.client.admission().installation_exists(self.client.calls().installation(app, found.id));
                Ok(found)
            }
            Dialect::Integrations => {
                integrations::check_supported(selector, &Scope::default())?;
                Ok(self.listed(app, selector, &demand).await?.installation)
            }
        }
    }

    async fn installations(
        &self,
        app: &AppName,
        enough: usize,
        mut demand: Demand,
    ) -> Result<Vec<Installation>, Failure> {
        match self.dialect {
            Dialect::Apps => {
                let first = apps::installations(self.client.base(), MAX_PAGE);
                let call = self.client.calls().list(app);
                self.client.pages(&call, first, &mut demand, (apps::read_installations, enough)).await
            }
            Dialect::Integrations => {
                let all = |list: &[Listed]| {
                    let all: Vec<_> =
                        list.iter().take(enough).map(|listed| listed.installation.clone()).collect();
                    (!all.is_empty()).then_some(all)
                };
                Ok(self.listing.find(app, &demand, all, self.list(app)).await?.unwrap_or_default())
            }
        }
    }

    async fn authenticated_app(&self, app: &AppName) -> Result<Option<App>, Failure> {
        let mut demand = Demand::of(Requester::background(Priority::Probe, None));
        let call = self.client.calls().app(app, Priority::Probe);
        match self.dialect {
            Dialect::Apps => {
                let request = apps::app(self.client.base());
                let read = |answer: &Answer, _| apps::read_app(answer).map(Some);
                self.client.call(&call, &request, &mut demand, read).await
            }
            // Nothing here says who we are, but only who is accepted gets a page of the list.
            Dialect::Integrations => {
                let request = integrations::installations(self.client.base());
                let read = |answer: &Answer, _| integrations::read_installations(answer).map(|_| None);
                self.client.call(&call, &request, &mut demand, read).await
            }
        }
    }

    async fn describe_app(&self, app: &AppName, client: ClientId) -> Result<App, Failure> {
        if self.dialect == Dialect::Integrations {
            return Err(integrations::cannot_describe_app());
        }
        let (http, name) = (Arc::clone(&self.client), app.clone());
        let read = |mut demand: Demand| async move {
            let call = http.calls().app(&name, Priority::New);
            let read = |answer: &Answer, _| apps::read_app(answer);
            http.call(&call, &apps::app(http.base()), &mut demand, read).await
        };
        self.described.get(app, client, read).await
    }

    async fn installation_page(
        &self,
        app: &AppName,
        page: Page,
        client: ClientId,
    ) -> Result<InstallationPage, Failure> {
        match self.dialect {
            Dialect::Apps => {
                let (http, name) = (Arc::clone(&self.client), app.clone());
                let read = |mut demand: Demand| async move {
                    let call = http.calls().list(&name);
                    let request = apps::installations(http.base(), page);
                    let read = |answer: &Answer, _| apps::read_page(answer, http.base());
                    http.call(&call, &request, &mut demand, read).await
                };
                self.pages.get(&(app.clone(), page), client, read).await
            }
            Dialect::Integrations => {
                let cut = |list: &[Listed]| Some(integrations::page(list, page));
                let demand = Demand::of(Requester::caller(client, Priority::New));
                let found = match page.number {
                    // Whoever begins to read wants what is so now; the other pages are of the same list.
                    1 => self.listing.find_refreshed(app, &demand, cut, self.list(app)).await?,
                    _ => self.listing.find(app, &demand, cut, self.list(app)).await?,
                };
                Ok(found.unwrap_or_default())
            }
        }
    }

    async fn revoke(
        &self,
        token: &Secret,
        of: Option<(&AppName, InstallationId)>,
        client: ClientId,
    ) -> Result<(), Failure> {
        match self.dialect {
            Dialect::Apps => {
                let (call, request) = (self.client.calls().revoke(of), apps::revoke(self.client.base()));
                let mut demand = Demand::of(Requester::caller(client, Priority::New));
                self.client.call_with(token, (&call, &request), &mut demand, apps::read_revocation).await
            }
            Dialect::Integrations => Err(integrations::cannot_revoke()),
        }
    }

    async fn identify(&self, app: &AppName, nonce: &Secret, client: ClientId) -> Result<Identity, Failure> {
        if self.dialect == Dialect::Apps {
            return Err(apps::cannot_identify());
        }
        let request = integrations::identify(self.client.base(), nonce);
        let (call, mut demand) =
            (self.client.calls().identify(app), Demand::of(Requester::caller(client, Priority::New)));
        let identity =
            self.client.call_no_retry(&call, &request, &mut demand, integrations::read_identity).await;
        identity.map_err(|failure| {
            if failure.origin == Origin::Upstream {
                tracing::warn!(%app, kind = failure.kind.as_str(), "identity request failed; the nonce may be spent");
            }
            integrations::with_spent_nonce(&failure)
        })
    }

    /// The installation in the list that `selector` names.
    async fn listed(&self, app: &AppName, selector: &Selector, demand: &Demand) -> Result<Listed, Failure> {
        let named = |list: &[Listed]| list.iter().find(|listed| listed.is(selector)).cloned();
        let found = self.listing.find(app, demand, named, self.list(app)).await?;
        found.ok_or_else(|| {
            let message = format!(
                "GitHub lists no such installation for app {app}: check that the app is installed there, with \
                 `ghtokend check`"
            );
            // The list was read before, for whomever.
            Failure { origin: Origin::Local, ..Failure::new(Kind::NotFound, message) }
        })
    }

    /// Reads the whole list.
    fn list(&self, app: &AppName) -> impl FnOnce(Demand) -> ListRead + use<> {
        let (client, app) = (Arc::clone(&self.client), app.clone());
        move |mut demand| {
            Box::pin(async move {
                let (call, first) = (client.calls().list(&app), integrations::installations(client.base()));
                let all = (integrations::read_installations as ReadPage<Listed>, usize::MAX);
                client.pages(&call, first, &mut demand, all).await
            })
        }
    }
}

impl Github for Upstream {
    fn dialect(&self) -> Dialect {
        self.dialect
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
        match self.dialect {
            Dialect::Apps => apps::check_supported(user),
            Dialect::Integrations => integrations::check_supported(selector, scope),
        }
    }

    fn mint<'a>(&'a self, key: &'a TokenKey, demand: Demand) -> Reply<'a, Minted> {
        Box::pin(self.mint(key, demand))
    }

    fn look_up<'a>(
        &'a self,
        app: &'a AppName,
        selector: &'a Selector,
        demand: Demand,
    ) -> Reply<'a, Installation> {
        Box::pin(self.look_up(app, selector, demand))
    }

    fn installations<'a>(
        &'a self,
        app: &'a AppName,
        enough: usize,
        demand: Demand,
    ) -> Reply<'a, Vec<Installation>> {
        Box::pin(self.installations(app, enough, demand))
    }

    fn authenticated_app<'a>(&'a self, app: &'a AppName) -> Reply<'a, Option<App>> {
        Box::pin(self.authenticated_app(app))
    }

    fn describe_app<'a>(&'a self, app: &'a AppName, client: ClientId) -> Reply<'a, App> {
        Box::pin(self.describe_app(app, client))
    }

    fn installation_page<'a>(
        &'a self,
        app: &'a AppName,
        page: Page,
        client: ClientId,
    ) -> Reply<'a, InstallationPage> {
        Box::pin(self.installation_page(app, page, client))
    }

    fn forget_installations(&self) {
        self.listing.forget_all();
        self.pages.clear();
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
        Box::pin(self.revoke(token, of, client))
    }

    fn identify<'a>(&'a self, app: &'a AppName, nonce: &'a Secret, client: ClientId) -> Reply<'a, Identity> {
        Box::pin(self.identify(app, nonce, client))
    }
}

fn weight_of_page(page: &InstallationPage) -> usize {
    let overhead = size_of::<Installation>() + PERMISSIONS_OVERHEAD;
    page.installations.iter().map(|installation| installation.json.len() + overhead).sum()
}

/// The app may be installed there at any time, and no answer tells when.
fn not_installed(failure: Failure) -> Failure {
    match failure.kind {
        Kind::NotFound => Failure { retry_after: Some(NOT_INSTALLED_TTL), ..failure },
        _ => failure,
    }
}

const NOT_INSTALLED_TTL: Duration = Duration::from_secs(30);
/// A map of some ten permissions.
const PERMISSIONS_OVERHEAD: usize = 1024;
const MAX_PAGE: Page = Page { number: 1, size: 100 };
/// How an app is described changes when its owner edits it.
const APP_TTL: Duration = Duration::from_secs(60);
const PAGE_TTL: Duration = Duration::from_secs(5);
