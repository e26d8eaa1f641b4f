//! `ghtokend check`: prints what the doctor found.

use std::process::ExitCode;
use std::sync::Arc;

use super::args::Configuration;
use super::{EX_FAILURE, Failure, block_on};
use crate::app::doctor::{Verdict, examine};
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
    if !args.quiet {
        println!("# The effective configuration, secrets masked:\n{}", settings.effective().trim_end());
        println!();
    }
    let findings = block_on(async { Ok(examine(&settings, Arc::new(SystemClock)).await) })?;
    for finding in &findings {
        let mark = match finding.verdict {
            Verdict::Good => "ok  ",
            Verdict::Doubtful => "WARN",
            Verdict::Broken => "FAIL",
        };
        println!("{mark}  {:<13} {}", finding.subject, finding.text);
    }
    match findings.iter().map(|finding| finding.verdict).max() {
        Some(Verdict::Broken) => {
            println!("\nThe daemon would not vend: mend what says FAIL.");
            Ok(ExitCode::from(EX_FAILURE))
        }
        _ => {
            println!("\nThe daemon would vend.");
            Ok(ExitCode::SUCCESS)
        }
    }
}
