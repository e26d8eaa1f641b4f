//! Files of keys and configuration, where a test takes as long as the daemon waits.

use std::fs;
use std::io::Write as _;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;

use crate::support::configured::{BASE, Configured, NOT_RELOADED, RELOADED};

/// The one test that waits as long as the daemon does: what `tick` does is tested without a wait.
#[tokio::test]
async fn key_files_are_looked_at_unasked() {
    let mut configured = Configured::with(BASE).await;
    configured.daemon.says("GitHub accepted this private key").await;
    let added = configured.github.add_key("demo").unwrap();
    fs::write(configured.dir.path().join("app.pem"), &added.private_key_pem).unwrap();
    let line = configured.daemon.says("GitHub accepted this private key");
    let line = tokio::time::timeout(Duration::from_secs(30), line).await.expect("nobody has looked");
    assert!(line.contains(&added.fingerprint), "{line}");
}

#[tokio::test]
async fn hung_configuration_read_times_out_without_blocking() {
    let mut configured = Configured::with(BASE).await;
    configured.daemon.says("GitHub accepted this private key").await;
    let file = configured.dir.path().join("ghtokend.toml");
    fs::remove_file(&file).unwrap();
    // A pipe whose writer never falls silent and never ends keeps its reader waiting, as a server that is gone does.
    mknodat(CWD, &file, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let mut pipe = fs::OpenOptions::new().read(true).write(true).open(&file).unwrap();
    let writer = tokio::spawn(async move {
        loop {
            pipe.write_all(b"\n").unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    for _ in 0..2 {
        configured.daemon.signal(Signal::HUP);
        assert_eq!(configured.get("/token?owner=acme").await.status, 200);
        let line = configured.says_at_once(NOT_RELOADED).await;
        assert!(line.contains("a volume does not answer"), "{line}");
    }
    // Key files are looked at all the same.
    let added = configured.github.add_key("demo").unwrap();
    fs::write(configured.dir.path().join("app.pem"), &added.private_key_pem).unwrap();
    let line = configured.daemon.says("GitHub accepted this private key");
    let line = tokio::time::timeout(Duration::from_secs(30), line).await.expect("nobody has looked");
    assert!(line.contains(&added.fingerprint), "{line}");

    // The late result of the hung read is ignored; the next SIGHUP is not.
    writer.abort();
    let _ = writer.await;
    fs::remove_file(&file).unwrap();
    let reloaded = async { while configured.reload(BASE, "reloaded").await["message"] != RELOADED {} };
    tokio::time::timeout(Duration::from_secs(30), reloaded).await.expect("it waits for ever");
}
