//! Values as TOML, for the effective configuration.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use jiff::SignedDuration;
use tracing::Level;
use url::Url;

use super::types::{ByteSize, LogFormat, Proxy, UnixMode};
use crate::model::{Dialect, RepositoryId, RepositoryName};

/// A value that can be written to a file.
pub(super) trait Toml {
    /// Whether it is an array.
    const IS_LIST: bool = false;

    /// As it stands in a file, secrets masked.
    fn toml(&self) -> String;
}

macro_rules! written {
    ($($Type:ty: |$value:ident| $toml:expr;)*) => {
        $(impl Toml for $Type {
            fn toml(&self) -> String {
                let $value = self;
                $toml
            }
        })*
    };
}

written! {
    bool: |value| value.to_string();
    u32: |value| value.to_string();
    u64: |value| value.to_string();
    usize: |value| value.to_string();
    RepositoryId: |value| value.to_string();
    // A JSON string is a TOML string.
    str: |value| serde_json::Value::from(value).to_string();
    String: |value| value.as_str().toml();
    RepositoryName: |value| value.as_str().toml();
    Dialect: |value| value.as_str().toml();
    Level: |value| value.as_str().to_ascii_lowercase().toml();
    LogFormat: |value| format!("{value:?}").to_ascii_lowercase().toml();
    SocketAddr: |value| value.to_string().toml();
    Proxy: |value| value.to_string().toml();
    PathBuf: |value| value.display().to_string().toml();
    Url: |value| value.as_str().trim_end_matches('/').toml();
    UnixMode: |value| format!("{:04o}", value.0).toml();
    Duration: |value| {
        let value = SignedDuration::try_from(*value).unwrap_or(SignedDuration::MAX);
        format!("{value:#}").replace(' ', "").toml()
    };
    ByteSize: |value| {
        let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        let unit = units.into_iter().find(|(_, bytes)| value.0.is_multiple_of(*bytes));
        unit.map_or_else(|| value.0.to_string(), |(unit, bytes)| format!("{}{unit}", value.0 / bytes).toml())
    };
}

impl<T: Toml> Toml for Option<T> {
    fn toml(&self) -> String {
        self.as_ref().map_or_else(|| "".toml(), Toml::toml)
    }
}

impl<T: Toml> Toml for Vec<T> {
    const IS_LIST: bool = true;

    fn toml(&self) -> String {
        format!("[{}]", self.iter().map(Toml::toml).collect::<Vec<_>>().join(", "))
    }
}
