//! Domain types: installation, scope, token. No I/O, no wire shapes.

pub mod client;
pub mod dialect;
pub mod error_code;
pub mod grant;
pub mod id;
pub mod installation;
pub mod key;
pub mod scope;
pub mod secret;
pub mod token;
pub mod token_parameters;
pub mod user;
pub mod webhook_event;

pub use client::{ClientId, Priority};
pub use dialect::{Capabilities, Dialect};
pub use error_code::ErrorCode;
pub use grant::Grant;
pub use id::{AppName, InstallationId, Login, RepositoryId, RepositoryName, UserId};
pub use installation::{App, Installation, Selector};
pub use key::{KeyInUse, KeyStatus};
pub use scope::{Level, Permission, Scope};
pub use secret::{Secret, SecretBytes, cut_before_redaction, redact};
pub use token::{InstallationToken, Minted, TokenKey};
pub use token_parameters::{ParameterError, TokenParameters};
pub use user::{Identity, User};
pub use webhook_event::WebhookEvent;
