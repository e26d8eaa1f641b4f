//! Why a command failed, and the exit code of that.

use crate::client;

/// A command that failed: the error message, and the exit code as in sysexits.h.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) code: u8,
    pub(super) message: String,
}

impl Failure {
    /// Something that is wrong with the configuration.
    pub(super) fn configuration(error: impl std::fmt::Display) -> Self {
        Self { code: EX_CONFIG, message: error.to_string() }
    }

    /// No daemon responds.
    pub(super) fn unreachable(error: client::Error) -> Self {
        Self { code: EX_UNAVAILABLE, message: error.to_string() }
    }

    /// The daemon responded with an error.
    pub(super) fn error_response(response: &client::Response) -> Self {
        Self { code: EX_FAILURE, message: response.error() }
    }

    /// The command line itself is wrong.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self { code: EX_USAGE_CLAP, message: message.into() }
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { code: EX_FAILURE, message: in_full(&error.into()) }
    }
}

/// An error with its causes, as far as it does not name them itself.
fn in_full(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |text, cause| match text.contains(&cause) {
        true => text,
        false if text.is_empty() => cause,
        false => format!("{text}: {cause}"),
    })
}

pub(super) const EX_FAILURE: u8 = 1;
const EX_USAGE_CLAP: u8 = 2;
#[cfg(feature = "fake-github")]
pub(super) const EX_DATAERR: u8 = 65;
const EX_UNAVAILABLE: u8 = 69;
const EX_CONFIG: u8 = 78;
