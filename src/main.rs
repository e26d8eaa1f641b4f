//! The program `ghtokend`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ghtokend::cli::run(std::env::args_os())
}
