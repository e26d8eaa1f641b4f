//! Dialect `integrations`: the preview of 2016. It finds installations in its list only, which is therefore kept.

mod installation_list;
mod wire;

use std::sync::Arc;

use super::mint;
use crate::clock::Clock;
use crate::github::failure::{Failure, Kind, Origin};
use crate::github::http::answer::Answer;
use crate::github::http::client::{Client, ReadPage};
use crate::github::{AdmissionStatus, Github, InstallationPage, Page, Reply};
use crate::model::{
    App, AppName, Capabilities, ClientId, Dialect, Identity, Installation, InstallationId, KeyInUse, Minted,
    Priority, Scope, Secret, Selector, TokenKey, UserId,
};
use crate::single_flight::{Demand, Requester};
use installation_list::{InstallationListCache, ListRead};
pub(super) use wire::ACCEPT;
use wire::Listed;

/// Speaks it.
pub(super) struct Integrations {
    client: Arc<Client>,
    lists: InstallationListCache,
}

impl Integrations {
    pub(super) fn new(client: Arc<Client>, clock: Arc<dyn Clock>) -> Self {
        Self { client, lists: InstallationListCache::new(clock) }
    }

    /// The installation in the list that `selector` names.
    async fn listed(&self, app: &AppName, selector: &Selector, demand: &Demand) -> Result<Listed, Failure> {
        let named = |list: &[Listed]| list.iter().find(|listed| listed.is(selector)).cloned();
        let found = self.lists.find(app, demand, named, self.read_list(app)).await?;
        found.ok_or_else(|| {
            let message = format!(
                "GitHub lists no such installation for app {app}: check that the app is installed there, with \
                 `ghtokend check`"
            );
            // The list was read before, perhaps for another caller.
            Failure { origin: Origin::Local, ..Failure::new(Kind::NotFound, message) }
        })
    }

    /// Reads the whole list.
    fn read_list(&self, app: &AppName) -> impl FnOnce(Demand) -> ListRead + use<> {
        let (client, app) = (Arc::clone(&self.client), app.clone());
        move |mut demand| {
            Box::pin(async move {
                let (call, first) = (client.calls().list(&app), wire::installations(client.base()));
                let all = (wire::read_installations as ReadPage<Listed>, usize::MAX);
                client.pages(&call, first, &mut demand, all).await
            })
        }
    }

    /// A 404 to a mint may mean that the list is out of date, so it is read anew.
    async fn confirmed(&self, key: &TokenKey, failure: Failure) -> Failure {
        self.lists.forget(&key.app);
        let found = self.listed(&key.app, &Selector::Id(key.installation), &mint::probe()).await;
        mint::confirmed(&self.client, key, failure, found.map(|listed| listed.installation))
    }
}

impl Github for Integrations {
    fn capabilities(&self) -> Capabilities {
        Dialect::Integrations.capabilities()
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

    fn check_supported(&self, selector: &Selector, scope: &Scope, _: Option<UserId>) -> Result<(), Failure> {
        wire::check_supported(selector, scope)
    }

    fn mint<'a>(&'a self, key: &'a TokenKey, mut demand: Demand) -> Reply<'a, Minted> {
        Box::pin(async move {
            // The resolver has checked this already; here it ensures that no wider token is ever minted.
            self.check_supported(&Selector::Id(key.installation), &key.scope, key.user)?;
            let listed = match self.listed(&key.app, &Selector::Id(key.installation), &demand).await {
                // What has had tokens before is not gone for one list that lacks it.
                Err(failure) if failure.kind == Kind::NotFound && demand.requester().is_refresh() => {
                    return Err(self.confirmed(key, failure).await);
                }
                listed => listed?,
            };
            let request = wire::mint(self.client.base(), &listed, key.user)?;
            let read = |answer: &Answer| wire::read_mint(answer, key.user);
            match mint::mint(&self.client, key, &request, &mut demand, read).await {
                Err(failure) if mint::needs_confirmation(&failure) => Err(self.confirmed(key, failure).await),
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
        Box::pin(async move {
            wire::check_supported(selector, &Scope::default())?;
            Ok(self.listed(app, selector, &demand).await?.installation)
        })
    }

    fn installations<'a>(
        &'a self,
        app: &'a AppName,
        enough: usize,
        demand: Demand,
    ) -> Reply<'a, Vec<Installation>> {
        Box::pin(async move {
            let all = |list: &[Listed]| {
                let all: Vec<_> =
                    list.iter().take(enough).map(|listed| listed.installation.clone()).collect();
                (!all.is_empty()).then_some(all)
            };
            Ok(self.lists.find(app, &demand, all, self.read_list(app)).await?.unwrap_or_default())
        })
    }

    /// Nothing here says who we are, but only who is accepted gets a page of the list.
    fn authenticated_app<'a>(&'a self, app: &'a AppName) -> Reply<'a, Option<App>> {
        Box::pin(async move {
            let call = self.client.calls().app(app, Priority::Probe);
            let read = |answer: &Answer, _| wire::read_installations(answer).map(|_| None);
            let request = wire::installations(self.client.base());
            self.client.call(&call, &request, &mut mint::probe(), read).await
        })
    }

    fn describe_app<'a>(&'a self, _: &'a AppName, _: ClientId) -> Reply<'a, App> {
        Box::pin(async { Err(wire::cannot_describe_app()) })
    }

    fn installation_page<'a>(
        &'a self,
        app: &'a AppName,
        page: Page,
        client: ClientId,
    ) -> Reply<'a, InstallationPage> {
        Box::pin(async move {
            let cut = |list: &[Listed]| Some(wire::page(list, page));
            let demand = Demand::of(Requester::caller(client, Priority::New));
            let found = match page.number {
                // The first page is read afresh; the other pages are cut from the same list.
                1 => self.lists.find_refreshed(app, &demand, cut, self.read_list(app)).await?,
                _ => self.lists.find(app, &demand, cut, self.read_list(app)).await?,
            };
            Ok(found.unwrap_or_default())
        })
    }

    fn forget_installations(&self) {
        self.lists.forget_all();
    }

    fn revoke<'a>(
        &'a self,
        _: &'a Secret,
        _: Option<(&'a AppName, InstallationId)>,
        _: ClientId,
    ) -> Reply<'a, ()> {
        Box::pin(async { Err(wire::cannot_revoke()) })
    }

    fn identify<'a>(&'a self, app: &'a AppName, nonce: &'a Secret, client: ClientId) -> Reply<'a, Identity> {
        Box::pin(async move {
            let request = wire::identify(self.client.base(), nonce);
            let (call, mut demand) =
                (self.client.calls().identify(app), Demand::of(Requester::caller(client, Priority::New)));
            let identity = self.client.call_no_retry(&call, &request, &mut demand, wire::read_identity).await;
            identity.map_err(|failure| {
                if failure.origin == Origin::Upstream {
                    tracing::warn!(%app, kind = failure.kind.as_str(), "identity request failed; the nonce may be spent");
                }
                wire::with_spent_nonce(&failure)
            })
        })
    }
}
