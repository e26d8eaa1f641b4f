//! The dialects of GitHub's API. Each is a folder: which calls a question takes, and in `wire` what is said in them.
//! What a dialect can do, those who do not speak it learn from [`crate::model::Capabilities`].

mod api;
mod apps;
mod integrations;
mod mint;
mod token_response;

use std::sync::Arc;

use super::http::client::Client;
use super::http::config::UpstreamConfig;
use super::http::transport::CommonHeaders;
use crate::clock::Clock;
use crate::model::Dialect;
pub(super) use api::Api;

/// The API of `dialect`, spoken over `client`.
pub(super) fn api(dialect: Dialect, client: Arc<Client>, clock: Arc<dyn Clock>) -> Box<dyn Api> {
    match dialect {
        Dialect::Apps => Box::new(apps::Apps::new(client, clock)),
        Dialect::Integrations => Box::new(integrations::Integrations::new(client, clock)),
    }
}

/// What every request in the dialect of `config` carries.
pub(super) fn headers(config: &UpstreamConfig) -> CommonHeaders<'_> {
    match config.dialect {
        Dialect::Apps => CommonHeaders { accept: apps::ACCEPT, api_version: config.api_version.as_deref() },
        Dialect::Integrations => CommonHeaders { accept: integrations::ACCEPT, api_version: None },
    }
}
