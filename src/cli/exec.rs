//! `ghtokend exec`: a command with a token in its environment.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use url::Url;

use super::args::{Endpoint, TokenArgs, get};
use super::failure::Failure;
use super::runtime::block_on;
use crate::api;
use crate::model::Secret;

/// Run a command with a token in GH_TOKEN and GITHUB_TOKEN. It takes this process's place, so that signals and its exit
/// code are its own.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  ghtokend exec --repo acme/widgets -- gh pr list --repo acme/widgets
The token lives for at most an hour and is not renewed: for long jobs ask the daemon again. Where the daemon's GitHub is
not github.com, GH_ENTERPRISE_TOKEN and GH_HOST are set too. Without a token the command is not started.")]
pub(super) struct Args {
    #[command(flatten)]
    token: TokenArgs,
    #[command(flatten)]
    endpoint: Endpoint,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

pub(super) fn run(args: Args) -> Result<ExitCode, Failure> {
    let client = args.endpoint.client()?;
    let target = args.token.target("/token");
    let (token, web_url) = block_on(async {
        let status = get(&client, "/status", "application/json").await?;
        let status: api::Status = serde_json::from_slice(&status)?;
        let token = get(&client, &target, "text/plain").await?;
        let token = Secret::from(String::from_utf8_lossy(&token).trim_end().to_owned());
        Ok((token, status.web_url))
    })?;
    let (program, arguments) =
        args.command.split_first().ok_or_else(|| Failure::usage("exec needs a command after --"))?;
    let mut command = Command::new(program);
    command.args(arguments).env("GH_TOKEN", token.expose()).env("GITHUB_TOKEN", token.expose());
    // What is inherited must not send the token to another host, nor another token along with it.
    command.env_remove("GH_HOST").env_remove("GH_ENTERPRISE_TOKEN").env_remove("GITHUB_ENTERPRISE_TOKEN");
    if let Some(host) = enterprise_host(&web_url) {
        command.env("GH_ENTERPRISE_TOKEN", token.expose()).env("GH_HOST", host);
    }
    // Returns only if the command could not take our place.
    let error = command.exec();
    let code = if error.kind() == ErrorKind::NotFound { NOT_FOUND } else { CANNOT_EXECUTE };
    Err(Failure { code, message: format!("{}: {error}", program.display()) })
}

/// `HOST` or `HOST:PORT`, unless it is github.com, which `gh` takes for granted.
fn enterprise_host(web_url: &str) -> Option<String> {
    let url = Url::parse(web_url).ok()?;
    let host = url.host_str().filter(|host| *host != "github.com")?;
    Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

/// As shells have it.
const CANNOT_EXECUTE: u8 = 126;
const NOT_FOUND: u8 = 127;
