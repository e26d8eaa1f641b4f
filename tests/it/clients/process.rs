//! The daemon as a process among others: what becomes of it when its log is not read, its files run out, it is told to
//! stop or is killed, or the machine knows no name.

use std::io::{PipeReader, PipeWriter, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use ghtokend::clock::{Clock, SystemClock};
use ghtokend::fake_github::{FakeGithub, Options, World as GithubWorld};
use rustix::fs::OFlags;
use rustix::process::{Resource, Rlimit, Signal, getrlimit, prlimit};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::support::program::{Daemon, borrowed, program, run, variables_for, wrapped};
use crate::support::world::{Reply, Setup, World, get, send, send_unix, until};
use crate::upstream::admission::ask;

async fn github() -> FakeGithub {
    FakeGithub::start(Options { seed: Some(1), ..Options::default() }).await.unwrap()
}

/// `GET /token` as `client`, whose name goes into the log.
async fn token_for(address: SocketAddr, client: &str) -> Reply {
    let head = format!(
        "GET /token?owner=acme HTTP/1.1\r\nHost: localhost\r\nGhtokend-Client: {client}\r\nConnection: close\r\n\r\n"
    );
    send(address, &head).await.unwrap()
}

/// The value of a metric that has no labels.
async fn metric(address: SocketAddr, name: &str) -> u64 {
    let text = get(address, "/metrics").await.text();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("{name} is not in\n{text}")).parse().unwrap()
}

const DROPPED: &str = "ghtokend_log_lines_dropped_total";

/// Asks so often, with so much to say, that neither a pipe nor the daemon's own buffer can hold the log of it.
async fn fill_the_log(address: SocketAddr) {
    let filler = "filler ".repeat(1000);
    for number in 0..250 {
        let reply = token_for(address, &format!("{number} {filler}")).await;
        assert_eq!(reply.status, 200, "{number}: {}", reply.text());
    }
}

/// The exit code of a daemon whose log nobody reads.
async fn exit_code(mut daemon: Daemon) -> i32 {
    let status = tokio::time::timeout(Duration::from_secs(30), daemon.child.wait()).await;
    status.expect("it waits for its reader").unwrap().code().unwrap()
}

/// The log up to the line that is the `last`: the numbers at the beginning of the clients' names, and that line.
async fn numbers_until(daemon: &mut Daemon, last: impl Fn(&Value) -> bool) -> (Vec<u32>, Value) {
    let mut numbers = Vec::new();
    loop {
        let line = tokio::time::timeout(Duration::from_secs(30), daemon.stderr.next_line()).await;
        let line = line.expect("nothing more is said").unwrap().expect("the daemon has ended");
        let line: Value = serde_json::from_str(&line).unwrap();
        let number = line["client"].as_str().and_then(|client| client.split(' ').next()?.parse::<u32>().ok());
        numbers.extend(number);
        if last(&line) {
            return (numbers, line);
        }
    }
}

fn says(message: &str) -> impl Fn(&Value) -> bool {
    move |line| line["message"].as_str().unwrap().starts_with(message)
}

#[tokio::test]
async fn unread_log_blocks_neither_requests_nor_shutdown() {
    let github = github().await;
    let mut variables = variables_for(&github);
    for (delay, signals, code) in [("0s", 1, 0), ("1h", 2, 1)] {
        variables.push(("GHTOKEND_SHUTDOWN__DELAY", delay.to_owned()));
        let daemon = Daemon::serve(&[], &borrowed(&variables)).await;
        fill_the_log(daemon.address()).await;
        assert!(metric(daemon.address(), DROPPED).await > 0);
        daemon.signal(Signal::TERM);
        if signals == 2 {
            // Drained, what needs a mint is refused: so it has heard the first.
            until(|| async { get(daemon.address(), "/token?owner=octocat").await.status == 503 }).await;
            daemon.signal(Signal::TERM);
        }
        assert_eq!(exit_code(daemon).await, code);
    }
}

