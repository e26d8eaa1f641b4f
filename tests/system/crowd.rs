//! Ten thousand at once: one mint for all of them, and memory that stays what it was.
//!
//! The daemon is a process of its own here: its memory and its open files are what is looked at.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ghtokend::fake_github::World as GithubWorld;
use ghtokend::fake_github::{Effect, FakeGithub, Fault, Options};
use rustix::process::{Resource, Signal, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, MutexGuard, Semaphore};
use tokio::task::JoinSet;

use crate::support::program::{Daemon, borrowed, variables_for};
use crate::support::world::{answer, get, send, until};

const CROWD: usize = 10_000;
/// The default of `listen.max_connections`.
const PLACES: usize = 1024;
const A_FEW: usize = 8;
const BY_OWNER: &str = "/token?owner=acme";
const MINT: &str = "/app/installations/1/access_tokens";
const LOOK_UP: &str = "/users/acme/installation";

/// A daemon in a process of its own, and its GitHub.
struct Place {
    github: FakeGithub,
    daemon: Daemon,
    address: SocketAddr,
}

impl Place {
    async fn start(options: Options, more: &[(&'static str, &str)]) -> Self {
        let github = FakeGithub::start(Options { seed: Some(1), ..options }).await.unwrap();
        let mut variables = variables_for(&github);
        // A line for each vend is more than the log's pipe holds, which nobody reads before the end.
        variables.push(("GHTOKEND_AUDIT__FILE", "/dev/null".to_owned()));
        variables.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
        let daemon = Daemon::serve(&[], &borrowed(&variables)).await;
        let address = daemon.url.trim_start_matches("http://").parse().unwrap();
        Self { github, daemon, address }
    }

    /// Has everybody ask for `target`, and returns when the daemon has heard them all: its one thread serves who comes
    /// first, so that it has read what was sent before an answer that is asked for after it.
    async fn crowd(&self, target: &str) -> Vec<TcpStream> {
        let request = request("GET", target);
        let mut crowd = Vec::new();
        for _ in 0..CROWD {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            crowd.push(stream);
        }
        self.has_caught_up().await;
        crowd
    }

    async fn has_caught_up(&self) {
        assert_eq!(get(self.address, "/healthz").await.status, 200);
    }

    /// The value of a metric; 0 if it is not there yet.
    async fn metric(&self, name: &str) -> usize {
        let metrics = get(self.address, "/metrics").await.text();
        let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse().unwrap())
    }

    /// How many requests for a token had this outcome.
    async fn vends(&self, outcome: &str) -> usize {
        self.metric(&format!("ghtokend_vends_total{{app=\"default\",outcome=\"{outcome}\"}}")).await
    }

    /// A line of what the system says about the daemon's memory, in KiB.
    fn memory(&self, name: &str) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.daemon.child.id().unwrap())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// The most memory that the daemon had, in KiB, without the pages of its file: a limit takes those back.
    fn peak(&self) -> u64 {
        self.memory("VmHWM") - self.memory("RssFile")
    }

    /// Sends all of these, a few at a time, and all are granted.
    async fn ask(&self, requests: impl Iterator<Item = String>) {
        let mut asking = JoinSet::new();
        for request in requests {
            if asking.len() == A_FEW {
                let status: u16 = asking.join_next().await.unwrap().unwrap();
                assert!(status < 300, "{status}");
            }
            let address = self.address;
            asking.spawn(async move { send(address, &request).await.unwrap().status });
        }
        assert!(asking.join_all().await.iter().all(|status| *status < 300));
    }

    /// Stops the daemon, which has nothing to complain of.
    async fn ends_well(self) {
        self.daemon.signal(Signal::TERM);
        let (code, log) = self.daemon.ended().await;
        assert_eq!(code, 0, "{log}");
        for word in ["a defect", "ERROR", "accept failed"] {
            assert!(!log.contains(word), "{log}");
        }
    }
}

/// What is waited for without end elsewhere: the ways in which ten thousand can go wrong include that it never comes.
async fn in_time<T>(coming: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), coming).await.expect("it never came about")
}

/// On a connection of its own.
fn request(method: &str, target: &str) -> String {
    format!(
        "{method} {target} HTTP/1.1\r\nHost: localhost\r\nGhtokend-Client: test\r\nConnection: close\r\n\r\n"
    )
}

