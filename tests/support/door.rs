//! A door before the emulator: it counts who knocks, can be shut, shows the certificate that it is given, and puts
//! bytes that no HTTP server would send in the place of an answer.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ghtokend::fake_github::{FakeGithub, Options};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::support::world::{Setup, World, until};

pub type Certificate = rcgen::CertifiedKey<rcgen::KeyPair>;

/// Every request comes on a connection of its own, which is closed after it, unless they are kept.
pub struct Door {
    address: SocketAddr,
    state: Arc<State>,
    opened: Option<JoinHandle<()>>,
    /// Keeps the port while nobody listens there.
    spare: Option<TcpSocket>,
}

struct State {
    github: String,
    certificate: Mutex<Option<TlsAcceptor>>,
    instead: Mutex<Option<Instead>>,
    keeps: AtomicBool,
    connections: AtomicUsize,
    requests: AtomicUsize,
    written: AtomicUsize,
}

/// What comes in the place of an answer.
#[derive(Clone)]
pub struct Instead {
    /// How a request begins to which it comes.
    pub to: &'static str,
    pub bytes: Vec<u8>,
    pub then: Then,
}

/// What happens to the connection after the bytes.
#[derive(Debug, Clone, Copy)]
pub enum Then {
    Closes,
    /// It stays open, and nothing more comes.
    Hangs,
    /// The same, and the bytes come one by one.
    Drips,
    /// Blanks without end.
    Floods,
}

impl Door {
    /// Port 0 is any.
    pub async fn before(github: &FakeGithub, address: SocketAddr) -> Self {
        let state = State {
            github: github.api_url().strip_prefix("http://").unwrap().to_owned(),
            certificate: Mutex::default(),
            instead: Mutex::default(),
            keeps: AtomicBool::default(),
            connections: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            written: AtomicUsize::new(0),
        };
        let first = socket(address);
        let address = first.local_addr().unwrap();
        let mut door = Self { address, state: Arc::new(state), opened: None, spare: Some(socket(address)) };
        door.listen(first.listen(64).unwrap());
        door
    }

    fn listen(&mut self, listener: TcpListener) {
        let state = Arc::clone(&self.state);
        self.opened = Some(tokio::spawn(async move {
            let mut attended = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                state.connections.fetch_add(1, Ordering::SeqCst);
                let state = Arc::clone(&state);
                attended.spawn(async move {
                    let acceptor = state.certificate.lock().unwrap().clone();
                    match acceptor {
                        None => state.attend(stream).await,
                        Some(acceptor) => match acceptor.accept(stream).await {
                            Ok(stream) => state.attend(stream).await,
                            Err(_) => None,
                        },
                    }
                });
            }
        }));
    }

    /// Connections are refused from now on, and cut off if there are any.
    pub async fn shut(&mut self) {
        let opened = self.opened.take().unwrap();
        opened.abort();
        let _ = opened.await;
    }

    pub fn open(&mut self) {
        let listener = self.spare.take().unwrap().listen(64).unwrap();
        self.listen(listener);
    }

    /// Connections neither come about nor are refused any more: nobody takes those that wait, and no more may wait.
    /// What holds their places.
    pub async fn clog(&mut self) -> (TcpListener, Vec<TcpStream>) {
        self.shut().await;
        let listener = self.spare.take().unwrap().listen(1).unwrap();
        let mut waiting = Vec::new();
        for _ in 0..64 {
            match tokio::time::timeout(CONNECTS_WITHIN, TcpStream::connect(self.address)).await {
                Ok(stream) => waiting.push(stream.unwrap()),
                Err(_) => return (listener, waiting),
            }
        }
        panic!("this system lets any number of connections wait")
    }

    /// Shows this certificate from now on.
    pub fn show(&self, certificate: &Certificate) {
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(certificate.signing_key.serialize_der()));
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.cert.der().clone()], key)
            .unwrap();
        *self.state.certificate.lock().unwrap() = Some(TlsAcceptor::from(Arc::new(config)));
    }

    /// Connections stay open after an answer from now on.
    pub fn keep(&self) {
        self.state.keeps.store(true, Ordering::SeqCst);
    }

    /// Whether GitHub's own answers pass, or what.
    pub fn answer(&self, instead: Option<Instead>) {
        *self.state.instead.lock().unwrap() = instead;
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// How many requests were not answered by GitHub.
    pub fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }

    /// How many bytes somebody took of what came in the place of answers.
    pub fn written(&self) -> usize {
        self.state.written.load(Ordering::SeqCst)
    }
}

