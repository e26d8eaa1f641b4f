//! `ghtokend fake-github`: the emulator alone.

use std::fmt::Display;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::ValueEnum;
use serde::Serialize;

use super::failure::{EX_DATAERR, Failure};
use super::runtime::runtime;
use crate::fake_github::{
    AppInfo, FakeGithub, Flavour, Hook, LagResponse, Mode, Options, Preview, Replication, TokenFormat, World,
};
use crate::secret_file::{self, Accept};
use crate::shutdown::Signals;

/// Run the fake GitHub alone. It verifies app JWTs, mints tokens that expire, and fails on request.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Once it is ready it prints one line of JSON: its URLs, the apps, and where the private key of each lies. Example:
  ghtokend fake-github --api 127.0.0.1:8080 --control 127.0.0.1:8081 --key-dir /tmp/keys
  curl http://127.0.0.1:8081/                    lists its operations: faults, clock, suspension, counters
  curl -X POST http://127.0.0.1:8081/clock -d '{\"advance_seconds\":3600}'   lets every token expire
  curl -X POST http://127.0.0.1:8081/nonces -d '{\"installation\":1,\"user\":\"octocat\"}'   makes the nonce of a user")]
pub(super) struct Args {
    /// Where the API listens; loopback only, port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    api: SocketAddr,
    /// Where the control endpoint listens; loopback only
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    control: SocketAddr,
    /// Directory for the apps' private keys, NAME.pem each [default: a new one under the system's temporary directory]
    #[arg(long, value_name = "DIR")]
    key_dir: Option<PathBuf>,
    /// JSON file with the apps, accounts, repositories and installations [default: the one of the demo]
    #[arg(long, value_name = "FILE")]
    world: Option<PathBuf>,
    /// Which of GitHub's products to emulate
    #[arg(long, value_enum, default_value_t = Product::Dotcom)]
    product: Product,
    /// Format of the tokens
    #[arg(long, value_enum, default_value_t = Tokens::Stateless)]
    tokens: Tokens,
    /// Form of the "Integrations" preview of 2016, which is served beside today's API
    #[arg(long, value_enum, default_value_t = PreviewForm::Y2016)]
    preview: PreviewForm,
    /// Make tokens at least this long, in bytes
    #[arg(long, value_name = "BYTES")]
    token_length: Option<usize>,
    /// Refuse a new token for so long, as GitHub's replicas do while they lag behind
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 0)]
    replication_lag: u64,
    /// Status of that refusal
    #[arg(long, value_enum, default_value_t = Lagging::Unauthorized)]
    replication_status: Lagging,
    /// Make keys, tokens and ids the same at every start
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// URL to send webhooks to: a ping at the start, then every change; http and this machine only
    #[arg(long, value_name = "URL", requires = "webhook_secret_file")]
    webhook_url: Option<String>,
    /// File with the secret that signs webhooks
    #[arg(long, value_name = "FILE", requires = "webhook_url")]
    webhook_secret_file: Option<PathBuf>,
    /// What URLs in responses begin with, if a proxy stands in front
    #[arg(long, value_name = "URL")]
    external_url: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Product {
    /// github.com
    Dotcom,
    /// GitHub Enterprise Server: everything under /api/v3
    Ghes,
    /// GitHub Enterprise Cloud with data residency: nothing without credentials
    Ghe,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Tokens {
    /// ghs_ and 36 characters
    Opaque,
    /// Over 520 bytes, with dots and dashes, since 2026
    Stateless,
    /// v1. and 40 hexadecimal digits, until 2021
    LegacyV1,
    /// Opaque or stateless at random
    Rollout,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum PreviewForm {
    /// As on its page in November 2016
    #[value(name = "2016")]
    Y2016,
    /// As recorded in March 2017
    #[value(name = "2017")]
    Y2017,
    /// Not at all, as GitHub today
    Retired,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Lagging {
    /// As a token that is not there yet
    #[value(name = "401")]
    Unauthorized,
    /// As a token whose permissions are not there yet
    #[value(name = "403")]
    Forbidden,
    /// As a token whose repositories are not there yet
    #[value(name = "404")]
    NotFound,
}

pub(super) fn run(args: Args) -> Result<ExitCode, Failure> {
    let key_dir = args.key_dir.clone();
    let options = options(args)?;
    runtime(0)?.block_on(async {
        let mut signals = Signals::listen()?;
        let addresses = format!("--api {} and --control {}", options.listen, options.control_listen);
        let github =
            FakeGithub::start(options).await.with_context(|| format!("{addresses} cannot both be served"))?;
        let ready = Ready {
            api_url: github.api_url(),
            control_url: github.control_url(),
            apps: write_keys(key_dir, &github.apps())?,
        };
        let mut stdout = std::io::stdout();
        writeln!(stdout, "{}", serde_json::to_string(&ready)?)?;
        stdout.flush()?;
        signals.next().await;
        Ok(ExitCode::SUCCESS)
    })
}

fn options(args: Args) -> Result<Options, Failure> {
    let world = args.world.as_deref().map(read_world).transpose()?;
    let webhook =
        args.webhook_url.zip(args.webhook_secret_file).map(|(url, file)| hook(&url, &file)).transpose()?;
    Ok(Options {
        listen: args.api,
        control_listen: args.control,
        world: world.unwrap_or_else(World::demo),
        mode: match args.product {
            Product::Dotcom => Mode::Dotcom,
            Product::Ghes => Mode::Ghes,
            Product::Ghe => Mode::Ghe,
        },
        token_format: match args.tokens {
            Tokens::Opaque => TokenFormat::Opaque,
            Tokens::Stateless => TokenFormat::Stateless,
            Tokens::LegacyV1 => TokenFormat::LegacyV1,
            Tokens::Rollout => TokenFormat::Rollout,
        },
        preview: match args.preview {
            PreviewForm::Y2016 => Preview { flavour: Flavour::Y2016, ..Preview::default() },
            PreviewForm::Y2017 => Preview { flavour: Flavour::Y2017, ..Preview::default() },
            PreviewForm::Retired => Preview { retired: true, ..Preview::default() },
        },
        replication: Replication {
            lag_ms: args.replication_lag,
            status: match args.replication_status {
                Lagging::Unauthorized => LagResponse::Unauthorized,
                Lagging::Forbidden => LagResponse::Forbidden,
                Lagging::NotFound => LagResponse::NotFound,
            },
        },
        token_length: args.token_length,
        seed: args.seed,
        external_url: args.external_url,
        webhook,
        ..Options::default()
    })
}

fn read_world(path: &Path) -> Result<World, Failure> {
    let failed = |error: &dyn Display| bad("--world", path, error);
    let text = std::fs::read_to_string(path).map_err(|error| failed(&error))?;
    serde_json::from_str(&text).map_err(|error| failed(&error))
}

fn hook(url: &str, file: &Path) -> Result<Hook, Failure> {
    let failed = |error: &dyn Display| bad("--webhook-secret-file", file, error);
    let contents =
        secret_file::read(file, Accept::Stream, MAX_SECRET_FILE_BYTES).map_err(|error| failed(&error))?;
    let secret = contents.text().map_err(|_| failed(&"it is not UTF-8 text"))?.trim_end_matches(['\r', '\n']);
    if secret.is_empty() {
        return Err(failed(&"it is empty"));
    }
    Hook::new(url, secret)
        .map_err(|error| Failure { code: EX_DATAERR, message: format!("--webhook-url: {error}") })
}

fn bad(flag: &str, file: &Path, why: &dyn Display) -> Failure {
    Failure { code: EX_DATAERR, message: format!("{flag} {}: {why}", file.display()) }
}

/// The line on stdout once the emulator is ready.
#[derive(Serialize)]
struct Ready {
    api_url: String,
    control_url: String,
    apps: Vec<ReadyApp>,
}

#[derive(Serialize)]
struct ReadyApp {
    name: String,
    id: u64,
    client_id: String,
    slug: String,
    private_key_file: PathBuf,
    installations: Vec<u64>,
}

fn write_keys(dir: Option<PathBuf>, apps: &[AppInfo]) -> Result<Vec<ReadyApp>, Failure> {
    let dir = match dir {
        Some(dir) => std::fs::create_dir_all(&dir).map(|()| dir.clone()).with_context(|| about(&dir))?,
        None => private_directory()?,
    };
    let write = |app: &AppInfo| {
        let file = dir.join(format!("{}.pem", app.name));
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut open = options.open(&file).with_context(|| about(&file))?;
        open.write_all(app.private_key_pem.as_bytes()).with_context(|| about(&file))?;
        Ok(ReadyApp {
            name: app.name.clone(),
            id: app.id,
            client_id: app.client_id.clone(),
            slug: app.slug.clone(),
            private_key_file: file,
            installations: app.installations.clone(),
        })
    };
    apps.iter().map(write).collect()
}

/// A new directory for this user only. It must not exist: others can create directories there, too.
fn private_directory() -> Result<PathBuf, Failure> {
    let dir = std::env::temp_dir().join(format!("ghtokend-fake-github-{}", std::process::id()));
    std::fs::DirBuilder::new().mode(0o700).create(&dir).with_context(|| about(&dir))?;
    Ok(dir)
}

fn about(path: &Path) -> String {
    format!("--key-dir: {} cannot be written", path.display())
}

const MAX_SECRET_FILE_BYTES: usize = 4096;
