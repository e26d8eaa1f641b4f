//! The name of GitHub: it does not exist, nobody says where it leads, or it leads elsewhere than before. The daemon is a
//! process in a mount namespace of its own, where another name server is configured than on the rest of the machine.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ghtokend::clock::{Clock as _, SystemClock};
use ghtokend::fake_github::{FakeGithub, Options, World as GithubWorld};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::net::UdpSocket;
use tokio::process::Command;
use tokio::task::{JoinHandle, JoinSet};

use crate::support::door::{Certificate, Door, Instead, Then};
use crate::support::program::{Daemon, borrowed, outcome, variables_for, wrapped};
use crate::support::world::{Reply, get, seconds, until, wait};
use crate::tls::{authority, certificate};

/// What the name server says about GitHub's name.
#[derive(Clone, Copy)]
enum Says {
    At(Ipv4Addr),
    NoSuchName,
    Nothing,
}

/// Knows one name, on an address of its own.
struct NameServer {
    address: Ipv4Addr,
    state: Arc<Mutex<State>>,
    serving: JoinHandle<()>,
}

struct State {
    says: Says,
    look_ups: usize,
}

impl NameServer {
    /// Other runs of these tests may be under way, so the first address that is free; or why there is none.
    async fn start() -> std::io::Result<Self> {
        let mut socket = Err(ErrorKind::AddrInUse.into());
        for number in 1..=254 {
            socket = UdpSocket::bind((Ipv4Addr::new(127, 53, 0, number), 53)).await;
            if !socket.as_ref().is_err_and(|error| error.kind() == ErrorKind::AddrInUse) {
                break;
            }
        }
        let socket = socket?;
        let SocketAddr::V4(address) = socket.local_addr()? else { unreachable!("it was asked for") };
        let address = *address.ip();
        let state = Arc::new(Mutex::new(State { says: Says::At(address), look_ups: 0 }));
        let serving = tokio::spawn(serve(socket, Arc::clone(&state)));
        Ok(Self { address, state, serving })
    }

    /// What it says from now on.
    fn says(&self, says: Says) {
        self.state.lock().unwrap().says = says;
    }