impl State {
    async fn attend(&self, mut outside: impl AsyncRead + AsyncWrite + Unpin) -> Option<()> {
        loop {
            let request = request(&mut outside).await?;
            let instead = self.instead.lock().unwrap().clone();
            if let Some(instead) = instead.filter(|instead| request.starts_with(instead.to)) {
                self.requests.fetch_add(1, Ordering::SeqCst);
                return self.lie(&mut outside, &instead).await;
            }
            let answer = self.ask(&request).await?;
            if !self.keeps.load(Ordering::SeqCst) {
                outside.write_all(answer.as_bytes()).await.ok()?;
                return outside.shutdown().await.ok();
            }
            let answer = answer.replacen("connection: close\r\n", "", 1);
            outside.write_all(answer.as_bytes()).await.ok()?;
            outside.flush().await.ok()?;
        }
    }

    /// What GitHub answers.
    async fn ask(&self, request: &str) -> Option<String> {
        let mut inside = TcpStream::connect(&self.github).await.unwrap();
        let request = request.replacen("\r\n", "\r\nConnection: close\r\n", 1);
        inside.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        inside.read_to_string(&mut answer).await.ok()?;
        Some(answer)
    }

    async fn lie(
        &self,
        outside: &mut (impl AsyncRead + AsyncWrite + Unpin),
        instead: &Instead,
    ) -> Option<()> {
        let piece = if matches!(instead.then, Then::Drips) { 1 } else { instead.bytes.len().max(1) };
        for bytes in instead.bytes.chunks(piece) {
            self.write(outside, bytes).await?;
            if matches!(instead.then, Then::Drips) {
                tokio::time::sleep(BETWEEN_DRIPS).await;
            }
        }
        match instead.then {
            Then::Closes => outside.shutdown().await.ok(),
            Then::Hangs | Then::Drips => outside.read(&mut [0]).await.ok().map(drop),
            Then::Floods => loop {
                self.write(outside, &[b' '; 64 * 1024]).await?;
            },
        }
    }

    async fn write(&self, outside: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Option<()> {
        outside.write_all(bytes).await.ok()?;
        outside.flush().await.ok()?;
        self.written.fetch_add(bytes.len(), Ordering::SeqCst);
        Some(())
    }
}

/// A socket that is bound and on which nobody listens. Two may have one address until somebody does.
fn socket(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    socket
}

/// Head and body.
async fn request(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut read = Vec::new();
    loop {
        if stream.read_buf(&mut read).await.ok()? == 0 {
            return None;
        }
        let text = String::from_utf8_lossy(&read).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
            return Some(text);
        }
    }
}

/// A daemon that GitHub has accepted, and the door between them. With a certificate, the daemon trusts whom `ca_file`
/// vouches for.
pub async fn behind_a_door(
    options: Options,
    mut environment: Vec<(&'static str, String)>,
    certificate: Option<&Certificate>,
) -> (World, Door) {
    let github = FakeGithub::start(Options { seed: Some(1), ..options }).await.unwrap();
    let door = Door::before(&github, ([127, 0, 0, 1], 0).into()).await;
    let scheme = if certificate.is_some() { "https://localhost" } else { "http://127.0.0.1" };
    certificate.inspect(|certificate| door.show(certificate));
    environment.push(("GITHUB_API_URL", format!("{scheme}:{}", door.address.port())));
    let mut world = World::with(Setup { environment, ..Setup::default() }).await;
    // The daemon talks to the one behind the door; the world's own stays idle.
    world.github = github;
    // What it asks at its start has been answered by then, and it asks no more unasked.
    until(async || world.get("/readyz").await.status == 200).await;
    (world, door)
}

const BETWEEN_DRIPS: Duration = Duration::from_millis(20);
/// On loopback, where it takes no time at all.
const CONNECTS_WITHIN: Duration = Duration::from_millis(500);
