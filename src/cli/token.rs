//! `ghtokend token`: a token for a script.

use std::io::Write as _;
use std::process::ExitCode;

use clap::ValueEnum;

use super::args::{Endpoint, TokenArgs};
use super::failure::Failure;

/// Print a token, and nothing else.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  TOKEN=$(ghtokend token --repo acme/widgets --permissions contents:read)
  curl -H \"Authorization: Bearer $TOKEN\" https://api.github.com/repos/acme/widgets")]
pub(super) struct Args {
    #[command(flatten)]
    token: TokenArgs,
    /// The bare token, or all that is known about it
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    endpoint: Endpoint,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

pub(super) fn run(args: Args) -> Result<ExitCode, Failure> {
    let target = args.token.target("/token");
    let accept = match args.format {
        Format::Text => "text/plain",
        Format::Json => "application/json",
    };
    std::io::stdout().write_all(&args.endpoint.get(&target, accept)?)?;
    Ok(ExitCode::SUCCESS)
}
