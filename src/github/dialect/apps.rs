//! Dialect `apps`: today's GitHub Apps REST API.

mod wire;

use std::sync::Arc;
use std::time::Duration;

use super::mint;
use crate::clock::Clock;
use crate::github::failure::{Failure, Kind};
use crate::github::http::answer::Answer;
use crate::github::http::client::Client;
use crate::github::http::read_cache::ReadCache;
use crate::github::{AdmissionStatus, Github, InstallationPage, Page, Reply};
use crate::model::{
    App, AppName, Capabilities, ClientId, Dialect, Identity, Installation, InstallationId, KeyInUse, Minted,
    Priority, Scope, Secret, Selector, TokenKey, UserId,
};
use crate::single_flight::{Demand, Requester};
pub(super) use wire::ACCEPT;

/// Speaks it. What changes seldom is kept for a moment.
pub(super) struct Apps {
    client: Arc<Client>,
    described: ReadCache<AppName, App>,
    pages: ReadCache<(AppName, Page), InstallationPage>,
}

impl Apps {
    pub(super) fn new(client: Arc<Client>, clock: Arc<dyn Clock>) -> Self {
        Self {
            client,
            described: ReadCache::new(APP_TTL, |app: &App| app.json.len(), Arc::clone(&clock)),
            pages: ReadCache::new(PAGE_TTL, weight_of_page, clock),
        }
    }

    async fn find(
        &self,
        app: &AppName,
        selector: &Selector,
        mut demand: Demand,
    ) -> Result<Installation, Failure> {
        let request = wire::look_up(self.client.base(), selector);
        let request = request.ok_or_else(|| Failure::new(Kind::NotFound, "nothing names an installation"))?;
        let call = self.client.calls().look_up(app, selector, demand.requester().priority);
        let read = |answer: &Answer, _| wire::read_installation(answer).map_err(not_installed);
        let found = self.client.call(&call, &request, &mut demand, read).await?;
        self.client.admission().installation_exists(self.client.calls().installation(app, found.id));
        Ok(found)
    }
}

impl Github for Apps {
    fn capabilities(&self) -> Capabilities {
        Dialect::Apps.capabilities()
    }

    fn keys(&self, app: &AppName) -> Vec<KeyInUse> {
        self.client.keys(app)
    }

    fn forget_refusals(&self) {
        self.client.admission().forget_refusals();
    }

    fn admission(&self) -> AdmissionStatus {
        self.client.status()
    }

    fn check_supported(&self, _: &Selector, _: &Scope, user: Option<UserId>) -> Result<(), Failure> {
        wire::check_supported(user)
    }

    fn mint<'a>(&'a self, key: &'a TokenKey, mut demand: Demand) -> Reply<'a, Minted> {
        Box::pin(async move {
            // The resolver has checked this already; here it ensures that no wider token is ever minted.
            self.check_supported(&Selector::Id(key.installation), &key.scope, key.user)?;
            let request = wire::mint(self.client.base(), key.installation, &key.scope);
            let read = |answer: &Answer| wire::read_mint(answer, &key.scope);
            match mint::mint(&self.client, key, &request, &mut demand, read).await {
                Err(failure) if mint::needs_confirmation(&failure) => {
                    let selector = Selector::Id(key.installation);
                    let found = self.find(&key.app, &selector, mint::probe()).await;
                    Err(mint::confirmed(&self.client, key, failure, found))
                }
                minted => minted,
            }
        })
    }

    fn look_up<'a>(
        &'a self,
        app: &'a AppName,
        selector: &'a Selector,
        demand: Demand,
    ) -> Reply<'a, Installation> {
        Box::pin(self.find(app, selector, demand))
    }

    fn installations<'a>(
        &'a self,
        app: &'a AppName,
        enough: usize,
        mut demand: Demand,
    ) -> Reply<'a, Vec<Installation>> {
        Box::pin(async move {
            let first = wire::installations(self.client.base(), MAX_PAGE);
            let call = self.client.calls().list(app);
            self.client.pages(&call, first, &mut demand, (wire::read_installations, enough)).await
        })
    }

    fn authenticated_app<'a>(&'a self, app: &'a AppName) -> Reply<'a, Option<App>> {
        Box::pin(async move {
            let call = self.client.calls().app(app, Priority::Probe);
            let read = |answer: &Answer, _| wire::read_app(answer).map(Some);
            let request = wire::app(self.client.base());
            self.client.call(&call, &request, &mut mint::probe(), read).await
        })
    }

    fn describe_app<'a>(&'a self, app: &'a AppName, client: ClientId) -> Reply<'a, App> {
        let (http, name) = (Arc::clone(&self.client), app.clone());
        let read = |mut demand: Demand| async move {
            let call = http.calls().app(&name, Priority::New);
            let read = |answer: &Answer, _| wire::read_app(answer);
            http.call(&call, &wire::app(http.base()), &mut demand, read).await
        };
        Box::pin(self.described.get(app, client, read))
    }

    fn installation_page<'a>(
        &'a self,
        app: &'a AppName,
        page: Page,
        client: ClientId,
    ) -> Reply<'a, InstallationPage> {
        let (http, name) = (Arc::clone(&self.client), app.clone());
        let read = move |mut demand: Demand| async move {
            let call = http.calls().list(&name);
            let request = wire::installations(http.base(), page);
            let read = |answer: &Answer, _| wire::read_page(answer, http.base());
            http.call(&call, &request, &mut demand, read).await
        };
        Box::pin(async move { self.pages.get(&(app.clone(), page), client, read).await })
    }

    fn forget_installations(&self) {
        self.pages.clear();
    }

    fn revoke<'a>(
        &'a self,
        token: &'a Secret,
        of: Option<(&'a AppName, InstallationId)>,
        client: ClientId,
    ) -> Reply<'a, ()> {
        Box::pin(async move {
            let (call, request) = (self.client.calls().revoke(of), wire::revoke(self.client.base()));
            let mut demand = Demand::of(Requester::caller(client, Priority::New));
            self.client.call_with(token, (&call, &request), &mut demand, wire::read_revocation).await
        })
    }

    fn identify<'a>(&'a self, _: &'a AppName, _: &'a Secret, _: ClientId) -> Reply<'a, Identity> {
        Box::pin(async { Err(wire::cannot_identify()) })
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
