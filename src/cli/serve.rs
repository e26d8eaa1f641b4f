//! `ghtokend serve`: the daemon itself.

use std::convert::Infallible;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::DumpableBehavior;

use super::args::Configuration;
use super::failure::{EX_FAILURE, Failure};
use super::runtime::runtime;
use crate::app::reload::{Reloader, announce};
use crate::app::{self, App};
use crate::clock::SystemClock;
use crate::settings::{self, Environment, Flag, LogFormat, Settings, Sources};
use crate::shutdown::{Hangups, Signals};
use crate::telemetry::{audit, log};

/// Run the daemon.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  GITHUB_APP_ID=123456 GITHUB_APP_PRIVATE_KEY_FILE=app.pem ghtokend serve
  curl -fsS -H 'Ghtokend-Client: me' http://127.0.0.1:7171/token")]
pub(super) struct Args {
    #[command(flatten)]
    configuration: Configuration,
    /// Where to listen on loopback, instead of listen.tcp; empty for not at all
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Unix socket to listen on, instead of listen.unix
    #[arg(long, value_name = "PATH")]
    unix: Option<String>,
    /// error, warn, info, debug or trace, instead of log.level
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
}

pub(super) fn run(args: Args) -> Result<ExitCode, Failure> {
    let flag = |name, key, value: Option<String>| value.map(|value| Flag { name, key, value });
    let flags = [
        flag("--listen", "listen.tcp", args.listen),
        flag("--unix", "listen.unix", args.unix),
        flag("--log-level", "log.level", args.log_level),
    ];
    let sources = args.configuration.sources(flags.into_iter().flatten().collect());
    let settings = Settings::load(&sources).map_err(Failure::configuration)?;
    let _log = start_log(&settings)?;
    let runtime = runtime(settings.runtime.worker_threads)?;
    let served = runtime.block_on(serve(&settings, &sources));
    // A name server or a volume that hangs must not keep the process alive.
    runtime.shutdown_background();
    served.map(|()| ExitCode::SUCCESS)
}

async fn serve(settings: &Settings, sources: &Sources) -> Result<(), Failure> {
    // Before anything that takes time: until then a SIGHUP would end the process.
    let hangups = Hangups::listen()?;
    let keys = app::load_keys(settings).map_err(Failure::configuration)?;
    let app = App::build(settings, &keys, Arc::new(SystemClock)).map_err(Failure::configuration)?;
    keys.values().flatten().for_each(announce);
    // Keeps the key from debuggers of the same user and from core dumps.
    if let Err(error) = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "core dumps, which would contain the private key, could not be disabled");
    }
    if rustix::process::geteuid().is_root() {
        tracing::warn!("running as root, which is not needed: use a dedicated user");
    }
    let signals = Signals::listen()?;
    let listeners = app::bind(&settings.listen).await?;
    tracing::info!(
        tcp = listeners.tcp.as_ref().and_then(|tcp| tcp.local_addr().ok()).map(tracing::field::display),
        unix = settings.listen.unix.as_ref().map(|path| tracing::field::display(path.display())),
        ops = listeners.ops.as_ref().and_then(|ops| ops.local_addr().ok()).map(tracing::field::display),
        github = %settings.github.api_url,
        version = env!("CARGO_PKG_VERSION"),
        "listening"
    );
    let reloader = app.reloader();
    tokio::select! {
        () = app.serve(listeners, stop(signals)) => {}
        never = reload(&reloader, sources, hangups) => match never {},
    }
    tracing::info!("stopped");
    Ok(())
}

/// Reloads on every SIGHUP, at most once a second.
async fn reload(reloader: &Reloader, sources: &Sources, mut hangups: Hangups) -> Infallible {
    loop {
        hangups.next().await;
        tracing::info!("received SIGHUP; reloading");
        reloader.reload(sources).await;
        tokio::time::sleep(RELOAD_INTERVAL).await;
    }
}

/// Ends at the first signal. A second one ends the process.
pub(super) async fn stop(mut signals: Signals) {
    let name = signals.next().await;
    tracing::info!("received {name}; draining (send again to exit immediately)");
    tokio::spawn(async move {
        let name = signals.next().await;
        tracing::warn!("received {name} again; exiting immediately");
        log::flush();
        std::process::exit(EX_FAILURE.into());
    });
}

pub(super) fn start_log(settings: &Settings) -> Result<log::Started, Failure> {
    let settings::Log { format, level } = settings.log;
    let terminal = std::io::stderr().is_terminal();
    let format = match format {
        LogFormat::Json => log::Format::Json,
        LogFormat::Auto if !terminal => log::Format::Json,
        _ if terminal && Environment::of_process().value("NO_COLOR").is_none() => log::Format::Colour,
        _ => log::Format::Text,
    };
    let open = |path: &PathBuf| {
        audit::AuditFile::open(path).map_err(|error| {
            let path = path.display();
            Failure::configuration(format!("audit.file: {path}: cannot be appended to: {error}"))
        })
    };
    let audit_file = settings.audit.file.as_ref().map(open).transpose()?;
    Ok(log::start(format, level, audit_file)?)
}

const RELOAD_INTERVAL: Duration = Duration::from_secs(1);
