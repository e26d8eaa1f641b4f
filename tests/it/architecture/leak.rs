//! No secret leaves by any way but the answer that is meant to carry it: not by log, error, metric, status or `Debug`.

use ghtokend::fake_github::{Effect, FakeGithub, Fault, Options};
use ghtokend::model::{InstallationToken, Secret};
use ghtokend::settings::{Environment, Settings, Sources};
use rustix::process::Signal;

use crate::support::program::{Daemon, borrowed, run, variables_for};
use crate::support::world::{Reply, send};

/// Stands for every secret in turn. In a token, what GitHub's own format allows and most patterns miss.
const MARKER: &str = "ghs_1001_LEAKED.MARKER-of_a_secret";
/// A secret of the caller's or the operator's own making: nothing in its shape gives it away to a redaction.
const UNSHAPED: &str = "correct-horse-battery-staple";
/// A piece of any secret as long as this is a leak.
const WINDOW: usize = 12;

/// What was written or answered and must hold no secret.
#[derive(Default)]
struct Seen(Vec<(String, String)>);

impl Seen {
    fn add(&mut self, origin: &str, text: impl Into<String>) {
        self.0.push((origin.to_owned(), text.into()));
    }

    /// Fails on the first piece of `secret` in anything that was seen.
    fn check(&self, secret: &str) {
        for (origin, text) in &self.0 {
            for window in secret.as_bytes().windows(WINDOW) {
                let window = std::str::from_utf8(window).unwrap();
                assert!(!text.contains(window), "{origin} holds {window:?} of a secret: {text}");
            }
        }
    }
}

async fn ask(daemon: &Daemon, request: &str) -> Reply {
    let address = daemon.url.trim_start_matches("http://").parse().unwrap();
    send(address, &format!("{request}\r\nHost: localhost\r\nConnection: close\r\n\r\n")).await.unwrap()
}

#[tokio::test]
async fn no_secret_is_in_log_errors_metrics_or_status() {
    let github = FakeGithub::start(Options { seed: Some(1), ..Options::default() }).await.unwrap();
    let variables = variables_for(&github);
    let key = variables.iter().find(|(name, _)| *name == "GITHUB_APP_PRIVATE_KEY").unwrap().1.clone();
    let daemon = Daemon::serve(&["--log-level", "trace"], &borrowed(&variables)).await;
    let mut seen = Seen::default();
    let mint = |effect| Fault::new(effect).on("POST", "/app/installations").times(1);

    // A token that is handed out, in both forms, from the cache too.
    github.fault(mint(Effect::Token { value: MARKER.into() }));
    for _ in 0..2 {
        for target in ["GET /token?owner=acme", "GET /token?owner=acme&format=text"] {
            let reply = ask(&daemon, &format!("{target} HTTP/1.1\r\nGhtokend-Client: t")).await;
            assert!(reply.text().contains(MARKER));
            seen.add("the headers of an answer", format!("{:?}", reply.headers));
        }
    }
    // An upstream that echoes one, in every class of failure.
    let echo =
        format!("{{\"message\":\"your token {MARKER} and Bearer eyJhbGciOiJSUzI1NiJ9.{MARKER} are bad\"}}");
    for status in [201, 400, 401, 403, 404, 422, 429, 500] {
        let effect = Effect::Status {
            status,
            body: echo.clone(),
            headers: [("x-github-request-id".into(), MARKER.into())].into(),
        };
        github.fault(mint(effect));
        let reply = ask(&daemon, "GET /token?owner=octocat HTTP/1.1\r\nGhtokend-Client: t").await;
        assert_ne!(reply.status, 200);
        seen.add("an error's body", reply.text());
    }
    for effect in [
        Effect::TruncatedBody,
        Effect::CutBody,
        Effect::ExpiresAt { value: None },
        Effect::Lifetime { seconds: -1 },
    ] {
        github.fault(mint(Effect::Token { value: MARKER.into() }));
        github.fault(mint(effect));
        let reply = ask(&daemon, "GET /token?owner=octocat HTTP/1.1\r\nGhtokend-Client: t").await;
        assert_ne!(reply.status, 200);
        seen.add("an error's body", reply.text());
        github.clear_faults();
    }
    send_secrets_everywhere(&daemon, &mut seen).await;
    for path in ["/status", "/metrics", "/readyz", "/healthz"] {
        let reply = ask(&daemon, &format!("GET {path} HTTP/1.1")).await;
        assert_eq!(reply.status, 200, "{path}");
        seen.add(path, reply.text());
    }
    daemon.signal(Signal::TERM);
    let (code, log) = daemon.ended().await;
    assert!(code == 0 && log.contains("GitHub answered"), "{log}");
    seen.add("the log", log);

    seen.check(MARKER);
    seen.check(UNSHAPED);
    for line in key.lines().filter(|line| !line.starts_with("-----")) {
        seen.check(line);
    }
    seen.check("eyJhbGciOiJSUzI1NiJ9");
}

