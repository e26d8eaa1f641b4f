//! A GitHub that is none, in the place of the one that talks HTTP: for what no server can do.

use std::sync::Arc;

use ghtokend::github::{AdmissionStatus, Demand, Failure, Github, InstallationPage, Page, Reply};
use ghtokend::model::{
    App, AppName, Capabilities, ClientId, Dialect, Identity, Installation, InstallationId, KeyInUse, Minted,
    Scope, Secret, Selector, TokenKey, UserId,
};

/// What a test has it do. All else it takes, and never answers.
pub trait Answers: Send + Sync + 'static {
    fn mint<'a>(&'a self, _: &'a TokenKey) -> Reply<'a, Minted> {
        Box::pin(std::future::pending())
    }

    fn look_up<'a>(&'a self, _: &'a Selector) -> Reply<'a, Installation> {
        Box::pin(std::future::pending())
    }
}

/// A GitHub that does what `T` does.
pub struct Stub<T>(pub Arc<T>);

impl<T: Answers> Github for Stub<T> {
    fn capabilities(&self) -> Capabilities {
        Dialect::Apps.capabilities()
    }

    fn keys(&self, _: &AppName) -> Vec<KeyInUse> {
        Vec::new()
    }

    fn check_supported(&self, _: &Selector, _: &Scope, _: Option<UserId>) -> Result<(), Failure> {
        Ok(())
    }

    fn mint<'a>(&'a self, key: &'a TokenKey, _: Demand) -> Reply<'a, Minted> {
        self.0.mint(key)
    }

    fn look_up<'a>(&'a self, _: &'a AppName, selector: &'a Selector, _: Demand) -> Reply<'a, Installation> {
        self.0.look_up(selector)
    }

    fn installations<'a>(&'a self, _: &'a AppName, _: usize, _: Demand) -> Reply<'a, Vec<Installation>> {
        Box::pin(std::future::pending())
    }

    fn authenticated_app<'a>(&'a self, _: &'a AppName) -> Reply<'a, Option<App>> {
        Box::pin(std::future::pending())
    }

    fn describe_app<'a>(&'a self, _: &'a AppName, _: ClientId) -> Reply<'a, App> {
        Box::pin(std::future::pending())
    }

    fn installation_page<'a>(&'a self, _: &'a AppName, _: Page, _: ClientId) -> Reply<'a, InstallationPage> {
        Box::pin(std::future::pending())
    }

    fn forget_installations(&self) {}

    fn forget_refusals(&self) {}

    fn admission(&self) -> AdmissionStatus {
        AdmissionStatus::default()
    }

    fn revoke<'a>(
        &'a self,
        _: &'a Secret,
        _: Option<(&'a AppName, InstallationId)>,
        _: ClientId,
    ) -> Reply<'a, ()> {
        Box::pin(std::future::pending())
    }

    fn identify<'a>(&'a self, _: &'a AppName, _: &'a Secret, _: ClientId) -> Reply<'a, Identity> {
        Box::pin(std::future::pending())
    }
}
