//! A daemon with a configuration file, to be read again while it runs.

use std::fs;
use std::path::Path;
use std::time::Duration;

use ghtokend::fake_github::{FakeGithub, Options};
use rustix::process::Signal;
use serde_json::Value;

use crate::support::program::Daemon;
use crate::support::world::{Reply, get, send};

/// A daemon in a process of its own, with a configuration file.
pub struct Configured {
    pub github: FakeGithub,
    pub daemon: Daemon,
    pub dir: tempfile::TempDir,
}

impl Configured {
    /// In `configuration`, `DIR` is a directory that has the key of GitHub's app `demo` in `app.pem`.
    pub async fn with(configuration: &str) -> Self {
        let github = FakeGithub::start(Options { seed: Some(1), ..Options::default() }).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let app = github.app("demo").unwrap();
        fs::write(dir.path().join("app.pem"), &app.private_key_pem).unwrap();
        let file = dir.path().join("ghtokend.toml");
        fs::write(&file, filled(configuration, dir.path())).unwrap();
        let api_url = github.api_url();
        let daemon =
            Daemon::serve(&["--config", file.to_str().unwrap()], &[("GITHUB_API_URL", &api_url)]).await;
        Self { github, daemon, dir }
    }

    /// Changes the file and has it read. The line of the log that `says`.
    pub async fn reload(&mut self, configuration: &str, says: &str) -> Value {
        fs::write(self.dir.path().join("ghtokend.toml"), filled(configuration, self.dir.path())).unwrap();
        self.daemon.signal(Signal::HUP);
        serde_json::from_str(&self.says_at_once(says).await).unwrap()
    }

    /// The next line of the log that holds `text`, which does not wait for the next look at the key files.
    pub async fn says_at_once(&mut self, text: &str) -> String {
        let line = tokio::time::timeout(Duration::from_secs(15), self.daemon.says(text));
        line.await.unwrap_or_else(|_| panic!("{text:?} is not said at once"))
    }

    pub async fn get(&self, target: &str) -> Reply {
        get(self.address(), target).await
    }

    pub fn address(&self) -> std::net::SocketAddr {
        self.daemon.address()
    }

    /// The status of a request under the name `host`.
    pub async fn as_host(&self, host: &str) -> u16 {
        let head = format!(
            "GET /token?owner=acme HTTP/1.1\r\nHost: {host}\r\nGhtokend-Client: t\r\nConnection: close\r\n\r\n"
        );
        send(self.address(), &head).await.unwrap().status
    }

    pub async fn fingerprints(&self) -> Vec<String> {
        let status = self.get("/status").await.json();
        let keys = status["apps"][0]["keys"].as_array().unwrap().clone();
        keys.iter().map(|key| key["fingerprint"].as_str().unwrap().to_owned()).collect()
    }
}

pub fn filled(configuration: &str, dir: &Path) -> String {
    configuration.replace("DIR", &dir.display().to_string())
}

pub const RELOADED: &str = "configuration reloaded";
pub const NOT_RELOADED: &str = "configuration not reloaded";
pub const BASE: &str = "[app]\nid = 1001\nprivate_key_file = \"DIR/app.pem\"\n";
