//! The configuration, read again while the daemon runs.

use std::fs;
use std::time::Duration;

use ghtokend::clock::{Clock, SystemClock};
use ghtokend::settings::{Settings, Sources};
use rustix::process::Signal;
use serde_json::json;

use crate::support::configured::{BASE, Configured, NOT_RELOADED, RELOADED, filled};
use crate::support::world::{World, send};

const RSA: &str = include_str!("../keys/rsa.pem");

#[tokio::test]
async fn sighup_applies_reloadable_keys_only() {
    let mut configured = Configured::with(BASE).await;
    assert_eq!(configured.as_host("tokens.internal").await, 403);
    let changed = format!(
        "{BASE}[listen]\nallowed_hosts = [\"tokens.internal\"]\nmax_connections = 7\n\
         [cache]\ngrace = \"1m\"\n[log]\nlevel = \"debug\"\n"
    );
    let line = configured.reload(&changed, "requires a restart").await;
    assert_eq!(
        (&line["level"], &line["keys"]),
        (&json!("WARN"), &json!("cache.grace, listen.max_connections"))
    );
    assert_eq!(configured.as_host("tokens.internal").await, 200);
    configured.says_at_once("GitHub answered").await;

    // What needs a restart has not changed by being read, and is said again.
    configured.reload(&changed, "requires a restart").await;
    let line = configured.reload(BASE, RELOADED).await;
    assert_eq!(line["changed"], "listen.allowed_hosts, log.level");
    assert_eq!(configured.as_host("tokens.internal").await, 403);
    assert_eq!(configured.get("/token?owner=octocat").await.status, 200);
    configured.daemon.signal(Signal::TERM);
    let (code, log) = configured.daemon.ended().await;
    assert_eq!(code, 0, "{log}");
    for not_any_more in ["requires a restart", "GitHub answered"] {
        assert!(!log.contains(not_any_more), "all is as at the start: {log}");
    }
}

#[tokio::test]
async fn invalid_reload_keeps_the_running_configuration() {
    let mut configured = Configured::with(BASE).await;
    fs::write(configured.dir.path().join("other.pem"), &RSA[..100]).unwrap();
    let before = configured.fingerprints().await;
    let live = "[listen]\nallowed_hosts = [\"tokens.internal\"]\n";
    for (number, (configuration, says)) in (1..).zip([
        (format!("{BASE}{live}[cache]\ngrade = \"1m\"\n"), "ghtokend.toml:7:1: "),
        (format!("{BASE}{live}[log]\nlevel = \"loud\"\n"), "ghtokend.toml:7:9: "),
        (format!("{BASE}{live}[[callers]]\nname = \"me\"\n"), "callers"),
        (
            format!("{live}[app]\nid = 1001\nprivate_key_file = [\"DIR/other.pem\", \"DIR/app.pem\"]\n"),
            "DIR/other.pem: ",
        ),
        (
            format!("{live}[app]\nid = 1001\nprivate_key_file = [\"DIR/app.pem\", \"DIR/no.pem\"]\n"),
            "DIR/no.pem: ",
        ),
        (live.to_owned(), "no app is configured"),
        ("[listen".to_owned(), "ghtokend.toml:1:"),
    ]) {
        let line = configured.reload(&configuration, "reloaded").await;
        let says = filled(says, configured.dir.path());
        assert!(line["message"].as_str().unwrap().starts_with(NOT_RELOADED), "{line}");
        assert!(
            line["level"] == "ERROR" && line["error"].as_str().unwrap().contains(&says),
            "{says}: {line}"
        );
        assert_eq!(configured.as_host("tokens.internal").await, 403, "{says}");
        assert_eq!(configured.fingerprints().await, before, "{says}");
        let metrics = configured.get("/metrics").await.text();
        let counter = format!("\nghtokend_reload_errors_total{{kind=\"configuration\"}} {number}\n");
        assert!(metrics.contains(&counter), "{metrics}");
    }
    fs::remove_file(configured.dir.path().join("ghtokend.toml")).unwrap();
    configured.daemon.signal(Signal::HUP);
    configured.daemon.says(NOT_RELOADED).await;
    assert_eq!(configured.get("/token?owner=acme").await.status, 200);
}