#[tokio::test]
async fn resumed_log_reader_learns_the_dropped_line_count() {
    let github = github().await;
    let mut daemon = Daemon::serve(&[], &borrowed(&variables_for(&github))).await;
    fill_the_log(daemon.address()).await;
    let dropped = metric(daemon.address(), DROPPED).await;
    let (numbers, gap) = numbers_until(&mut daemon, says("log lines dropped")).await;
    assert_eq!(gap["lines"], dropped);
    assert!(numbers.is_sorted() && numbers.len() as u64 == 250 - dropped, "{numbers:?}");
    // From here on, nothing is missing.
    assert_eq!(token_for(daemon.address(), "1000 back").await.status, 200);
    daemon.signal(Signal::TERM);
    let (numbers, _) = numbers_until(&mut daemon, says("stopped")).await;
    assert_eq!(numbers, [1000]);
    assert_eq!(daemon.ended().await, (0, String::new()));
}

#[tokio::test]
async fn a_slow_reader_of_the_log_misses_no_line() {
    let github = github().await;
    let mut daemon = Daemon::serve(&[], &borrowed(&variables_for(&github))).await;
    let filler = "filler ".repeat(100);
    for number in 0..300 {
        assert_eq!(token_for(daemon.address(), &format!("{number} {filler}")).await.status, 200);
    }
    assert_eq!(metric(daemon.address(), DROPPED).await, 0);
    let is_last = |line: &Value| line["client"].as_str().is_some_and(|client| client.starts_with("299 "));
    let (numbers, _) = numbers_until(&mut daemon, is_last).await;
    assert_eq!(numbers, Vec::from_iter(0..300));
    daemon.signal(Signal::TERM);
    let (numbers, _) = numbers_until(&mut daemon, says("stopped")).await;
    assert_eq!(numbers, [0; 0]);
    assert_eq!(daemon.ended().await, (0, String::new()));
}

#[tokio::test]
async fn closed_log_pipe_does_not_stop_the_daemon() {
    let github = github().await;
    let Daemon { mut child, url, stderr, .. } = Daemon::serve(&[], &borrowed(&variables_for(&github))).await;
    drop(stderr);
    let address = url.strip_prefix("http://").unwrap().parse().unwrap();
    for number in 0..3 {
        assert_eq!(token_for(address, &number.to_string()).await.status, 200);
    }
    until(|| async { metric(address, DROPPED).await >= 3 }).await;
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(child.wait().await.unwrap().code(), Some(0));
}

/// The end of a pipe that is full, and whoever does not read it.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    rustix::fs::fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
    // The smallest writes at last, so that not a byte more finds room.
    for size in [4096, 1] {
        while writer.write(&vec![b'.'; size]).is_ok() {}
    }
    rustix::fs::fcntl_setfl(&writer, OFlags::empty()).unwrap();
    (reader, writer)
}

#[tokio::test]
async fn an_error_at_the_start_ends_it_although_nobody_reads_of_it() {
    let github = github().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let (_reader, writer) = full_pipe();
    let mut command = program(&["serve", "--listen", &listen], &borrowed(&variables_for(&github)));
    let mut child = command.stderr(writer).spawn().unwrap();
    let status = tokio::time::timeout(Duration::from_secs(30), child.wait()).await;
    assert_eq!(status.expect("it waits for its reader").unwrap().code(), Some(1));
}

#[tokio::test]
async fn full_disk_under_the_audit_file_is_logged() {
    let github = github().await;
    let mut variables = variables_for(&github);
    variables.push(("GHTOKEND_AUDIT__FILE", "/dev/full".to_owned()));
    let mut daemon = Daemon::serve(&[], &borrowed(&variables)).await;
    // More than a pipe holds: of these lines, too, nobody has to read any.
    for _ in 0..1000 {
        assert_eq!(send(daemon.address(), TOKEN).await.unwrap().status, 200);
    }
    for _ in 0..1000 {
        let line = daemon.says("audit line could not be written to audit.file").await;
        assert!(
            line.contains("ERROR") && line.contains("request_id") && line.contains("os error 28"),
            "{line}"
        );
    }
}

/// A connection that is kept.
struct Kept(TcpStream);

impl Kept {
    async fn open(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.unwrap())
    }

    async fn gets_a_token(&mut self) -> bool {
        let head = b"GET /token?owner=acme HTTP/1.1\r\nHost: localhost\r\nGhtokend-Client: t\r\n\r\n";
        self.0.write_all(head).await.unwrap();
        let mut answer = vec![0; 16 * 1024];
        let read = tokio::time::timeout(Duration::from_secs(30), self.0.read(&mut answer)).await;
        answer[..read.expect("no answer").unwrap()].starts_with(b"HTTP/1.1 200 ")
    }
}

