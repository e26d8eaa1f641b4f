//! What keeps a daemon from being built.

use crate::github::key::KeyError;
use crate::github::{BuildError, webhook};
use crate::settings;

/// Why no daemon could be built. All of it is the configuration's fault.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The settings contradict each other or name no app.
    #[error(transparent)]
    Settings(#[from] settings::Error),
    /// A private key cannot be used.
    #[error("private key {0}")]
    Key(#[from] KeyError),
    /// The client for GitHub cannot be built.
    #[error(transparent)]
    Client(#[from] BuildError),
    /// The file of the webhook secret holds none.
    #[error(transparent)]
    Webhook(#[from] webhook::SecretsError),
    /// A read hangs.
    #[error("not all of its files could be read within 10 s: a volume does not answer")]
    Hangs,
}
