//! A world to test in: the daemon in process, on loopback, against the emulator, with a clock that stands still.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ghtokend::app::reload::Reloader;
use ghtokend::app::{self, App};
use ghtokend::broker::Broker;
use ghtokend::clock::{Clock, ManualClock, SystemClock};
use ghtokend::fake_github::{FakeGithub, Options};
use ghtokend::github::AdmissionStatus;
use ghtokend::model::AppName;
use ghtokend::settings::{Environment, Settings, Sources};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A daemon and its GitHub. Dropping it stops both.
pub struct World {
    pub github: FakeGithub,
    pub clock: Arc<ManualClock>,
    pub address: SocketAddr,
    /// For `tick`, which time in the daemon does, and not in a test.
    pub reloader: Reloader,
    sources: Sources,
    file: tempfile::NamedTempFile,
    broker: Broker,
    stop: Option<oneshot::Sender<()>>,
    daemon: Option<JoinHandle<()>>,
}

/// How a world differs from the usual one: the demo world of the emulator, its app, `acme` as default installation.
#[derive(Default)]
pub struct Setup {
    pub options: Options,
    pub environment: Vec<(&'static str, String)>,
    pub without_default_installation: bool,
    /// Seconds by which GitHub's clock is ahead of the daemon's.
    pub github_ahead: i64,
    /// What stands in the configuration file.
    pub file: String,
}

impl World {
    pub async fn start() -> Self {
        Self::with(Setup::default()).await
    }

    pub async fn with(setup: Setup) -> Self {
        let github = FakeGithub::start(Options { seed: Some(1), ..setup.options }).await.unwrap();
        github.skew(setup.github_ahead);
        let mut environment = vec![("GITHUB_API_URL", github.api_url())];
        if let Some(app) = github.app("demo") {
            environment.extend([
                ("GITHUB_APP_ID", app.client_id.clone()),
                ("GITHUB_APP_PRIVATE_KEY", app.private_key_pem.clone()),
            ]);
        }
        if !setup.without_default_installation {
            environment.push(("GITHUB_APP_INSTALLATION_ID", "1".to_owned()));
        }
        environment.push(("GHTOKEND_LISTEN__TCP", "127.0.0.1:0".to_owned()));
        environment.extend(setup.environment);
        // Of two values for one variable the last one holds.
        let environment: BTreeMap<_, _> = environment.into_iter().collect();
        let environment = Environment::from_iter(environment);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), setup.file).unwrap();
        let sources = Sources { environment, file: Some(file.path().to_owned()), ..Sources::default() };
        let settings = Settings::load(&sources).unwrap();
        let keys = app::load_keys(&settings).unwrap();
        let clock = ManualClock::new(SystemClock.wall());
        let (app, broker) = App::build(&settings, &keys, clock.clone()).unwrap().with_manual_refresh();
        let reloader = app.reloader();
        let listeners = app::bind(&settings.listen).await.unwrap();
        let address = listeners.tcp.as_ref().unwrap().local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let daemon = tokio::spawn(app.serve(listeners, async {
            let _ = stopped.await;
        }));
        let (stop, daemon) = (Some(stop), Some(daemon));
        Self { github, clock, address, reloader, sources, file, broker, stop, daemon }
    }

    /// Lets time pass, here and at GitHub.
    pub fn advance(&self, time: Duration) {
        self.clock.advance(time);
        self.github.advance(time);
    }

    /// Writes the configuration file anew.
    pub fn configure(&self, text: &str) {
        std::fs::write(self.file.path(), text).unwrap();
    }

    /// Has the daemon read its configuration again, as SIGHUP would.
    pub async fn reload(&self) {
        self.reloader.reload(&self.sources).await;
    }

    /// One sweep of the daemon's, which is not swept otherwise: how many renewals and prefetches it started.
    pub fn tick(&self) -> usize {
        self.broker.tick()
    }

    /// Whether nothing is under way at GitHub for a token.
    pub fn is_idle(&self) -> bool {
        self.broker.is_idle()
    }

    /// Waits until GitHub has been asked for so many tokens, and all that is under way has ended.
    pub async fn minted(&self, mints: usize) {
        until(|| async { self.mints() >= mints && self.is_idle() }).await;
        assert_eq!(self.mints(), mints);
    }

    /// What admission knows and counts.
    pub fn admission(&self) -> AdmissionStatus {
        self.broker.admission()
    }

    /// Waits until so many calls wait for their turn, and so many more than before have been refused.
    pub async fn queued(&self, queued: usize, (before, refused): (u64, u64)) {
        until(|| async { self.admission().queued == queued && self.refusals() == before + refused }).await;
    }

    /// How many calls admission has refused.
    pub fn refusals(&self) -> u64 {
        self.admission().apps.values().flat_map(|app| app.refusals.values()).sum()
    }

    /// Waits until no call to GitHub is under way, and none waits that its budget can pay for.
    pub async fn settled(&self) {
        until(|| async {
            let admission = self.admission();
            let can_pay = admission
                .apps
                .values()
                .any(|app| app.points_left.is_none_or(|(_, for_mints)| for_mints >= 5));
            admission.in_flight == 0 && (self.is_idle() || (admission.queued > 0 && !can_pay))
        })
        .await;
    }

    /// A token for each of these installations, in turn, as fast as the budget allows.
    pub async fn tokens(&self, installations: impl IntoIterator<Item = u64>) -> Vec<String> {
        let mut tokens = Vec::new();
        for id in installations {
            let app = AppName::default();
            let left = self.admission().apps.get(&Some(app)).and_then(|app| app.points_left);
            if left.is_some_and(|(_, for_mints)| for_mints < 5) {
                self.advance(MINT_INTERVAL);
            }
            tokens.push(self.token(&format!("/token?installation={id}")).await);
        }
        tokens
    }

    /// `GET target` with a client header.
    pub async fn get(&self, target: &str) -> Reply {
        get(self.address, target).await
    }

    /// The token that `GET target` hands out.
    pub async fn token(&self, target: &str) -> String {
        let reply = self.get(target).await;
        assert_eq!(reply.status, 200, "{target}: {}", reply.text());
        reply.json()["token"].as_str().unwrap().to_owned()
    }

    /// Whether GitHub accepts `token`.
    pub async fn is_accepted(&self, token: &str) -> bool {
        self.github_get("/installation/repositories", &format!("Bearer {token}")).await.status == 200
    }

    /// `GET path` from GitHub itself.
    pub async fn github_get(&self, path: &str, authorization: &str) -> Reply {
        let url = self.github.api_url();
        let base = url.strip_prefix("http://").unwrap();
        let address = base.split('/').next().unwrap();
        let prefix = &base[address.len()..];
        let request = format!(
            "GET {prefix}{path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: test\r\nAuthorization: {authorization}\r\n\
             Connection: close\r\n\r\n"
        );
        raw(TcpStream::connect(address).await.unwrap(), request.as_bytes()).await.unwrap()
    }

    /// How often GitHub was asked for a token.
    #[expect(clippy::misnamed_getters, reason = "attempts count, whether or not they brought a token")]
    pub fn mints(&self) -> usize {
        self.github.counters().mint_requests
    }

    /// Tells the daemon to stop, as a signal would.
    pub fn begin_to_stop(&mut self) {
        drop(self.stop.take());
    }

    /// Waits until the daemon has ended.
    pub async fn stopped(&mut self) {
        self.begin_to_stop();
        self.daemon.take().unwrap().await.unwrap();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(daemon) = &self.daemon {
            daemon.abort();
        }
    }
}