async fn knock(address: SocketAddr, times: usize) -> Vec<TcpStream> {
    let mut idle = Vec::new();
    for _ in 0..times {
        idle.push(TcpStream::connect(address).await.unwrap());
    }
    idle
}

/// Hundredths of a second that a process has worked.
fn worked(daemon: &Daemon) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", daemon.pid().as_raw_nonzero())).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// `ghtokend serve` on a free port, in a shell that first does `limit`.
fn limited(limit: &str, variables: &[(&str, &str)]) -> Command {
    let script = format!("{limit}; exec \"$0\" \"$@\"");
    wrapped(&["/bin/sh", "-ec", &script], &["serve", "--listen", "127.0.0.1:0"], variables)
}

#[tokio::test]
async fn low_open_file_limit_lowers_max_connections() {
    let github = github().await;
    let variables = variables_for(&github);
    let daemon = Daemon::start(limited("ulimit -n 64", &borrowed(&variables))).await;
    let warning = daemon.said.lines().find(|line| line.contains("open file limit")).unwrap();
    let warning: Value = serde_json::from_str(warning).unwrap();
    let numbers = ["limit", "max_connections", "served"].map(|name| warning[name].as_u64().unwrap());
    assert_eq!((&warning["level"], numbers), (&"WARN".into(), [64, 1024, 40]));

    let mut kept = Kept::open(daemon.address()).await;
    assert!(kept.gets_a_token().await);
    let idle = knock(daemon.address(), 200).await;
    let address = daemon.address();
    let waiting = tokio::spawn(async move { get(address, "/token?owner=acme").await.status });
    for _ in 0..10 {
        assert!(kept.gets_a_token().await);
    }
    drop(idle);
    assert_eq!(waiting.await.unwrap(), 200);
    daemon.signal(Signal::TERM);
    let (code, log) = daemon.ended().await;
    assert!(code == 0 && !log.contains("accept failed"), "{log}");
}

#[tokio::test]
async fn few_open_files_are_no_fault_of_githubs() {
    let world = GithubWorld::with_installations(30);
    let github = FakeGithub::start(Options { seed: Some(1), world, ..Options::default() }).await.unwrap();
    let daemon = Daemon::start(limited("ulimit -n 64", &borrowed(&variables_for(&github)))).await;
    let address = daemon.address();
    let hold = github.hold("POST", "/app/installations");
    // One client alone may have three quarters of the places.
    let client = |id| if id % 2 == 0 { "even" } else { "odd" };
    let asking: Vec<_> = (1..=30).map(|id| ask(address, client(id), id)).collect();
    // No more than these are under way at a time, and the others wait.
    hold.reached(8).await;
    hold.release();
    for asked in asking {
        assert_eq!(asked.await.unwrap().status, 200);
    }
    assert_eq!(github.counters().mint_requests, 30);
    daemon.signal(Signal::TERM);
    let (code, log) = daemon.ended().await;
    assert!(code == 0 && !log.contains("os error 24"), "{log}");
}

#[tokio::test]
async fn the_soft_limit_on_open_files_is_raised() {
    let github = github().await;
    let variables = variables_for(&github);
    let daemon = Daemon::start(limited("ulimit -S -n 64", &borrowed(&variables))).await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", daemon.pid().as_raw_nonzero())).unwrap();
    let limits = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let limits: Vec<&str> = limits.split_whitespace().skip(3).take(2).collect();
    assert!(limits[0] == limits[1] && limits[0] != "64", "{limits:?}");
}