/// A caller that puts its secrets everywhere.
async fn send_secrets_everywhere(daemon: &Daemon, seen: &mut Seen) {
    for request in [
        format!(
            "GET /token?owner=acme HTTP/1.1\r\nGhtokend-Secret: {UNSHAPED}\r\nAuthorization: Bearer {UNSHAPED}\r\nOrigin: x"
        ),
        format!("GET /token?owner={MARKER} HTTP/1.1\r\nGhtokend-Client: t"),
        format!("GET /token?{MARKER}=x HTTP/1.1\r\nGhtokend-Client: t"),
        format!("GET /{MARKER} HTTP/1.1\r\nAuthorization: Bearer {MARKER}"),
        format!("POST /token HTTP/1.1\r\nCookie: {UNSHAPED}"),
        format!("GET /token?owner=nobody HTTP/1.1\r\nGhtokend-Secret: {UNSHAPED}"),
    ] {
        let reply = ask(daemon, &request).await;
        assert_ne!(reply.status, 200);
        seen.add("an error's body", reply.text());
    }
}

/// What GitHub answers that quotes what was sent; 0: it answers well.
const ANSWERS: [u16; 6] = [0, 400, 404, 422, 500, 401];

#[tokio::test]
async fn no_secret_in_a_body_or_a_credential_comes_out_again() {
    for dialect in ["apps", "integrations"] {
        // A daemon for each: foreign tokens are revoked slowly.
        for status in ANSWERS {
            send_secrets(dialect, status).await;
        }
    }
}

async fn send_secrets(dialect: &str, status: u16) {
    let github = FakeGithub::start(Options { seed: Some(1), ..Options::default() }).await.unwrap();
    let mut variables = variables_for(&github);
    variables.push(("GHTOKEND_GITHUB__DIALECT", dialect.to_owned()));
    variables.push(("GHTOKEND_GITHUB__WEB_URL", "https://git.example".to_owned()));
    let daemon = Daemon::serve(&["--log-level", "trace"], &borrowed(&variables)).await;
    let mut seen = Seen::default();
    if status > 0 {
        let body = format!("{{\"message\":\"what is {UNSHAPED}?\"}}");
        let effect = Effect::Status { status, body, headers: [].into() };
        github.fault(Fault::new(effect.clone()).on("POST", "/integration/identity/user"));
        github.fault(Fault::new(effect).on("DELETE", "/installation/token"));
    }
    let nonce = format!("{{\"nonce\":\"{UNSHAPED}\"}}");
    let rejected = format!("{{\"token\":\"{UNSHAPED}\"}}");
    let git = format!("protocol=https\nhost=git.example\nusername=x\npassword={UNSHAPED}\n");
    for (request, body) in [
        ("POST /integration/identity/user", nonce.as_str()),
        ("POST /integration/identity/user", &nonce[..nonce.len() - 1]),
        ("POST /token/reject", &rejected),
        ("POST /token/reject", &rejected[..rejected.len() - 1]),
        ("POST /git-credential/erase", &git),
        ("POST /git-credential/get", &git),
        ("POST /git-credential/get", &format!("{git}{UNSHAPED}\n")),
        ("DELETE /installation/token", ""),
    ] {
        let length = body.len();
        let credential = format!("Content-Length: {length}\r\nAuthorization: Bearer {UNSHAPED}");
        let request = format!("{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{credential}");
        let address = daemon.url.trim_start_matches("http://").parse().unwrap();
        let reply = send(address, &format!("{request}\r\n\r\n{body}")).await.unwrap();
        seen.add(&request, format!("{:?} {}", reply.headers, reply.text()));
    }
    let asked = if dialect == "apps" { 0 } else { 1 };
    assert_eq!(github.count("POST", "/integration/identity/user"), asked, "{status}");
    for path in ["/status", "/metrics"] {
        seen.add(path, ask(&daemon, &format!("GET {path} HTTP/1.1")).await.text());
    }
    daemon.signal(Signal::TERM);
    let (code, log) = daemon.ended().await;
    assert!(code == 0 && log.contains("GitHub answered"), "{log}");
    seen.add("the log", log);
    seen.check(UNSHAPED);
}

