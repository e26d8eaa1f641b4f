//! The command line: parses, runs one command, and turns its outcome into an exit code.
//!
//! Data goes to stdout, diagnostics to stderr, secrets never onto the command line.

mod args;
mod check;
#[cfg(feature = "fake-github")]
mod demo;
mod exec;
mod failure;
#[cfg(feature = "fake-github")]
mod fake_github;
mod git_credential;
mod healthcheck;
mod runtime;
mod serve;
mod status;
mod stdout;
mod token;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::failure::EX_FAILURE;
use crate::telemetry::log;

/// A sidecar daemon that holds a GitHub App's private key and vends installation tokens on localhost.
#[derive(Debug, Parser)]
#[command(name = "ghtokend", version, max_term_width = 100)]
#[command(after_help = "Try it without any credentials: ghtokend demo")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon
    Serve(serve::Args),
    /// Run the daemon against an embedded fake GitHub: no credentials, ready to be curled
    #[cfg(feature = "fake-github")]
    Demo(demo::Args),
    /// Find out whether the daemon would vend tokens, and what to do if it would not
    Check(check::Args),
    /// Print a token, and nothing else, for $(…) in a script
    Token(token::Args),
    /// Give git a token: git's credential helper
    GitCredential(git_credential::Args),
    /// Run a command with a token in its environment
    Exec(exec::Args),
    /// Show the running daemon's apps, keys and cached tokens
    Status(status::Args),
    /// Ask the running daemon whether it is alive: for exec probes
    Healthcheck(healthcheck::Args),
    /// Run the fake GitHub alone, to test your own bot against it
    #[cfg(feature = "fake-github")]
    FakeGithub(fake_github::Args),
}

/// Runs the command that `arguments` name.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors: clap knows, and has the right stream and code for each.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(EX_FAILURE));
        }
    };
    let outcome = match cli.command {
        Command::Serve(args) => serve::run(args),
        #[cfg(feature = "fake-github")]
        Command::Demo(args) => demo::run(args),
        Command::Check(args) => check::run(args),
        Command::Token(args) => token::run(args),
        Command::GitCredential(args) => git_credential::run(args),
        Command::Exec(args) => exec::run(args),
        Command::Status(args) => status::run(args),
        Command::Healthcheck(args) => healthcheck::run(args),
        #[cfg(feature = "fake-github")]
        Command::FakeGithub(args) => fake_github::run(args),
    };
    match outcome {
        Ok(code) => code,
        Err(failure) => {
            log::exit_message(&format!("ghtokend: {}", failure.message));
            ExitCode::from(failure.code)
        }
    }
}