#[tokio::test]
async fn daemon_survives_descriptor_exhaustion() {
    let github = github().await;
    let mut daemon = Daemon::serve(&[], &borrowed(&variables_for(&github))).await;
    let mut kept = Kept::open(daemon.address()).await;
    assert!(kept.gets_a_token().await);
    // From outside, after the start: so it has not been reckoned with.
    let limit = Rlimit { current: Some(24), ..getrlimit(Resource::Nofile) };
    prlimit(Some(daemon.pid()), Resource::Nofile, limit).unwrap();
    let idle = knock(daemon.address(), 40).await;
    let refused = daemon.says("accept failed").await;
    assert!(refused.contains("os error 24"), "{refused}");
    let (began, work) = (SystemClock.boot(), worked(&daemon));
    while SystemClock.boot().since(began) < Duration::from_secs(2) {
        assert!(kept.gets_a_token().await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (worked, passed) = (worked(&daemon) - work, SystemClock.boot().since(began));
    assert!(u128::from(worked) * 10 < passed.as_millis() / 5, "it spins: {worked} of {passed:?}");
    drop(idle);
    assert_eq!(get(daemon.address(), "/token?owner=acme").await.status, 200);
    daemon.signal(Signal::TERM);
    let (code, log) = daemon.ended().await;
    let said = log.matches("accept failed").count() as u64;
    assert!(code == 0 && said <= SystemClock.boot().since(began).as_secs() / 10, "{log}");
}

#[tokio::test]
async fn mint_in_flight_at_sigterm_is_vended() {
    let github = github().await;
    let mut daemon = Daemon::serve(&[], &borrowed(&variables_for(&github))).await;
    let hold = github.hold("POST", "/app/installations");
    let waiting = tokio::spawn(send(daemon.address(), TOKEN));
    hold.reached(1).await;
    daemon.signal(Signal::TERM);
    daemon.says("draining").await;
    let ended = tokio::time::timeout(Duration::from_secs(2), daemon.child.wait()).await;
    assert!(ended.is_err(), "it does not wait for GitHub's answer");
    hold.release();
    let reply = waiting.await.unwrap().unwrap();
    assert_eq!((reply.status, github.counters().mint_requests), (200, 1), "{}", reply.text());
    assert_eq!(daemon.ended().await.0, 0);
}

#[tokio::test]
async fn request_after_shutdown_grace_is_aborted_with_an_error() {
    let github = github().await;
    let mut variables = variables_for(&github);
    variables.push(("GHTOKEND_SHUTDOWN__GRACE", "300ms".to_owned()));
    let daemon = Daemon::serve(&[], &borrowed(&variables)).await;
    let hold = github.hold("POST", "/app/installations");
    let waiting = tokio::spawn(send(daemon.address(), TOKEN));
    hold.reached(1).await;
    daemon.signal(Signal::TERM);
    let reply = waiting.await.unwrap().unwrap();
    assert_eq!((reply.status, reply.code().as_str()), (503, "shutting_down"));
    assert!(reply.header("retry-after").is_some());
    let (code, log) = daemon.ended().await;
    assert!(code == 0 && log.contains("shutdown.grace elapsed"), "{log}");
    assert_eq!(github.counters().mint_requests, 1);
}

#[tokio::test]
async fn an_audit_file_that_is_a_pipe_is_refused() {
    let github = github().await;
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("audit");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
    // Somebody reads it or not.
    for reader in [false, true] {
        let _reader = reader
            .then(|| rustix::fs::open(&pipe, OFlags::RDONLY | OFlags::NONBLOCK, rustix::fs::Mode::empty()));
        let mut variables = variables_for(&github);
        variables.push(("GHTOKEND_AUDIT__FILE", pipe.display().to_string()));
        let (code, _, said) = run(&["serve", "--listen", "127.0.0.1:0"], &borrowed(&variables)).await;
        assert!(code == 78 && said.contains("audit.file: "), "{code}: {said}");
        assert_eq!(said.contains("leave audit.file empty"), reader, "{said}");
    }
}

#[tokio::test]
async fn cached_tokens_are_vended_during_shutdown_delay() {
    let github = github().await;
    let mut variables = variables_for(&github);
    variables.push(("GHTOKEND_SHUTDOWN__DELAY", "3s".to_owned()));
    let mut daemon = Daemon::serve(&[], &borrowed(&variables)).await;
    assert_eq!(get(daemon.address(), "/token?owner=acme").await.status, 200);
    daemon.signal(Signal::TERM);
    daemon.says("draining").await;
    assert_eq!(get(daemon.address(), "/token?owner=acme").await.status, 200);
    let refused = get(daemon.address(), "/token?owner=octocat").await;
    assert_eq!((refused.status, refused.code().as_str()), (503, "shutting_down"));
    assert!(refused.header("retry-after").is_some());
    assert_eq!(github.counters().mint_requests, 1);
    let address = daemon.address();
    assert_eq!(daemon.ended().await.0, 0);
    assert!(TcpStream::connect(address).await.is_err());
}

/// Where in its life a daemon is killed.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Moment {
    AtItsStart(u64),
    InAMint,
    AfterAHandOut,
    WhileDraining,
}

#[tokio::test]
async fn killed_daemon_restarts_on_the_same_socket() {
    use Moment::{AfterAHandOut, AtItsStart, InAMint, WhileDraining};
    let github = github().await;
    let dir = tempfile::tempdir().unwrap();
    let (socket, audit) = (dir.path().join("tokens.sock"), dir.path().join("audit.log"));
    let mut variables = variables_for(&github);
    variables.push(("GHTOKEND_LISTEN__UNIX", socket.display().to_string()));
    variables.push(("GHTOKEND_AUDIT__FILE", audit.display().to_string()));
    variables.push(("GHTOKEND_SHUTDOWN__DELAY", "1h".to_owned()));
    let variables = borrowed(&variables);
    // An address of its own, whose port no client on this machine can be given meanwhile.
    let address = std::net::TcpListener::bind("127.0.0.2:0").unwrap().local_addr().unwrap();
    let listen = address.to_string();
    let (mut handed_out, mut mints) = (0, 0);
    for round in 0..20 {
        let moment = [AtItsStart(round), InAMint, AfterAHandOut, WhileDraining][round as usize % 4];
        let mut command = program(&["serve", "--listen", &listen], &variables);
        if let AtItsStart(milliseconds) = moment {
            let mut child = command.spawn().unwrap();
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
            child.kill().await.unwrap();
            continue;
        }
        let mut daemon = Daemon::start(command).await;
        assert_eq!(get(address, "/healthz").await.status, 200);
        if moment == InAMint {
            let hold = github.hold("POST", "/app/installations");
            let cut_off = tokio::spawn(send(address, TOKEN));
            hold.reached(1).await;
            daemon.child.kill().await.unwrap();
            assert!(cut_off.await.unwrap().is_none());
        } else {
            assert_eq!(send_unix(&socket, TOKEN).await.unwrap().status, 200);
            assert_eq!(send(address, TOKEN).await.unwrap().status, 200);
            handed_out += 2;
            if moment == WhileDraining {
                daemon.signal(Signal::TERM);
                daemon.says("draining").await;
            }
            daemon.child.kill().await.unwrap();
        }
        mints += 1;
        assert!(socket.exists());
    }
    assert_eq!(github.counters().mint_requests, mints);
    let left = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(left.collect::<std::collections::BTreeSet<_>>().len(), 2);
    assert_eq!(vended_lines(&audit), handed_out);
}

const TOKEN: &str =
    "GET /token?owner=acme HTTP/1.1\r\nHost: localhost\r\nGhtokend-Client: t\r\nConnection: close\r\n\r\n";

/// How many hand-outs an audit file tells of. All its lines are whole.
fn vended_lines(audit: &Path) -> usize {
    let text = std::fs::read_to_string(audit).unwrap();
    assert!(text.ends_with('\n'));
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["message"] == "vended").count()
}