/// One crowd at a time, with as many open files as it takes. `None`: this system does not let us.
async fn room() -> Option<MutexGuard<'static, ()>> {
    static ROOM: Mutex<()> = Mutex::const_new(());
    // Other tests of this process have open files too.
    let wanted = CROWD as u64 + 4_000;
    let mut limit = getrlimit(Resource::Nofile);
    let is_below = |bound: Option<u64>| bound.is_some_and(|bound| bound < wanted);
    if is_below(limit.maximum) {
        eprintln!(
            "\n!!! NOT TESTED with {CROWD} clients: this system allows fewer open files (ulimit -Hn {wanted})\n"
        );
        return None;
    }
    if is_below(limit.current) {
        limit.current = Some(wanted);
        setrlimit(Resource::Nofile, limit).unwrap();
    }
    Some(ROOM.lock().await)
}

#[tokio::test]
async fn cold_crowd_of_10000_costs_one_lookup_one_mint() {
    let Some(_room) = room().await else { return };
    let place = Place::start(Options::default(), &[("GHTOKEND_LISTEN__MAX_CONNECTIONS", "11000")]).await;
    let (look_up, mint) = (place.github.hold("GET", LOOK_UP), place.github.hold("POST", MINT));
    let crowd = place.crowd(BY_OWNER).await;
    in_time(look_up.reached(1)).await;
    look_up.release();
    in_time(mint.reached(1)).await;
    place.has_caught_up().await;
    mint.release();
    let mut tokens = BTreeSet::new();
    for stream in crowd {
        let reply = answer(stream).await.unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text());
        tokens.insert(reply.json()["token"].as_str().unwrap().to_owned());
    }
    assert_eq!(tokens.len(), 1);
    assert_eq!((place.github.count("GET", LOOK_UP), place.github.count("POST", MINT)), (1, 1));
    assert_eq!(place.vends("minted").await, CROWD, "some were too late to wait for the mint");
    place.ends_well().await;
}

#[tokio::test]
async fn crowd_of_10000_leaving_during_a_mint_costs_one() {
    let Some(_room) = room().await else { return };
    let place = Place::start(Options::default(), &[("GHTOKEND_LISTEN__MAX_CONNECTIONS", "11000")]).await;
    let mint = place.github.hold("POST", MINT);
    let crowd = place.crowd(BY_OWNER).await;
    in_time(mint.reached(1)).await;
    drop(crowd);
    place.has_caught_up().await;
    mint.release();
    assert_eq!(get(place.address, BY_OWNER).await.status, 200);
    assert_eq!((place.github.count("GET", LOOK_UP), place.github.count("POST", MINT)), (1, 1));
    let vends = place.vends("minted").await + place.vends("cached").await;
    assert_eq!(vends, 1, "some had not left before the mint came");
    place.ends_well().await;
}

#[tokio::test]
async fn crowd_above_max_connections_costs_one_mint() {
    let Some(_room) = room().await else { return };
    let place = Place::start(Options::default(), &[]).await;
    let mint = place.github.hold("POST", MINT);
    let knocking = Arc::new(AtomicUsize::new(0));
    // Real callers send as soon as they are connected. All of these in one thread would not, and who stays silent for
    // long gives way.
    let connecting = Arc::new(Semaphore::new(64));
    let mut crowd = JoinSet::new();
    for _ in 0..CROWD {
        let (address, knocking, connecting) = (place.address, Arc::clone(&knocking), Arc::clone(&connecting));
        crowd.spawn(async move {
            knocking.fetch_add(1, Ordering::Relaxed);
            let turn = connecting.acquire().await.unwrap();
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(request("GET", BY_OWNER).as_bytes()).await.unwrap();
            drop(turn);
            answer(stream).await.unwrap()
        });
    }
    until(|| async { knocking.load(Ordering::Relaxed) == CROWD }).await;
    in_time(mint.reached(1)).await;
    mint.release();
    let replies = crowd.join_all().await;
    assert!(replies.iter().all(|reply| reply.status == 200));
    assert_eq!(place.vends("minted").await + place.vends("cached").await, CROWD);
    assert!(place.vends("minted").await <= PLACES, "more waited for the mint than there is room for");
    assert_eq!((place.github.count("GET", LOOK_UP), place.github.count("POST", MINT)), (1, 1));
    place.ends_well().await;
}

