//! Tells the tests which tools are installed, so that one whose tool is missing is shown as ignored. Changes nothing in
//! what ships.

use std::process::{Command, Stdio};

/// Names of a `cfg`, and the command that succeeds where it holds.
const TOOLS: &[(&str, &[&str])] = &[
    ("has_curl", &["curl", "--version"]),
    ("has_git", &["git", "--version"]),
    ("has_mount_namespaces", &["unshare", "--mount", "true"]),
    ("has_octokit", &["node", "--eval", "fs.statSync('tests/sdk/node_modules/@octokit')"]),
    ("has_openssl", &["openssl", "version"]),
    ("has_pygithub", &["tests/sdk/.venv/bin/python", "-c", "import github"]),
];

fn succeeds(command: &[&str]) -> bool {
    let status =
        Command::new(command[0]).args(&command[1..]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

#[expect(clippy::disallowed_methods, reason = "whether this is CI")]
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for (name, _) in TOOLS {
        println!("cargo::rustc-check-cfg=cfg({name})");
    }
    println!("cargo::rustc-check-cfg=cfg(is_ci)");
    if !std::path::Path::new("tests/sdk").exists() {
        return;
    }
    println!("cargo::rerun-if-changed=tests/sdk");
    println!("cargo::rerun-if-env-changed=PATH");
    println!("cargo::rerun-if-env-changed=CI");
    if std::env::var_os("CI").is_some() {
        println!("cargo::rustc-cfg=is_ci");
    }
    for (name, command) in TOOLS {
        if succeeds(command) {
            println!("cargo::rustc-cfg={name}");
        }
    }
}