#[tokio::test]
async fn sighup_brings_keys_at_once_from_files_that_are_named_anew() {
    let mut configured = Configured::with(BASE).await;
    let old = configured.fingerprints().await.remove(0);
    let added = configured.github.add_key("demo").unwrap();
    let new = format!("SHA256:{}", added.fingerprint);
    fs::write(configured.dir.path().join("new.pem"), &added.private_key_pem).unwrap();
    let both = "[app]\nid = 1001\nprivate_key_file = [\"DIR/new.pem\", \"DIR/app.pem\"]\n";
    let line = configured.reload(both, RELOADED).await;
    assert_eq!(line["changed"], "app.private_key_file");
    configured.says_at_once("GitHub accepted this private key").await;
    assert_eq!(configured.fingerprints().await, [new.clone(), old.clone()]);

    // The newest file is gone: its key stays, and the rest of the configuration is taken over all the same.
    fs::remove_file(configured.dir.path().join("new.pem")).unwrap();
    let line =
        configured.reload(&format!("{both}[listen]\nallowed_hosts = [\"x\"]\n"), "cannot be used").await;
    assert!(line["error"].as_str().unwrap().contains("new.pem: cannot be read"), "{line}");
    assert_eq!(
        (configured.as_host("x").await, configured.fingerprints().await),
        (200, vec![new, old.clone()])
    );

    // Dropped from the list, it is dropped, once GitHub has accepted what is left.
    configured.reload(BASE, "GitHub accepted this private key").await;
    assert_eq!(configured.fingerprints().await, [old]);
}

#[tokio::test]
async fn an_app_that_becomes_another_one_needs_a_restart_with_its_key() {
    let mut configured = Configured::with(&BASE.replace("[app]", "[apps.demo]")).await;
    let before = configured.fingerprints().await;
    fs::write(configured.dir.path().join("other.pem"), RSA).unwrap();
    let changed = "[apps.demo]\nid = 1002\nprivate_key_file = \"DIR/other.pem\"\n";
    let line = configured.reload(changed, "requires a restart").await;
    assert_eq!(line["keys"], "apps.demo.id, apps.demo.private_key_file");
    assert_eq!(configured.fingerprints().await, before);
}

#[tokio::test]
async fn sighup_storm_reloads_once_a_second() {
    let mut configured = Configured::with(BASE).await;
    let began = SystemClock.boot();
    for _ in 0..100 {
        configured.daemon.signal(Signal::HUP);
        // By then it has heard the signal: those that it has not would count as one anyway.
        assert_eq!(configured.get("/token?owner=acme").await.status, 200);
    }
    configured.daemon.says(RELOADED).await;
    configured.daemon.signal(Signal::TERM);
    configured.daemon.signal(Signal::HUP);
    let (code, log) = configured.daemon.ended().await;
    assert_eq!(code, 0, "{log}");
    // One more is under way when the last signal comes, the first was heard above.
    let most = SystemClock.boot().since(began).as_secs() + 1;
    assert!(log.matches("received SIGHUP; reloading").count() as u64 <= most, "{log}");
}

#[tokio::test]
async fn a_key_from_the_environment_stays_as_it_is() {
    let world = World::start().await;
    let before = world.get("/status").await.json()["apps"].clone();
    world.reloader.tick().await;
    world.reload().await;
    world.advance(Duration::from_secs(60));
    assert_eq!(world.get("/status").await.json()["apps"][0]["keys"], before[0]["keys"]);
    assert_eq!(world.get("/token").await.status, 200);
}

#[tokio::test]
async fn reload_toggles_the_client_header_guard() {
    let world = World::start().await;
    let without = "GET /token HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    for (configuration, status) in [("", 403), ("[listen]\nrequire_client_header = false\n", 200), ("", 403)]
    {
        world.configure(configuration);
        world.reload().await;
        assert_eq!(send(world.address, without).await.unwrap().status, status, "{configuration}");
    }
}

#[test]
fn reload_differences_quote_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ghtokend.toml");
    let settings = |configuration: &str| {
        fs::write(&file, configuration).unwrap();
        Settings::load(&Sources { file: Some(file.clone()), ..Sources::default() }).unwrap()
    };
    let proxy = |password: &str| settings(&format!("[github]\nproxy = \"http://me:{password}@proxy:1\"\n"));
    let base = settings("");
    for (other, expected) in [
        (settings(""), &[][..]),
        (
            settings("[audit]\nfile = \"/x\"\n[listen]\nunix_mode = \"0600\"\n"),
            &["audit.file", "listen.unix_mode"],
        ),
        (proxy("one"), &["github.proxy"]),
    ] {
        assert_eq!(base.differences(&other), expected);
    }
    assert_eq!(proxy("one").differences(&proxy("two")), ["github.proxy"]);
    assert_eq!(proxy("one").differences(&proxy("one")), [""; 0]);
}
