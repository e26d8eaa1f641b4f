//! Private keys that change while the daemon runs: in their files, and in what GitHub thinks of them.

use std::cell::RefCell;
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::Duration;

use ghtokend::fake_github::{Effect, Fault, Options, World as GithubWorld};
use ghtokend::github::key::Key;
use serde_json::{Value, json};

use crate::support::program::run;
use crate::support::world::{Setup, World, until};
use crate::upstream::identity::post;

const RSA: &str = include_str!("../keys/rsa.pem");
/// Of nobody that GitHub knows.
const FOREIGN: &str = include_str!("../keys/rsa-4096.pem");
const MINT_1: &str = "/app/installations/1/access_tokens";
const REFUSED: &str = "POST /app/installations/1/access_tokens 401";
const MINTED: &str = "POST /app/installations/1/access_tokens 201";
/// Every token is dead after it, and no refused key is still passed over.
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// A daemon whose keys are in files, newest first, and its GitHub, which knows [`RSA`].
struct Rotation {
    world: World,
    dir: tempfile::TempDir,
}

impl Rotation {
    async fn with(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, pem) in files {
            fs::write(dir.path().join(name), pem).unwrap();
        }
        let paths = files.iter().map(|(name, _)| dir.path().join(name)).collect();
        Self::in_dir(dir, paths, Vec::new()).await
    }

    async fn in_dir(
        dir: tempfile::TempDir,
        paths: Vec<PathBuf>,
        mut environment: Vec<(&'static str, String)>,
    ) -> Self {
        let mut github = GithubWorld::demo();
        github.apps[0].private_keys = Some(RSA.to_owned());
        let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
        environment.push(("GITHUB_APP_PRIVATE_KEY", String::new()));
        environment.push(("GITHUB_APP_PRIVATE_KEY_FILE", paths.join(",")));
        let options = Options { world: github, ..Options::default() };
        let world = World::with(Setup { options, environment, ..Setup::default() }).await;
        let all = Self { world, dir };
        all.until_ready().await;
        all
    }

    /// The probe at the start has asked its last by then.
    async fn until_ready(&self) {
        until(async || self.world.get("/readyz").await.status == 200).await;
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    /// A new key, as the app's settings page gives it.
    fn new_key(&self) -> (String, String) {
        let key = self.world.github.add_key("demo").unwrap();
        (key.private_key_pem, format!("SHA256:{}", key.fingerprint))
    }

    fn delete_at_github(&self, fingerprint: &str) {
        let fingerprint = fingerprint.strip_prefix("SHA256:").unwrap();
        assert!(self.world.github.remove_key("demo", fingerprint));
    }

    /// Fingerprint and status of every key, as `/status` shows them.
    async fn keys(&self) -> Vec<(String, String)> {
        let status = self.world.get("/status").await.json();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let keys = status["apps"][0]["keys"].as_array().unwrap();
        let keys: Vec<_> = keys.iter().map(|key| (text(&key["fingerprint"]), text(&key["status"]))).collect();
        let active = keys.iter().find(|(_, status)| status == "active").unwrap_or(&keys[0]);
        assert_eq!(status["apps"][0]["key_fingerprint"], json!(active.0));
        keys
    }

    async fn stand(&self, expected: &[(&str, &str)]) {
        let keys = self.keys().await;
        let keys: Vec<_> = keys.iter().map(|(key, status)| (key.as_str(), status.as_str())).collect();
        assert_eq!(keys, expected);
    }

    /// What GitHub is asked, with the statuses of its answers, until `asking` has ended.
    async fn asked(&self, asking: impl Future) -> Vec<String> {
        let before = self.world.github.journal().len();
        asking.await;
        let journal = self.world.github.journal();
        let line = |status: Option<u16>| status.map(|status| status.to_string()).unwrap_or_default();
        let since = journal[before..].iter();
        since.map(|call| format!("{} {} {}", call.method, call.path, line(call.status))).collect()
    }

    /// The calls that a new token takes.
    async fn mint(&self) -> Vec<String> {
        self.world.advance(HOUR);
        self.asked(self.world.token("/token")).await
    }

    /// The value of a metric.
    async fn metric(&self, name_and_labels: &str) -> String {
        let scrape = self.world.get("/metrics").await.text();
        let line = scrape.lines().find_map(|line| line.strip_prefix(name_and_labels)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name_and_labels} is not in\n{scrape}")).to_owned()
    }
}

fn fingerprint(pem: &str) -> String {
    Key::parse(pem, "test").unwrap().fingerprint().to_owned()
}

#[tokio::test]
async fn newest_key_signs_first() {
    let rotation = Rotation::with(&[("new.pem", RSA), ("old.pem", FOREIGN), ("same.pem", RSA)]).await;
    assert_eq!(rotation.mint().await, [MINTED]);
    rotation.stand(&[(&fingerprint(RSA), "active"), (&fingerprint(FOREIGN), "standby")]).await;
    for (status, count) in [("active", "1"), ("standby", "1"), ("rejected", "0")] {
        let gauge = format!("ghtokend_keys{{app=\"default\",status=\"{status}\"}}");
        assert_eq!(rotation.metric(&gauge).await, count, "{status}");
    }
}

/// A volume as the kubelet makes it: `app.pem` → `..data/app.pem`, `..data` → a directory of the time.
fn project(dir: &Path, version: &str, pem: &str) {
    fs::create_dir(dir.join(version)).unwrap();
    fs::write(dir.join(version).join("app.pem"), pem).unwrap();
    symlink(version, dir.join("..data_tmp")).unwrap();
    fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
}

#[tokio::test]
async fn a_key_that_kubernetes_swaps_is_in_use_after_the_next_look() {
    let dir = tempfile::tempdir().unwrap();
    project(dir.path(), "..2026_01", RSA);
    symlink("..data/app.pem", dir.path().join("app.pem")).unwrap();
    let path = dir.path().join("app.pem");
    let rotation = Rotation::in_dir(dir, vec![path], Vec::new()).await;
    let in_hand = rotation.world.token("/token").await;

    let (pem, new) = rotation.new_key();
    project(rotation.dir.path(), "..2026_02", &pem);
    fs::remove_dir_all(rotation.path("..2026_01")).unwrap();
    assert_eq!(rotation.asked(rotation.world.reloader.tick()).await, ["GET /app 200"]);
    rotation.stand(&[(&new, "active")]).await;
    assert_eq!(rotation.asked(rotation.world.reloader.tick()).await, [""; 0], "once, not at every look");
    let asked = rotation.asked(async {
        assert_eq!(rotation.world.token("/token").await, in_hand, "tokens in hand are kept");
    });
    assert_eq!(asked.await, [""; 0]);

    rotation.delete_at_github(&fingerprint(RSA));
    assert_eq!(rotation.mint().await, [MINTED]);
}

#[tokio::test]
async fn a_request_that_is_under_way_ends_with_the_key_it_began_with() {
    let rotation = Rotation::with(&[("app.pem", RSA)]).await;
    let hold = rotation.world.github.hold("POST", MINT_1);
    let asked = rotation.asked(async {
        tokio::join!(rotation.world.token("/token"), async {
            hold.reached(1).await;
            let (pem, _) = rotation.new_key();
            rotation.write("app.pem", pem);
            rotation.world.reloader.tick().await;
            hold.release();
        });
    });
    assert_eq!(asked.await, [MINTED, "GET /app 200"]);
}

#[tokio::test]
async fn a_broken_key_file_leaves_the_key_that_works_in_use() {
    let rotation = Rotation::with(&[("app.pem", RSA)]).await;
    let (pem, new) = rotation.new_key();
    let path = rotation.path("app.pem");
    let broken: [(&str, &dyn Fn()); 5] = [
        ("half-written", &|| rotation.write("app.pem", &pem[..pem.len() / 2])),
        ("empty", &|| rotation.write("app.pem", "")),
        ("no key", &|| rotation.write("app.pem", "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n")),
        ("deleted", &|| fs::remove_file(&path).unwrap()),
        ("a directory", &|| fs::create_dir(&path).unwrap()),
    ];
    for (failures, (name, break_it)) in (1..).zip(broken) {
        break_it();
        assert_eq!(rotation.asked(rotation.world.reloader.tick()).await, [""; 0], "{name}");
        rotation.stand(&[(&fingerprint(RSA), "active")]).await;
        assert_eq!(rotation.mint().await, [MINTED], "{name}");
        assert_eq!(rotation.world.get("/readyz").await.status, 200, "{name}");
        assert_eq!(rotation.metric("ghtokend_key_files_invalid{app=\"default\"}").await, "1", "{name}");
        let counter = rotation.metric("ghtokend_reload_errors_total{kind=\"keys\"}").await;
        assert_eq!(counter, failures.to_string(), "{name}");
    }
    fs::remove_dir(&path).unwrap();
    rotation.write("app.pem", &pem);
    rotation.world.reloader.tick().await;
    rotation.stand(&[(&new, "active")]).await;
    assert_eq!(rotation.metric("ghtokend_key_files_invalid{app=\"default\"}").await, "0");
}

/// The log, as far as this test's thread writes it. One subscriber hears all tests: several would quarrel about which
/// lines are worth writing at all.
pub struct Log;

thread_local! {
    static WRITTEN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Log {
    pub fn listen() -> Self {
        static LISTENING: Once = Once::new();
        LISTENING.call_once(|| tracing_subscriber::fmt().with_ansi(false).with_writer(|| Self).init());
        WRITTEN.with_borrow_mut(Vec::clear);
        Self
    }

    pub fn lines(&self, containing: &str) -> Vec<String> {
        let text = WRITTEN.with_borrow(|written| String::from_utf8(written.clone()).unwrap());
        text.lines().filter(|line| line.contains(containing)).map(str::to_owned).collect()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        WRITTEN.with_borrow_mut(|written| written.write(bytes))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn invalid_key_file_is_logged_once_a_minute() {
    let log = Log::listen();
    let rotation = Rotation::with(&[("app.pem", RSA)]).await;
    rotation.write("app.pem", &RSA[..RSA.len() / 2]);
    let mut said = Vec::new();
    for _ in 0..7 {
        rotation.world.reloader.tick().await;
        said.push(log.lines("cannot be used").len());
        rotation.world.advance(Duration::from_secs(20));
    }
    assert_eq!(said, [1, 1, 1, 2, 2, 2, 3], "at 0, 20, 40, 60, 80, 100 and 120 s");
    let line = log.lines("cannot be used").remove(0);
    assert!(line.contains(&rotation.path("app.pem").display().to_string()), "{line}");
    assert!(line.contains("it is cut off or half written") && line.contains(&fingerprint(RSA)), "{line}");

    rotation.write("app.pem", RSA);
    rotation.world.reloader.tick().await;
    assert_eq!(log.lines("can be used again").len(), 1);
    rotation.write("app.pem", "");
    rotation.world.reloader.tick().await;
    assert_eq!(log.lines("cannot be used").len(), 4, "another fault is said at once");
    for line in RSA.lines().filter(|line| !line.starts_with('-')) {
        assert_eq!(log.lines(&line[..12]), [""; 0], "a key is in the log");
    }
}

#[tokio::test]
async fn a_file_that_brings_a_key_of_another_app_costs_no_token() {
    let rotation = Rotation::with(&[("app.pem", RSA)]).await;
    rotation.write("app.pem", FOREIGN);
    let asked = rotation.asked(rotation.world.reloader.tick()).await;
    assert_eq!(asked, ["GET /app 401", "GET /app 200"], "tried out before anybody waits for it");
    rotation.stand(&[(&fingerprint(FOREIGN), "rejected"), (&fingerprint(RSA), "active")]).await;
    rotation.world.advance(Duration::from_secs(500));
    assert_eq!(rotation.asked(rotation.world.token("/token")).await, [MINTED]);

    let (pem, new) = rotation.new_key();
    rotation.write("app.pem", pem);
    assert_eq!(rotation.asked(rotation.world.reloader.tick()).await, ["GET /app 200"]);
    rotation.stand(&[(&new, "active")]).await;
}

#[tokio::test]
async fn the_last_key_that_worked_outlives_a_github_that_is_down() {
    let rotation = Rotation::with(&[("app.pem", RSA)]).await;
    rotation.world.github.fault(Fault::new(Effect::ResetBefore));
    rotation.write("app.pem", FOREIGN);
    rotation.world.reloader.tick().await;
    rotation.stand(&[(&fingerprint(FOREIGN), "active"), (&fingerprint(RSA), "standby")]).await;
    rotation.world.github.clear_faults();
    assert_eq!(rotation.mint().await, [REFUSED, MINTED]);
}

#[tokio::test]
async fn rejected_key_falls_back_then_is_retried() {
    let log = Log::listen();
    let rotation = Rotation::with(&[("new.pem", FOREIGN), ("old.pem", RSA)]).await;
    // The probe at the start has met the refusal.
    rotation.stand(&[(&fingerprint(FOREIGN), "rejected"), (&fingerprint(RSA), "active")]).await;
    assert_eq!(rotation.metric("ghtokend_keys{app=\"default\",status=\"rejected\"}").await, "1");
    let (refused, works) =
        (log.lines("GitHub rejected a private key"), log.lines("GitHub accepted this private key"));
    assert!(refused.len() == 1 && refused[0].contains(&fingerprint(FOREIGN)), "{refused:?}");
    assert!(works.len() == 1 && works[0].contains(&fingerprint(RSA)), "{works:?}");

    assert_eq!(rotation.asked(rotation.world.token("/token")).await, [MINTED]);
    rotation.world.advance(Duration::from_secs(599));
    let other = rotation.asked(rotation.world.token("/token?permissions=contents:read")).await;
    assert_eq!(other, [MINTED], "not before ten minutes");
    rotation.world.advance(Duration::from_secs(1));
    let other = rotation.asked(rotation.world.token("/token?permissions=issues:read")).await;
    assert_eq!(other, [REFUSED, MINTED]);
    let other = rotation.asked(rotation.world.token("/token?permissions=metadata:read")).await;
    assert_eq!(other, [MINTED], "once in ten minutes");
}

#[tokio::test]
async fn the_newest_key_signs_again_once_github_accepts_it() {
    let rotation = Rotation::with(&[("new.pem", RSA), ("old.pem", FOREIGN)]).await;
    let body = json!({"message": "A JSON web token could not be decoded"}).to_string();
    let effect = Effect::Status { status: 401, body, headers: Default::default() };
    rotation.world.github.fault(Fault::new(effect).on("POST", MINT_1).times(1));
    let refused = rotation.asked(rotation.world.get("/token")).await;
    assert_eq!(refused, [REFUSED, REFUSED], "GitHub was wrong about the first, and right about the second");
    // With none left that it does not refuse, the newest is asked with, once, and a second later.
    rotation.world.advance(Duration::from_secs(1));
    assert_eq!(rotation.asked(rotation.world.token("/token")).await, [MINTED]);
    rotation.stand(&[(&fingerprint(RSA), "active"), (&fingerprint(FOREIGN), "rejected")]).await;
}

#[tokio::test]
async fn a_key_that_is_deleted_at_github_gives_way_at_once() {
    let rotation = Rotation::with(&[("new.pem", RSA), ("old.pem", FOREIGN)]).await;
    let (pem, older) = rotation.new_key();
    rotation.write("old.pem", pem);
    rotation.world.reloader.tick().await;
    rotation.stand(&[(&fingerprint(RSA), "active"), (&older, "standby")]).await;
    rotation.delete_at_github(&fingerprint(RSA));
    assert_eq!(rotation.asked(rotation.world.token("/token")).await, [REFUSED, MINTED]);
    rotation.stand(&[(&fingerprint(RSA), "rejected"), (&older, "active")]).await;
}

#[tokio::test]
async fn with_every_key_refused_a_request_asks_once() {
    let rotation = Rotation::with(&[("new.pem", RSA), ("old.pem", FOREIGN)]).await;
    let in_hand = rotation.world.token("/token").await;
    let _another = rotation.new_key();
    rotation.delete_at_github(&fingerprint(RSA));
    assert_eq!(rotation.world.token("/token").await, in_hand, "warm callers notice nothing");
    rotation.world.advance(HOUR);
    let refused = rotation.asked(async {
        let reply = rotation.world.get("/token").await;
        assert_eq!((reply.status, reply.code().as_str()), (502, "app_rejected"));
    });
    assert_eq!(refused.await, [REFUSED, REFUSED]);
    assert!(rotation.asked(rotation.world.get("/token")).await.is_empty(), "not at once");
    for _ in 0..3 {
        rotation.world.advance(MINUTE);
        assert_eq!(rotation.asked(rotation.world.get("/token")).await, [REFUSED]);
    }
    rotation.stand(&[(&fingerprint(RSA), "rejected"), (&fingerprint(FOREIGN), "rejected")]).await;
}

#[tokio::test]
async fn many_keys_do_not_make_many_refusals_of_one_request() {
    let names: Vec<_> = (1..=7).map(|at| format!("{at}.pem")).collect();
    let files: Vec<_> = names.iter().map(|name| (name.as_str(), RSA)).collect();
    let rotation = Rotation::with(&files).await;
    let keys: Vec<_> = names[1..].iter().map(|name| (name, rotation.new_key())).collect();
    for (name, (pem, _)) in &keys {
        rotation.write(name, pem);
    }
    assert_eq!(rotation.asked(rotation.world.reloader.tick()).await, ["GET /app 200"]);
    let _another = rotation.new_key();
    rotation.delete_at_github(&fingerprint(RSA));
    keys.iter().for_each(|(_, (_, fingerprint))| rotation.delete_at_github(fingerprint));
    for refusals in [4, 3, 1, 1] {
        assert_eq!(rotation.asked(rotation.world.get("/token")).await, vec![REFUSED; refusals]);
        rotation.world.advance(MINUTE);
    }
}

#[tokio::test]
async fn clock_or_app_id_rejection_does_not_blame_the_key() {
    let rotation = Rotation::with(&[("new.pem", RSA), ("old.pem", FOREIGN)]).await;
    // A day back and forth: the JWT in hand is no good, and neither is one signed by the clock as it was.
    rotation.world.github.skew(86_400);
    assert_eq!(rotation.asked(rotation.world.token("/token")).await, [REFUSED, MINTED]);
    rotation.stand(&[(&fingerprint(RSA), "active"), (&fingerprint(FOREIGN), "standby")]).await;

    let body = json!({"message": "Integration not found"}).to_string();
    let effect = Effect::Status { status: 401, body, headers: Default::default() };
    rotation.world.github.fault(Fault::new(effect).on("POST", MINT_1).times(2));
    rotation.world.advance(HOUR);
    assert_eq!(rotation.asked(rotation.world.get("/token")).await, [REFUSED]);
    rotation.stand(&[(&fingerprint(RSA), "active"), (&fingerprint(FOREIGN), "standby")]).await;
}

#[tokio::test]
async fn nonce_is_sent_once_with_last_accepted_key() {
    let dir = tempfile::tempdir().unwrap();
    let paths: Vec<_> = ["new.pem", "old.pem"].iter().map(|name| dir.path().join(name)).collect();
    fs::write(&paths[0], FOREIGN).unwrap();
    fs::write(&paths[1], RSA).unwrap();
    let preview = vec![("GHTOKEND_GITHUB__DIALECT", "integrations".to_owned())];
    let rotation = Rotation::in_dir(dir, paths, preview).await;
    // The newest would have its turn again by now.
    rotation.world.advance(HOUR);
    rotation.stand(&[(&fingerprint(FOREIGN), "active"), (&fingerprint(RSA), "standby")]).await;
    let identity = "/integration/identity/user";
    let nonce = json!({"nonce": rotation.world.github.create_nonce(1, "octocat")}).to_string();
    let asked = rotation.asked(post(&rotation.world, identity, &nonce));
    assert_eq!(asked.await, [format!("POST {identity} 200")]);

    let _another = rotation.new_key();
    rotation.delete_at_github(&fingerprint(RSA));
    for status in [["active", "rejected"], ["rejected", "rejected"]] {
        let asked = rotation.asked(post(&rotation.world, identity, "{\"nonce\":\"abc\"}"));
        assert_eq!(asked.await, [format!("POST {identity} 401")]);
        rotation.stand(&[(&fingerprint(FOREIGN), status[0]), (&fingerprint(RSA), status[1])]).await;
        rotation.world.advance(MINUTE);
    }
}

#[tokio::test]
async fn check_tells_of_each_key_file() {
    let rotation = Rotation::with(&[("app.pem", RSA)]).await;
    let (pem, works) = rotation.new_key();
    rotation.write("new.pem", FOREIGN);
    rotation.write("old.pem", pem);
    let check = async |names: &[&str]| {
        let paths: Vec<_> = names.iter().map(|name| rotation.path(name).display().to_string()).collect();
        let (api_url, paths) = (rotation.world.github.api_url(), paths.join(","));
        let variables = [
            ("GITHUB_API_URL", api_url.as_str()),
            ("GITHUB_APP_ID", "1001"),
            ("GITHUB_APP_PRIVATE_KEY_FILE", &paths),
        ];
        run(&["check", "--quiet"], &variables).await
    };
    let (code, report, _) = check(&["new.pem", "old.pem"]).await;
    assert_eq!(code, 0, "{report}");
    let refused = format!(
        "app default: GitHub refuses {} from {}",
        fingerprint(FOREIGN),
        rotation.path("new.pem").display()
    );
    let loaded = format!("app default: {works} from {}", rotation.path("old.pem").display());
    for says in [&refused, &loaded, "GitHub accepts it as"] {
        assert!(report.contains(says), "{says} is not in\n{report}");
    }

    let (code, report, _) = check(&["old.pem", "missing.pem"]).await;
    assert_eq!(code, 1, "{report}");
    for says in [loaded.as_str(), "missing.pem: cannot be read: No such file", "GitHub accepts it as"] {
        assert!(report.contains(says), "{says} is not in\n{report}");
    }

    let (code, report, _) = check(&["new.pem"]).await;
    assert_eq!(code, 1, "{report}");
    assert!(report.contains("A JSON web token could not be decoded"), "{report}");
}
