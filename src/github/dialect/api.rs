//! What a dialect answers for.

use crate::github::failure::Failure;
use crate::github::{InstallationPage, Page, Reply};
use crate::model::{
    App, AppName, ClientId, Identity, Installation, InstallationId, Minted, Scope, Secret, Selector,
    TokenKey, UserId,
};
use crate::single_flight::Demand;

/// One dialect, spoken to one GitHub. The methods are those of [`crate::github::Github`].
pub(in crate::github) trait Api: Send + Sync {
    fn check_supported(
        &self,
        selector: &Selector,
        scope: &Scope,
        user: Option<UserId>,
    ) -> Result<(), Failure>;

    fn mint<'a>(&'a self, key: &'a TokenKey, demand: Demand) -> Reply<'a, Minted>;

    fn look_up<'a>(
        &'a self,
        app: &'a AppName,
        selector: &'a Selector,
        demand: Demand,
    ) -> Reply<'a, Installation>;

    fn installations<'a>(
        &'a self,
        app: &'a AppName,
        enough: usize,
        demand: Demand,
    ) -> Reply<'a, Vec<Installation>>;

    fn authenticated_app<'a>(&'a self, app: &'a AppName) -> Reply<'a, Option<App>>;

    fn describe_app<'a>(&'a self, app: &'a AppName, client: ClientId) -> Reply<'a, App>;

    fn installation_page<'a>(
        &'a self,
        app: &'a AppName,
        page: Page,
        client: ClientId,
    ) -> Reply<'a, InstallationPage>;

    fn forget_installations(&self);

    fn revoke<'a>(
        &'a self,
        token: &'a Secret,
        of: Option<(&'a AppName, InstallationId)>,
        client: ClientId,
    ) -> Reply<'a, ()>;

    fn identify<'a>(&'a self, app: &'a AppName, nonce: &'a Secret, client: ClientId) -> Reply<'a, Identity>;
}
