//! The options of the preview of 2016.

use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::fake_github::world::product::by_name;

/// The options of the "Integrations" preview of 2016. Its page leaves most of them open.
#[derive(Debug, Clone)]
pub struct Preview {
    /// Which of its two recorded forms. Default [`Flavour::Y2016`].
    pub flavour: Flavour,
    /// Whether its routes are gone, as on GitHub since 2020-10-01. Today's routes accept its media type all the same.
    /// Default false: clients of today's API do not notice it.
    pub retired: bool,
    /// How long a nonce is valid, by GitHub's clock. Default 10 minutes.
    pub nonce_lifetime: Duration,
    /// The status of a successful identity call, which the page leaves blank. Default 200.
    pub identity_status: u16,
    /// The response to a nonce that is unknown, used, expired or another app's. Default 404 `Not Found`.
    pub dead_nonce: ErrorResponse,
    /// The response to an identity call without a nonce, or with one that is not text. Default 422
    /// `Validation Failed`.
    pub missing_nonce: ErrorResponse,
    /// The response to an unknown `user_id`, or one that is not a member's. Default 422 `Validation Failed`.
    pub unknown_user: ErrorResponse,
    /// What the 415 without the media type calls the preview. Default `Integrations`.
    pub name: String,
}

/// The form of the preview, which changed within its first half year.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Flavour {
    /// As on its page in November 2016: `on_behalf_of` is always there, accounts of organisations are short.
    #[default]
    #[serde(rename = "2016")]
    Y2016,
    /// As recorded in March 2017: no `on_behalf_of` without a user, `html_url`, accounts of all kinds alike.
    #[serde(rename = "2017")]
    Y2017,
}

/// An error response. With the status 422 it also names the field, as GitHub's do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorResponse {
    /// The status, from 400 to 599.
    pub status: u16,
    /// The `message`.
    pub message: String,
}

impl Default for Preview {
    fn default() -> Self {
        Self {
            flavour: Flavour::default(),
            retired: false,
            nonce_lifetime: Duration::from_secs(600),
            identity_status: 200,
            dead_nonce: ErrorResponse { status: 404, message: "Not Found".into() },
            missing_nonce: ErrorResponse::validation_failed(),
            unknown_user: ErrorResponse::validation_failed(),
            name: "Integrations".into(),
        }
    }
}

impl Preview {
    /// What is invalid.
    pub(crate) fn check(&self) -> Result<(), String> {
        if !(200..=299).contains(&self.identity_status) {
            return Err("`identity_status` must be from 200 to 299".into());
        }
        for (name, refusal) in [
            ("dead_nonce", &self.dead_nonce),
            ("missing_nonce", &self.missing_nonce),
            ("unknown_user", &self.unknown_user),
        ] {
            if !(400..=599).contains(&refusal.status) {
                return Err(format!("the status of `{name}` must be from 400 to 599"));
            }
        }
        Ok(())
    }
}

impl ErrorResponse {
    /// 422 `Validation Failed`, GitHub's response to an invalid value.
    pub fn validation_failed() -> Self {
        Self { status: 422, message: "Validation Failed".into() }
    }
}

impl FromStr for Flavour {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        by_name(text)
    }
}