/// No resolver asks anybody for a name with a label over 63 bytes, so that nothing leaves this machine. A proxy has it,
/// since TLS would judge the name of GitHub itself before it is looked up.
#[tokio::test]
async fn a_name_that_cannot_be_resolved_is_an_unavailable_github() {
    let proxy = format!("http://{}.invalid:3128", "x".repeat(64));
    let environment =
        vec![("GITHUB_API_URL", "https://github.invalid".to_owned()), ("GHTOKEND_GITHUB__PROXY", proxy)];
    let world = World::with(Setup { environment, ..Setup::default() }).await;
    let first = world.get("/token?owner=acme").await;
    assert_eq!((first.status, first.code().as_str()), (503, "github_unavailable"));
    assert!(first.header("retry-after").is_some() && first.message().contains("lookup"), "{}", first.text());
    until(|| async {
        world.get("/token?owner=acme").await;
        !world.admission().is_reachable
    })
    .await;
    for number in 0..5 {
        let target = format!("/token?owner=acme-{number}");
        let refused =
            tokio::time::timeout(Duration::from_secs(1), world.get(&target)).await.expect("at once");
        assert_eq!((refused.status, refused.code().as_str()), (503, "github_unavailable"));
        assert!(refused.header("retry-after").is_some());
    }
}