/// Asks again and again until it is so: for what a task in the background does.
pub async fn until<F: Future<Output = bool>>(so: impl Fn() -> F) {
    // Yields also where the question itself does not: what is waited for may run in this very thread.
    let asking = async {
        while !so().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.expect("it never came about");
}

/// An HTTP answer, as it came over the wire.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {}", self.text()))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    pub fn message(&self) -> String {
        self.json()["message"].as_str().unwrap_or_default().to_owned()
    }
}

/// `GET target` from the daemon at `address`, with a client header.
pub async fn get(address: SocketAddr, target: &str) -> Reply {
    send(
        address,
        &format!(
            "GET {target} HTTP/1.1\r\nHost: localhost\r\nGhtokend-Client: test\r\nConnection: close\r\n\r\n"
        ),
    )
    .await
    .unwrap()
}

/// Sends `request` as it is. `None`: the connection was closed without an answer.
pub async fn send(address: SocketAddr, request: &str) -> Option<Reply> {
    raw(TcpStream::connect(address).await.unwrap(), request.as_bytes()).await
}

/// The same over a unix socket.
pub async fn send_unix(path: &std::path::Path, request: &str) -> Option<Reply> {
    raw(UnixStream::connect(path).await.unwrap(), request.as_bytes()).await
}

async fn raw<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, request: &[u8]) -> Option<Reply> {
    // A server that has heard enough may close before it has read all.
    let _ = stream.write_all(request).await;
    answer(stream).await
}

/// The answer that comes before the end of `stream`. `None`: there is none.
pub async fn answer<S: AsyncRead + Unpin>(mut stream: S) -> Option<Reply> {
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer))
        .await
        .expect("the connection stays open");
    parse(&answer)
}

fn parse(answer: &[u8]) -> Option<Reply> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&answer[..end]);
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: BTreeMap<_, _> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let mut body = answer[end + 4..].to_vec();
    if headers.get("transfer-encoding").is_some_and(|encoding| encoding == "chunked") {
        body = unchunk(&body);
    }
    Some(Reply { status, headers, body })
}

fn unchunk(mut chunked: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = chunked.windows(2).position(|window| window == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&chunked[..end]).unwrap().trim(), 16).unwrap();
        if size == 0 {
            break;
        }
        body.extend_from_slice(&chunked[end + 2..end + 2 + size]);
        chunked = &chunked[end + 2 + size + 2..];
    }
    body
}

/// In which the budget of 150 mints a minute pays for another one, after the first 50.
pub const MINT_INTERVAL: Duration = Duration::from_millis(600);
/// For an answer on loopback; reached only by a defect.
const PATIENCE: Duration = Duration::from_secs(30);

pub const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The seconds that a refusal asks to be waited.
pub fn wait(reply: &Reply) -> u64 {
    reply.header("retry-after").unwrap_or_else(|| panic!("no wait: {}", reply.text())).parse().unwrap()
}
