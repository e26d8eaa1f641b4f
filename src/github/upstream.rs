//! One GitHub, for all configured apps: the client that all its dialects share, and the dialect it speaks.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Github;
use super::auth::key::Key;
use super::dialect;
use super::http::client::Client;
use super::http::config::{BuildError, UpstreamConfig};
use super::http::transport::{HttpTransport, Transport};
use crate::clock::{Clock, GithubClock};
use crate::model::AppName;

/// One GitHub, for all configured apps.
pub struct Upstream {
    client: Arc<Client>,
    github: Arc<dyn Github>,
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
        let github = dialect::github(config.dialect, Arc::clone(&client), clock);
        Self { client, github }
    }

    /// What can be asked of it, in its dialect.
    pub fn github(&self) -> &Arc<dyn Github> {
        &self.github
    }

    /// GitHub's clock, as it is learnt from every answer.
    pub fn github_clock(&self) -> &GithubClock {
        self.client.github_clock()
    }

    /// Puts `keys`, newest first, in the place of those that `app` has. Whether that changes anything.
    pub fn replace_keys(&self, app: &AppName, keys: Vec<Key>) -> bool {
        self.client.replace_keys(app, keys)
    }
}