#[tokio::test]
async fn ten_thousand_renewals_leave_the_memory_as_it_was() {
    const KEYS: u64 = 1500;
    let world = GithubWorld::with_installations(KEYS);
    let settled_at_once = ("GHTOKEND_CACHE__SETTLE", "0s");
    let place = Place::start(Options { world, ..Options::default() }, &[NO_BUDGET, settled_at_once]).await;
    // GitHub's own endpoint puts a new token in the place of one that has lived a sixtieth of its life: here, a second.
    place.github.fault(Fault::new(Effect::Lifetime { seconds: 60 }).on("POST", "/app/installations"));
    let renewed = async |times: usize| {
        while place.github.counters().mints < times {
            place
                .ask((1..=KEYS).map(|id| request("POST", &format!("/app/installations/{id}/access_tokens"))))
                .await;
        }
        place.memory("VmRSS")
    };
    // The allocator takes a while to find its shape, so that the first ten thousand may need more; a leak never ends.
    let mut seen = vec![renewed(3_000).await];
    for times in [13_000, 23_000, 33_000] {
        seen.push(renewed(times).await);
        if seen[seen.len() - 1] <= seen[seen.len() - 2] * 105 / 100 {
            return place.ends_well().await;
        }
    }
    panic!("KiB after each ten thousand: {seen:?}");
}

/// Many tokens are asked for, ten thousand clients want to stay connected, and a hundred of them send a MiB. The most
/// memory that it takes, in KiB; `None` if there can be no such crowd here.
async fn peak_under_load(tokens: u64, places: usize, more: &[(&'static str, &str)]) -> Option<u64> {
    const SCOPES: [&str; 4] =
        ["", "&permissions=contents:read", "&permissions=contents:write", "&permissions=metadata:read"];
    let _room = room().await?;
    let installations = tokens / SCOPES.len() as u64;
    let world = GithubWorld::with_installations(installations);
    let place = Place::start(Options { world, ..Options::default() }, &[&[NO_BUDGET], more].concat()).await;
    let targets = (0..tokens).map(|n| {
        format!("/token?installation={}{}", n / SCOPES.len() as u64 + 1, SCOPES[n as usize % SCOPES.len()])
    });
    place.ask(targets.map(|target| request("GET", &target))).await;
    assert_eq!(place.github.counters().mint_requests as u64, tokens);
    let mut crowd = JoinSet::new();
    let (refused, served) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    for n in 0..CROWD {
        let (address, refused, served) = (place.address, Arc::clone(&refused), Arc::clone(&served));
        crowd.spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            if n < 100 {
                let _ = stream.write_all(ENDLESS.as_bytes()).await;
                let _ = stream.write_all(&[b'x'; 1024 * 1024]).await;
                // None: it was silent for too long in this crowd.
                assert!(answer(&mut stream).await.is_none_or(|reply| reply.status == 413));
                refused.fetch_add(1, Ordering::Relaxed);
                return;
            }
            // Who is silent gives way to others, as does who stays after its answer.
            if stream.write_all(STAYING.as_bytes()).await.is_err()
                || stream.read_exact(&mut [0; 15]).await.is_err()
            {
                return;
            }
            served.fetch_add(1, Ordering::Relaxed);
            std::future::pending().await
        });
    }
    until(|| async { refused.load(Ordering::Relaxed) == 100 && served.load(Ordering::Relaxed) >= places })
        .await;
    let peak = place.peak();
    crowd.shutdown().await;
    place.ends_well().await;
    Some(peak)
}

#[tokio::test]
async fn the_defaults_fit_into_the_memory_that_the_manifest_gives() {
    assert!(
        include_str!("../../src/guide/kubernetes.md")
            .contains("limits: { memory: 128Mi } # above cache.max_bytes")
    );
    let Some(peak) = peak_under_load(10_000, PLACES, &[]).await else { return };
    assert!(peak < 128 * 1024, "{peak} KiB");
}

#[tokio::test]
async fn small_limits_fit_in_32_mib() {
    let smaller = [("GHTOKEND_LISTEN__MAX_CONNECTIONS", "512"), ("GHTOKEND_CACHE__MAX_BYTES", "8MiB")];
    let Some(peak) = peak_under_load(10_000, 512, &smaller).await else { return };
    assert!(peak < 32 * 1024, "{peak} KiB");
}

const ENDLESS: &str = "POST /token/reject HTTP/1.1\r\nHost: localhost\r\nGhtokend-Client: test\r\n\
                       Transfer-Encoding: chunked\r\n\r\n100000\r\n";
const STAYING: &str =
    "GET /token?installation=1 HTTP/1.1\r\nHost: localhost\r\nGhtokend-Client: test\r\n\r\n";
const NO_BUDGET: (&str, &str) = ("GHTOKEND_GITHUB__MINTS_PER_MINUTE", "0");