#[tokio::test]
async fn no_secret_of_the_configuration_is_in_an_error_or_in_check() {
    let github = FakeGithub::start(Options { seed: Some(1), ..Options::default() }).await.unwrap();
    let variables = variables_for(&github);
    let key = &variables[2].1;
    let body: String = key.lines().filter(|line| !line.starts_with("-----")).collect();
    let proxy = format!("http://user:{UNSHAPED}@127.0.0.1:1");
    let mut seen = Seen::default();
    for (name, value) in [
        ("GITHUB_APP_PRIVATE_KEY", body.as_str()),
        ("GITHUB_APP_PRIVATE_KEY", MARKER),
        ("GITHUB_APP_ID", key.as_str()),
        ("GITHUB_APP_ID", MARKER),
        ("GITHUB_API_URL", &proxy),
        ("GHTOKEND_GITHUB__PROXY", &proxy),
        ("GHTOKEND_APP__PRIVATE_KEY_FILE", body.as_str()),
    ] {
        let mut variables = borrowed(&variables);
        variables.retain(|(other, _)| *other != name);
        variables.push((name, value));
        for command in [&["check"][..], &["serve", "--listen", "nonsense"]] {
            let (code, stdout, stderr) = run(command, &variables).await;
            assert_ne!(code, 0, "{name}: {stdout}");
            seen.add(name, format!("{stdout}{stderr}"));
        }
    }
    seen.check(MARKER);
    seen.check(UNSHAPED);
    seen.check(&body);
}

#[test]
fn no_secret_shows_in_debug_output() {
    let mut seen = Seen::default();
    let token = InstallationToken {
        secret: Secret::from(MARKER.to_owned()),
        expires_at: "2026-11-22T10:00:00Z".into(),
        grant: ghtokend::model::Grant::default(),
        on_behalf_of: None,
        json: bytes::Bytes::from(MARKER).into(),
    };
    let id = ghtokend::model::InstallationId::new(1).unwrap();
    let bodies = ghtokend::server::render(id, None, &token);
    assert!(String::from_utf8_lossy(&bodies.json).contains(MARKER));
    seen.add("the bodies", format!("{bodies:?}"));
    seen.add("a token", format!("{token:?}"));
    let proxy = format!("http://user:{UNSHAPED}@127.0.0.1:1");
    let environment =
        Environment::from_iter([("GITHUB_APP_PRIVATE_KEY", MARKER), ("GHTOKEND_GITHUB__PROXY", &proxy)]);
    let sources = Sources { environment, ..Sources::default() };
    seen.add("the sources", format!("{sources:?}"));
    let proxied = Environment::from_iter([("GHTOKEND_GITHUB__PROXY", proxy.as_str())]);
    let settings = Settings::load(&Sources { environment: proxied, ..Sources::default() }).unwrap();
    seen.add("the settings", format!("{settings:?}{}", settings.effective()));
    seen.check(MARKER);
    seen.check(UNSHAPED);
}

/// The marker is found where it is: else the tests above could not fail.
#[test]
#[should_panic(expected = "of a secret")]
fn a_leak_is_noticed() {
    let mut seen = Seen::default();
    seen.add("a log", format!("the token is {}", &MARKER[3..20]));
    seen.check(MARKER);
}
