//! `ghtokend git-credential`: git's credential helper, on top of the daemon's.

use std::io::{Read as _, Write as _};
use std::process::ExitCode;

use super::args::{Endpoint, TokenArgs};
use super::failure::Failure;
use super::runtime::block_on;

/// Give git a token. git itself calls this, with its lines on stdin.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  git config --global credential.https://github.com.helper '!ghtokend git-credential'
  git config --global credential.https://github.com.useHttpPath true
With useHttpPath git says which repository it wants, and the token is narrowed to that one.")]
pub(super) struct Args {
    /// get, store or erase, as git says it; anything else does nothing
    operation: String,
    #[command(flatten)]
    token: TokenArgs,
    #[command(flatten)]
    endpoint: Endpoint,
}

pub(super) fn run(args: Args) -> Result<ExitCode, Failure> {
    if !["get", "erase"].contains(&args.operation.as_str()) {
        return Ok(ExitCode::SUCCESS);
    }
    let mut lines = Vec::new();
    std::io::stdin().take(MAX_LINES).read_to_end(&mut lines)?;
    let target = args.token.target(&format!("/git-credential/{}", args.operation));
    let client = args.endpoint.client()?;
    let response = block_on(async { Ok(client.post(&target, "text/plain", lines.into()).await?) })?;
    if !response.status.is_success() {
        return Err(Failure::error_response(&response));
    }
    std::io::stdout().write_all(&response.body)?;
    Ok(ExitCode::SUCCESS)
}

/// Bytes. The daemon takes no more.
const MAX_LINES: u64 = 64 * 1024 + 1;
