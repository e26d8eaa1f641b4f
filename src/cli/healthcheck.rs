//! `ghtokend healthcheck`: for exec probes, where no curl is.

use std::process::ExitCode;

use super::args::Endpoint;
use super::failure::{EX_FAILURE, Failure};
use super::runtime::block_on;

/// Ask the running daemon whether it is alive.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exits 0 if it is, 1 if not. As a Kubernetes probe:
  readinessProbe: { exec: { command: [/ghtokend, healthcheck, --ready] } }")]
pub(super) struct Args {
    /// Ask whether it is ready: whether GitHub has accepted the app
    #[arg(long)]
    ready: bool,
    #[command(flatten)]
    endpoint: Endpoint,
}

pub(super) fn run(args: Args) -> Result<ExitCode, Failure> {
    let target = if args.ready { "/readyz" } else { "/healthz" };
    let client = args.endpoint.client()?;
    let response = block_on(async { Ok(client.get(target, "text/plain").await?) })?;
    if response.status.is_success() {
        return Ok(ExitCode::SUCCESS);
    }
    let reasons = String::from_utf8_lossy(&response.body).trim_end().replace('\n', "; ");
    Err(Failure { code: EX_FAILURE, message: format!("{target} returned {}: {reasons}", response.status) })
}