    /// How often it was asked for GitHub's address. The questions for one by IPv6, which come with these, do not count.
    fn look_ups(&self) -> usize {
        self.state.lock().unwrap().look_ups
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(socket: UdpSocket, state: Arc<Mutex<State>>) {
    let mut query = [0; 512];
    loop {
        let (length, asker) = socket.recv_from(&mut query).await.unwrap();
        let answer = state.lock().unwrap().answer(&query[..length]);
        if let Some(answer) = answer {
            socket.send_to(&answer, asker).await.unwrap();
        }
    }
}

impl State {
    /// As in RFC 1035, section 4.1: a head of 12 bytes, the question, and the answer if there is one.
    fn answer(&mut self, query: &[u8]) -> Option<Vec<u8>> {
        // Of a name, the last label is empty; a type and a class come after it.
        let end_of_name = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap() + 1;
        let (name, question) = (&query[12..end_of_name], &query[12..end_of_name + 4]);
        let labels = NAME.split('.').chain([""]);
        let ours = labels.map(|label| [&[u8::try_from(label.len()).unwrap()], label.as_bytes()].concat());
        let is_ours = name == ours.collect::<Vec<_>>().concat();
        let asks_for_ipv4 = question.ends_with(&[0, 1, 0, 1]);
        self.look_ups += usize::from(is_ours && asks_for_ipv4);
        let (code, address) = match self.says {
            Says::Nothing => return None,
            Says::At(address) if is_ours => (NO_ERROR, asks_for_ipv4.then_some(address)),
            _ => (NO_SUCH_NAME, None),
        };
        let answers = u8::from(address.is_some());
        let mut answer = [&query[..2], &[0x81, 0x80 | code, 0, 1, 0, answers, 0, 0, 0, 0], question].concat();
        if let Some(address) = address {
            // The name of the question, an address, of IPv4, for no second longer, in four bytes.
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
            answer.extend(address.octets());
        }
        Some(answer)
    }
}

/// A GitHub with a name, and what a daemon needs to find it.
struct Site {
    github: FakeGithub,
    names: NameServer,
    certificate: Certificate,
    dir: TempDir,
}

impl Site {
    /// With further lines for `resolv.conf`.
    async fn start(further: &str) -> Self {
        let names = NameServer::start().await.expect("port 53 on loopback is taken, or needs root");
        let dir = tempfile::tempdir().unwrap();
        let etc = dir.path().join("etc");
        std::fs::create_dir(&etc).unwrap();
        // Else the machine's own domain is searched, where names are tried again that do not exist.
        let resolv = format!("nameserver {}\nsearch elsewhere.test\n{further}", names.address);
        std::fs::write(etc.join("resolv.conf"), resolv).unwrap();
        std::fs::write(etc.join("nsswitch.conf"), "hosts: files dns\n").unwrap();
        std::fs::write(etc.join("hosts"), "").unwrap();
        let authority = authority("Known");
        std::fs::write(dir.path().join("ca.pem"), authority.pem()).unwrap();
        let certificate = certificate(&authority, NAME, 4000);
        let options = Options {
            seed: Some(1),
            world: GithubWorld::with_installations(CROWD + 4),
            ..Options::default()
        };
        let github = FakeGithub::start(options).await.unwrap();
        let site = Self { github, names, certificate, dir };
        let (code, _, refusal) = outcome(site.program(&["--version"], &[])).await;
        assert_eq!(code, 0, "{refusal}");
        site
    }

    /// The program in a namespace where all of `/etc` is ours. What is mounted there is mounted nowhere else.
    fn program(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
        let script = format!("mount --bind '{}/etc' /etc; exec \"$0\" \"$@\"", self.dir.path().display());
        let wrapper = ["unshare", "--mount", "--propagation", "private", "/bin/sh", "-ec", &script];
        wrapped(&wrapper, arguments, variables)
    }

    /// A door before GitHub at `address`. Port 0 is any.
    async fn door(&self, address: Ipv4Addr, port: u16) -> Door {
        let door = Door::before(&self.github, (address, port).into()).await;
        door.show(&self.certificate);
        door
    }

    fn variables(&self, door: &Door, further: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
        let mut variables = variables_for(&self.github);
        variables.push(("GITHUB_API_URL", format!("https://{NAME}:{}", door.port())));
        variables.push(("GHTOKEND_GITHUB__CA_FILE", self.dir.path().join("ca.pem").display().to_string()));
        variables.extend(further.iter().map(|(name, value)| (*name, (*value).to_owned())));
        variables
    }

    async fn daemon(&self, door: &Door, further: &[(&'static str, &str)]) -> Daemon {
        let variables = self.variables(door, further);
        let arguments = ["serve", "--listen", "127.0.0.1:0"];
        Daemon::start(self.program(&arguments, &borrowed(&variables))).await
    }

    /// A daemon that GitHub has accepted, and that asks nothing more unasked.
    async fn accepted(&self, door: &Door, further: &[(&'static str, &str)]) -> Daemon {
        let daemon = self.daemon(door, further).await;
        until(async || get(daemon.address(), "/readyz").await.status == 200).await;
        daemon
    }

    fn mint_requests(&self) -> usize {
        self.github.counters().mint_requests
    }
}

async fn ask(daemon: &Daemon, id: u64) -> Reply {
    get(daemon.address(), &format!("/token?installation={id}")).await
}

async fn token(daemon: &Daemon, id: u64) -> String {
    let reply = ask(daemon, id).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()["token"].as_str().unwrap().to_owned()
}

/// What a client does that is told to come again.
async fn as_long_as_told(reply: &Reply) {
    tokio::time::sleep(seconds(wait(reply))).await;
}

fn threads(daemon: &Daemon) -> usize {
    let tasks = format!("/proc/{}/task", daemon.pid().as_raw_nonzero());
    std::fs::read_dir(Path::new(&tasks)).unwrap().count()
}

#[cfg_attr(not(has_mount_namespaces), ignore = "mount namespaces need root and unshare")]
#[tokio::test]
async fn unknown_host_name_is_a_503_with_backoff() {
    let site = Site::start("").await;
    let door = site.door(site.names.address, 0).await;
    let daemon = site.accepted(&door, &[]).await;
    let warm = token(&daemon, 1).await;
    site.names.says(Says::NoSuchName);
    let (look_ups, connections) = (site.names.look_ups(), door.connections());
    let (mut last, mut stopped) = (None, None);
    for id in 2..=10 {
        let reply = ask(&daemon, id).await;
        assert_eq!((reply.status, reply.code().as_str()), (503, "github_unavailable"));
        let says = format!("could not connect to {NAME} (failed to lookup address information");
        assert!(reply.message().contains(&says), "{}", reply.message());
        // Three times for the first, twice for the next: that was five times in a row. The pause is half a second at
        // least, and each after it longer.
        let stopped = *stopped.get_or_insert_with(|| SystemClock.boot());
        let further = SystemClock.boot().since(stopped).as_millis() as usize / 500;
        match id {
            2 => assert_eq!(site.names.look_ups() - look_ups, 3),
            _ => assert!((5..=5 + further).contains(&(site.names.look_ups() - look_ups))),
        }
        assert_eq!(token(&daemon, 1).await, warm);
        last = Some(reply);
    }
    assert_eq!((door.connections(), site.mint_requests()), (connections, 1));
    let look_ups = site.names.look_ups();
    site.names.says(Says::At(site.names.address));
    as_long_as_told(&last.unwrap()).await;
    for id in 2..=10 {
        token(&daemon, id).await;
    }
    assert_eq!(site.names.look_ups() - look_ups, 9);
    assert_eq!((door.connections() - connections, site.mint_requests()), (9, 10));
}

#[cfg_attr(not(has_mount_namespaces), ignore = "mount namespaces need root and unshare")]
#[tokio::test]
async fn a_daemon_that_is_up_before_the_name_is_ready_soon_after_it() {
    let site = Site::start("").await;
    let door = site.door(site.names.address, 0).await;
    site.names.says(Says::NoSuchName);
    let daemon = site.daemon(&door, &[]).await;
    until(async || get(daemon.address(), "/readyz").await.text().contains("could not connect")).await;
    let reply = ask(&daemon, 1).await;
    assert_eq!((reply.status, reply.code().as_str()), (503, "github_unavailable"));
    assert_eq!(get(daemon.address(), "/healthz").await.status, 200);
    site.names.says(Says::At(site.names.address));
    let is_ready = async {
        while get(daemon.address(), "/readyz").await.status != 200 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(seconds(60), is_ready).await.expect("it asks no more");
    token(&daemon, 1).await;
    assert_eq!((site.github.count("GET", "/app"), site.mint_requests()), (1, 1));
}

#[cfg_attr(not(has_mount_namespaces), ignore = "mount namespaces need root and unshare")]
#[tokio::test]
async fn unresponsive_dns_times_out_without_blocking_others() {
    let site = Site::start(NEVER_GIVES_UP).await;
    let door = site.door(site.names.address, 0).await;
    let daemon = site.accepted(&door, &[("GHTOKEND_GITHUB__CONNECT_TIMEOUT", "2s")]).await;
    let warm = token(&daemon, 1).await;
    let (look_ups, threads_before) = (site.names.look_ups(), threads(&daemon));
    site.names.says(Says::Nothing);
    let address = daemon.address();
    let hanging = tokio::spawn(async move { get(address, "/token?installation=2").await });
    until(async || site.names.look_ups() > look_ups).await;
    assert_eq!(get(address, "/healthz").await.status, 200);
    assert_eq!(token(&daemon, 1).await, warm);
    assert!(!hanging.is_finished(), "they waited for it");
    let first = hanging.await.unwrap();
    // A crowd asks once, and keeps one thread. That was more than five times in a row.
    let mut crowd = JoinSet::new();
    crowd.spawn(async { first });
    for id in 3..=CROWD {
        crowd.spawn(async move { get(address, &format!("/token?installation={id}")).await });
    }
    for reply in crowd.join_all().await {
        assert_eq!((reply.status, reply.code().as_str()), (504, "github_timeout"));
        assert!((1..=10).contains(&wait(&reply)), "{}", wait(&reply));
        assert!(reply.message().contains("longer than github.connect_timeout"), "{}", reply.message());
    }
    for id in CROWD + 1..=CROWD + 4 {
        let reply = ask(&daemon, id).await;
        assert_eq!((reply.status, reply.code().as_str()), (504, "github_timeout"));
    }
    // One for the first and one for the crowd, unless that was quick enough to join the first, and one when the pause is
    // over.
    assert!(site.names.look_ups() - look_ups <= 3, "{}", site.names.look_ups() - look_ups);
    assert!(threads(&daemon) <= threads_before + 2, "{threads_before}, and then {}", threads(&daemon));

    // One that answers again is asked anew, whatever hangs.
    site.names.says(Says::At(site.names.address));
    as_long_as_told(&ask(&daemon, CROWD + 4).await).await;
    token(&daemon, CROWD + 4).await;

    site.names.says(Says::Nothing);
    let look_ups = site.names.look_ups();
    let (reply, ()) = tokio::join!(ask(&daemon, 3), async {
        until(async || site.names.look_ups() > look_ups).await;
        daemon.signal(Signal::TERM);
    });
    assert_eq!((reply.status, reply.code().as_str()), (504, "github_timeout"), "{}", reply.text());
    let ended = tokio::time::timeout(seconds(20), daemon.ended()).await;
    assert_eq!(ended.expect("it waits for the name server").0, 0);
    assert_eq!(site.mint_requests(), 2);
}

#[cfg_attr(not(has_mount_namespaces), ignore = "mount namespaces need root and unshare")]
#[tokio::test]
async fn a_check_ends_in_time_although_the_name_server_never_answers() {
    let site = Site::start(NEVER_GIVES_UP).await;
    let door = site.door(site.names.address, 0).await;
    site.names.says(Says::Nothing);
    let variables = site.variables(&door, &[("GHTOKEND_GITHUB__CONNECT_TIMEOUT", "1s")]);
    let checked = outcome(site.program(&["check", "--quiet"], &borrowed(&variables)));
    let checked = tokio::time::timeout(seconds(30), checked).await;
    let (code, stdout, stderr) = checked.expect("it waits for the name server");
    assert!(code == 1 && stdout.contains("longer than github.connect_timeout"), "{stdout}{stderr}");
    assert_eq!(site.names.look_ups(), 1);
}

#[cfg_attr(not(has_mount_namespaces), ignore = "mount namespaces need root and unshare")]
#[tokio::test]
async fn a_new_address_is_used_as_soon_as_the_old_one_is_no_good() {
    let site = Site::start("").await;
    let (here, there) = (site.names.address, Ipv4Addr::from_bits(site.names.address.to_bits() + (1 << 8)));
    let mut old = site.door(here, 0).await;
    let new = site.door(there, old.port()).await;
    for door in [&old, &new] {
        door.keep();
    }
    let daemon = site.accepted(&old, &[("GHTOKEND_GITHUB__REQUEST_TIMEOUT", "2s")]).await;
    token(&daemon, 1).await;
    token(&daemon, 2).await;
    assert_eq!((old.connections(), new.connections(), site.names.look_ups()), (1, 0, 1), "it is kept");

    // It breaks, and connections are refused from then on.
    site.names.says(Says::At(there));
    old.shut().await;
    token(&daemon, 3).await;
    token(&daemon, 4).await;
    assert_eq!((old.connections(), new.connections(), site.names.look_ups()), (1, 1, 2));

    // It falls silent, and no more than one request is lost to it.
    old.open();
    site.names.says(Says::At(here));
    new.answer(Some(Instead { to: "", bytes: Vec::new(), then: Then::Hangs }));
    let reply = ask(&daemon, 5).await;
    assert_eq!((reply.status, reply.code().as_str()), (504, "github_timeout"), "{}", reply.text());
    token(&daemon, 6).await;
    as_long_as_told(&reply).await;
    token(&daemon, 5).await;
    assert_eq!((old.connections(), new.connections(), site.names.look_ups()), (2, 1, 3));
    assert_eq!((site.mint_requests(), new.requests()), (6, 1));
}

const NAME: &str = "api.github.test";
/// Who asks at the same time, each for another token.
const CROWD: u64 = 30;
const NO_ERROR: u8 = 0;
const NO_SUCH_NAME: u8 = 3;
/// A minute for each look-up, with the longest pause that glibc knows: nothing here lasts that long.
const NEVER_GIVES_UP: &str = "options timeout:30 attempts:2\n";
