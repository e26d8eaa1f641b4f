//! `ghtokend token`: a token for a script.

use std::io::Write as _;
use std::process::ExitCode;

use clap::ValueEnum;
use url::form_urlencoded;

use super::args::Endpoint;
use super::{EX_UNAVAILABLE, Failure, block_on};

/// Print a token, and nothing else.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  TOKEN=$(ghtokend token --repo acme/widgets --permissions contents:read)
  curl -H \"Authorization: Bearer $TOKEN\" https://api.github.com/repos/acme/widgets")]
pub(super) struct Args {
    /// By the installation's id
    #[arg(long, value_name = "ID", group = "which")]
    installation: Option<String>,
    /// By the user or organisation that it is on
    #[arg(long, value_name = "LOGIN", group = "which")]
    owner: Option<String>,
    /// By a repository, to which the token is narrowed
    #[arg(long, value_name = "OWNER/NAME", group = "which")]
    repo: Option<String>,
    /// By the enterprise that it is on
    #[arg(long, value_name = "SLUG", group = "which")]
    enterprise: Option<String>,
    /// Only these repositories, by name
    #[arg(long, value_name = "A,B")]
    repositories: Option<String>,
    /// Only these repositories, by id
    #[arg(long, value_name = "1,2")]
    repository_ids: Option<String>,
    /// Only these permissions, such as contents:read,issues:write
    #[arg(long, value_name = "NAME:LEVEL,…")]
    permissions: Option<String>,
    /// On behalf of the user with this id
    #[arg(long, value_name = "ID")]
    user: Option<String>,
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
    let target = target(&args);
    let accept = match args.format {
        Format::Text => "text/plain",
        Format::Json => "application/json",
    };
    let client = args.endpoint.client()?;
    let unreachable =
        |error: crate::client::Error| Failure { code: EX_UNAVAILABLE, message: error.to_string() };
    let answer = block_on(async { client.get(&target, accept).await.map_err(unreachable) })?;
    if !answer.status.is_success() {
        // With text/plain the daemon's error is a sentence already.
        let message = match args.format {
            Format::Text => String::from_utf8_lossy(&answer.body).trim_end().to_owned(),
            Format::Json => answer.error(),
        };
        return Err(Failure { code: super::EX_FAILURE, message });
    }
    std::io::stdout().write_all(&answer.body)?;
    Ok(ExitCode::SUCCESS)
}

fn target(args: &Args) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in [
        ("installation", &args.installation),
        ("owner", &args.owner),
        ("repo", &args.repo),
        ("enterprise", &args.enterprise),
        ("repositories", &args.repositories),
        ("repository_ids", &args.repository_ids),
        ("permissions", &args.permissions),
        ("user", &args.user),
    ] {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    match query.finish() {
        empty if empty.is_empty() => "/token".to_owned(),
        query => format!("/token?{query}"),
    }
}
