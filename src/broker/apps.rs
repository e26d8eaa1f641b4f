//! The configured apps, and which of them a request means.

use super::error::Error;
use crate::model::AppName;

/// The configured apps.
pub(super) struct Apps {
    names: Vec<AppName>,
    default: Option<AppName>,
}

impl Apps {
    pub(super) fn new(names: Vec<AppName>, default: Option<AppName>) -> Self {
        Self { names, default }
    }

    pub(super) fn names(&self) -> &[AppName] {
        &self.names
    }

    /// The app that is meant by `name`, or by none.
    pub(super) fn find<'a>(&'a self, name: Option<&'a AppName>) -> Result<&'a AppName, Error> {
        let configured = || self.names.iter().map(AppName::as_str).collect::<Vec<_>>().join(", ");
        match name {
            Some(name) if self.names.contains(name) => Ok(name),
            Some(name) => {
                Err(Error::UnknownApp(format!("no app {name} is configured: there are {}", configured())))
            }
            None => self.default.as_ref().ok_or_else(|| {
                let apps = configured();
                Error::AppNeeded(format!(
                    "several apps are configured ({apps}): choose one with the header Ghtokend-App, or with app=NAME \
                     on /token"
                ))
            }),
        }
    }
}
