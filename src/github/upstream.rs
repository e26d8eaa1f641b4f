//! One GitHub, in the dialect that it speaks: which calls an answer takes. What is said in them is in [`super::apps`]
//! and [`super::integrations`].

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::answer::Answer;
use super::client::{BuildError, Client, Reach};
use super::failure::{Failure, Kind};
use super::integrations::Listed;
use super::key::Key;
use super::listing::Listing;
use super::request::Request;
use super::transport::{HttpTransport, Transport};
use super::{Github, InstallationPage, Page, Reply, apps, integrations, minted};
use crate::clock::{Clock, GithubClock};
use crate::model::{
    App, AppName, Dialect, Identity, Installation, InstallationToken, KeyInUse, Minted, Scope, Secret,
    Selector, TokenKey, UserId,
};

/// One GitHub, for all configured apps.
pub struct Upstream {
    client: Arc<Client>,
    dialect: Dialect,
    /// Of dialect `integrations`, which has no look-ups.
    listing: Listing,
    clock: Arc<dyn Clock>,
}

impl Upstream {
    /// The GitHub of `reach`, for `apps`, each with its id and its keys, newest first.
    pub fn new(
        reach: &Reach,
        apps: BTreeMap<AppName, (String, Vec<Key>)>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, BuildError> {
        let transport = Arc::new(HttpTransport::new(reach, Arc::clone(&clock))?);
        Ok(Self::over(transport, reach, apps, clock))
    }

    /// The same over another transport: for tests that simulate GitHub.
    pub fn over(
        transport: Arc<dyn Transport>,
        reach: &Reach,
        apps: BTreeMap<AppName, (String, Vec<Key>)>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let client = Arc::new(Client::new(transport, reach, apps, Arc::clone(&clock)));
        Self { client, dialect: reach.dialect, listing: Listing::new(Arc::clone(&clock)), clock }
    }

    /// GitHub's clock, as it is learnt from every answer.
    pub fn github_clock(&self) -> &GithubClock {
        self.client.github_clock()
    }

    /// Puts `keys`, newest first, in the place of those that `app` has. Whether that changes anything.
    pub fn replace_keys(&self, app: &AppName, keys: Vec<Key>) -> bool {
        self.client.replace_keys(app, keys)
    }

    async fn mint(&self, key: &TokenKey) -> Result<Minted, Failure> {
        let selector = Selector::Id(key.installation);
        // Asked before, by whoever resolved the request; here it keeps a wider token from ever being minted.
        self.can_serve(&selector, &key.scope, key.user)?;
        match self.dialect {
            Dialect::Apps => {
                let request = apps::mint(self.client.base(), key.installation, &key.scope);
                self.minted(key, request, |answer| apps::read_mint(answer, &key.scope)).await
            }
            Dialect::Integrations => {
                let listed = self.listed(&key.app, &selector).await?;
                let request = integrations::mint(self.client.base(), &listed, key.user)?;
                let minted =
                    self.minted(key, request, |answer| integrations::read_mint(answer, key.user)).await;
                if minted.as_ref().is_err_and(|failure| failure.kind == Kind::NotFound) {
                    // The list says otherwise: it is out of date.
                    self.listing.forget(&key.app);
                }
                minted
            }
        }
    }

    async fn minted(
        &self,
        key: &TokenKey,
        request: Request,
        read: impl Fn(&Answer) -> Result<(InstallationToken, Timestamp), Failure>,
    ) -> Result<Minted, Failure> {
        let sent = self.clock.boot();
        let answer = self.client.call(&key.app, request).await?;
        let (token, expires) = read(&answer)?;
        let now = answer.date.unwrap_or_else(|| self.client.github_clock().now());
        let lifetime = minted::lifetime(&answer, expires, now)?;
        Ok(Minted { token, sent, landed: self.clock.boot(), lifetime })
    }

    async fn look_up(&self, app: &AppName, selector: &Selector) -> Result<Installation, Failure> {
        match self.dialect {
            Dialect::Apps => {
                let request = apps::look_up(self.client.base(), selector);
                let request =
                    request.ok_or_else(|| Failure::new(Kind::NotFound, "nothing names an installation"))?;
                apps::read_installation(&self.client.call(app, request).await?)
            }
            Dialect::Integrations => {
                integrations::can_serve(selector, &Scope::default())?;
                Ok(self.listed(app, selector).await?.installation)
            }
        }
    }

    async fn installations(&self, app: &AppName, enough: usize) -> Result<Vec<Installation>, Failure> {
        match self.dialect {
            Dialect::Apps => {
                let first = apps::installations(self.client.base(), LONGEST_PAGE);
                self.client.pages(app, first, apps::read_installations, enough).await
            }
            Dialect::Integrations => {
                let all = |list: &[Listed]| {
                    let all: Vec<_> =
                        list.iter().take(enough).map(|listed| listed.installation.clone()).collect();
                    (!all.is_empty()).then_some(all)
                };
                Ok(self.listing.find(app, all, || self.list(app)).await?.unwrap_or_default())
            }
        }
    }

    async fn who_am_i(&self, app: &AppName) -> Result<Option<App>, Failure> {
        match self.dialect {
            Dialect::Apps => self.describe_app(app).await.map(Some),
            // Nothing here says who we are, but only who is accepted gets a page of the list.
            Dialect::Integrations => {
                let answer = self.client.call(app, integrations::installations(self.client.base())).await?;
                integrations::read_installations(&answer).map(|_| None)
            }
        }
    }

    async fn describe_app(&self, app: &AppName) -> Result<App, Failure> {
        match self.dialect {
            Dialect::Apps => apps::read_app(&self.client.call(app, apps::app(self.client.base())).await?),
            Dialect::Integrations => Err(integrations::cannot_describe_app()),
        }
    }

    async fn installation_page(&self, app: &AppName, page: Page) -> Result<InstallationPage, Failure> {
        match self.dialect {
            Dialect::Apps => {
                let request = apps::installations(self.client.base(), page);
                apps::read_page(&self.client.call(app, request).await?, self.client.base())
            }
            Dialect::Integrations => {
                let cut = |list: &[Listed]| Some(integrations::page(list, page));
                let found = match page.number {
                    // Whoever begins to read wants what is so now; the other pages are of the same list.
                    1 => self.listing.find_anew(app, cut, || self.list(app)).await?,
                    _ => self.listing.find(app, cut, || self.list(app)).await?,
                };
                Ok(found.unwrap_or_default())
            }
        }
    }

    async fn revoke(&self, token: &Secret) -> Result<(), Failure> {
        match self.dialect {
            Dialect::Apps => {
                let request = apps::revoke(self.client.base());
                apps::read_revocation(&self.client.call_with(token, request).await?)
            }
            Dialect::Integrations => Err(integrations::cannot_revoke()),
        }
    }

    async fn identify(&self, app: &AppName, nonce: &Secret) -> Result<Identity, Failure> {
        if self.dialect == Dialect::Apps {
            return Err(apps::cannot_identify());
        }
        let request = integrations::identify(self.client.base(), nonce);
        let answer = self.client.call_once(app, request).await;
        if let Err(failure) = &answer {
            // Nothing came that could quote the nonce, and the caller does not hear this.
            tracing::warn!(%app, %failure, "GitHub was not heard");
        }
        let identity = answer.and_then(|answer| integrations::read_identity(&answer));
        identity.map_err(|failure| integrations::with_spent_nonce(&failure))
    }

    /// The installation in the list that `selector` names.
    async fn listed(&self, app: &AppName, selector: &Selector) -> Result<Listed, Failure> {
        let named = |list: &[Listed]| list.iter().find(|listed| listed.is(selector)).cloned();
        let found = self.listing.find(app, named, || self.list(app)).await?;
        found.ok_or_else(|| {
            let message = format!(
                "GitHub lists no such installation for app {app}: check that the app is installed there, with \
                 `ghtokend check`"
            );
            Failure::new(Kind::NotFound, message)
        })
    }

    /// Reads the whole list.
    fn list(&self, app: &AppName) -> impl Future<Output = Result<Vec<Listed>, Failure>> + use<> {
        let (client, app) = (Arc::clone(&self.client), app.clone());
        async move {
            let first = integrations::installations(client.base());
            client.pages(&app, first, integrations::read_installations, usize::MAX).await
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

    fn can_serve(&self, selector: &Selector, scope: &Scope, user: Option<UserId>) -> Result<(), Failure> {
        match self.dialect {
            Dialect::Apps => apps::can_serve(user),
            Dialect::Integrations => integrations::can_serve(selector, scope),
        }
    }

    fn mint<'a>(&'a self, key: &'a TokenKey) -> Reply<'a, Minted> {
        Box::pin(self.mint(key))
    }

    fn look_up<'a>(&'a self, app: &'a AppName, selector: &'a Selector) -> Reply<'a, Installation> {
        Box::pin(self.look_up(app, selector))
    }

    fn installations<'a>(&'a self, app: &'a AppName, enough: usize) -> Reply<'a, Vec<Installation>> {
        Box::pin(self.installations(app, enough))
    }

    fn who_am_i<'a>(&'a self, app: &'a AppName) -> Reply<'a, Option<App>> {
        Box::pin(self.who_am_i(app))
    }

    fn describe_app<'a>(&'a self, app: &'a AppName) -> Reply<'a, App> {
        Box::pin(self.describe_app(app))
    }

    fn installation_page<'a>(&'a self, app: &'a AppName, page: Page) -> Reply<'a, InstallationPage> {
        Box::pin(self.installation_page(app, page))
    }

    fn forget_installations(&self) {
        self.listing.forget_all();
    }

    fn revoke<'a>(&'a self, token: &'a Secret) -> Reply<'a, ()> {
        Box::pin(self.revoke(token))
    }

    fn identify<'a>(&'a self, app: &'a AppName, nonce: &'a Secret) -> Reply<'a, Identity> {
        Box::pin(self.identify(app, nonce))
    }
}

const LONGEST_PAGE: Page = Page { number: 1, size: 100 };
