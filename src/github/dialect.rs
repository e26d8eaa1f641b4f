//! The dialects of GitHub's API. Each is a folder: which calls a question takes, and in `wire` what is said in them.
//! What a dialect can do, those who do not speak it learn from [`crate::model::Capabilities`].

mod apps;
mod integrations;
mod mint;
mod token_response;

use std::sync::Arc;

use super::Github;
use super::http::client::Client;
use super::http::config::UpstreamConfig;
use super::http::transport::CommonHeaders;
use crate::clock::Clock;
use crate::model::Dialect;

/// GitHub, as `dialect` speaks to it over `client`.
pub(super) fn github(dialect: Dialect, client: Arc<Client>, clock: Arc<dyn Clock>) -> Arc<dyn Github> {
    match dialect {
        Dialect::Apps => Arc::new(apps::Apps::new(client, clock)),
        Dialect::Integrations => Arc::new(integrations::Integrations::new(client, clock)),
    }
}

/// What every request in the dialect of `config` carries.
pub(super) fn headers(config: &UpstreamConfig) -> CommonHeaders<'_> {
    match config.dialect {
        Dialect::Apps => CommonHeaders { accept: apps::ACCEPT, api_version: config.api_version.as_deref() },
        Dialect::Integrations => CommonHeaders { accept: integrations::ACCEPT, api_version: None },
    }
}
