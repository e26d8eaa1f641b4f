//! `ghtokend check`: prints what the doctor found.

use std::process::ExitCode;
use std::sync::Arc;

use super::args::Configuration;
use super::failure::{EX_FAILURE, Failure};
use super::runtime::block_on;
use super::stdout::print;
use crate::app::doctor::{Severity, examine};
use crate::clock::SystemClock;

/// Find out whether the daemon would vend tokens. Asks GitHub who the app is and where it is installed; mints nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  ghtokend check --config /etc/ghtokend/ghtokend.toml
Exits 0 if the daemon would vend, 1 if it would not, 78 if the configuration cannot be read.")]
pub(super) struct Args {
    #[command(flatten)]
    configuration: Configuration,
    /// Leave the effective configuration out
    #[arg(long)]
    quiet: bool,
}

pub(super) fn run(args: Args) -> Result<ExitCode, Failure> {
    let settings = args.configuration.load(Vec::new())?;
    let findings = block_on(async { Ok(examine(&settings, Arc::new(SystemClock)).await) })?;
    let mut report = String::new();
    if !args.quiet {
        let effective = settings.effective();
        report.push_str(&format!(
            "# The effective configuration, secrets masked:\n{}\n\n",
            effective.trim_end()
        ));
    }
    for finding in &findings {
        let mark = match finding.severity {
            Severity::Ok => "ok  ",
            Severity::Warning => "WARN",
            Severity::Error => "FAIL",
        };
        report.push_str(&format!("{mark}  {:<13} {}\n", finding.subject, finding.text));
    }
    let broken = findings.iter().any(|finding| finding.severity == Severity::Error);
    report.push_str(match broken {
        true => "\nNot ready: fix the checks marked FAIL.\n",
        false => "\nReady: the daemon would vend tokens.\n",
    });
    print(report.as_bytes())?;
    Ok(if broken { ExitCode::from(EX_FAILURE) } else { ExitCode::SUCCESS })
}
