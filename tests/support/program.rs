//! Runs the real program as a user would: a clean environment, its streams, its exit code.

use std::net::SocketAddr;
use std::process::{Output, Stdio};

use ghtokend::fake_github::FakeGithub;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

/// The program with no variable set but these.
pub fn program(arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    wrapped(&[], arguments, variables)
}

/// The same by way of `wrapper`, whose last arguments are the program and its own.
pub fn wrapped(wrapper: &[&str], arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut words = wrapper.iter().chain(&[env!("CARGO_BIN_EXE_ghtokend")]).chain(arguments);
    let mut command = Command::new(words.next().unwrap());
    command.args(words).env_clear().envs(variables.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Exit code, stdout, stderr.
pub async fn run(arguments: &[&str], variables: &[(&str, &str)]) -> (i32, String, String) {
    outcome(program(arguments, variables)).await
}

/// Exit code, stdout, stderr of `command`.
pub async fn outcome(mut command: Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

/// A daemon in a process of its own. Killed when dropped.
pub struct Daemon {
    pub child: Child,
    /// `http://127.0.0.1:PORT`
    pub url: String,
    pub stderr: Lines<BufReader<ChildStderr>>,
    /// Its log up to the line that says where it listens.
    pub said: String,
}

impl Daemon {
    /// `ghtokend serve` on a free port.
    pub async fn serve(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let arguments: Vec<_> =
            ["serve", "--listen", "127.0.0.1:0"].iter().chain(arguments).copied().collect();
        Self::start(program(&arguments, variables)).await
    }

    /// Started as `command` says, and listening.
    pub async fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = String::new();
        while let Some(line) = stderr.next_line().await.unwrap() {
            said.push_str(&line);
            said.push('\n');
            let Ok(entry) = serde_json::from_str::<serde_json::Value>(&line) else { continue };
            if entry["message"] == "listening" {
                let url = format!("http://{}", entry["tcp"].as_str().unwrap());
                return Self { child, url, stderr, said };
            }
        }
        panic!("the daemon ended before it was listening: {said}");
    }

    pub fn address(&self) -> SocketAddr {
        self.url.strip_prefix("http://").unwrap().parse().unwrap()
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id().unwrap()).unwrap()).unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// The next line of its log that holds `text`.
    pub async fn says(&mut self, text: &str) -> String {
        loop {
            let line = self.stderr.next_line().await.unwrap().expect("the daemon has ended");
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Waits for its end. Returns its exit code and the rest of its log.
    pub async fn ended(mut self) -> (i32, String) {
        let mut rest = String::new();
        while let Some(line) = self.stderr.next_line().await.unwrap() {
            rest.push_str(&line);
            rest.push('\n');
        }
        (self.child.wait().await.unwrap().code().unwrap_or(-1), rest)
    }
}

/// A child's stdout, line by line.
pub fn lines_of(child: &mut Child) -> Lines<BufReader<ChildStdout>> {
    BufReader::new(child.stdout.take().unwrap()).lines()
}

/// The variables that point a daemon at this emulator.
pub fn variables_for(github: &FakeGithub) -> Vec<(&'static str, String)> {
    let app = github.app("demo").unwrap();
    vec![
        ("GITHUB_API_URL", github.api_url()),
        ("GITHUB_APP_ID", app.client_id),
        ("GITHUB_APP_PRIVATE_KEY", app.private_key_pem),
    ]
}

/// Borrowed, as [`program`] wants them.
pub fn borrowed<'a>(variables: &'a [(&'static str, String)]) -> Vec<(&'a str, &'a str)> {
    variables.iter().map(|(name, value)| (*name, value.as_str())).collect()
}
