//! `ghtokend status`: the state of the running daemon.

use std::fmt::Write as _;
use std::process::ExitCode;

use jiff::SignedDuration;

use super::args::Endpoint;
use super::failure::Failure;
use super::stdout::print;
use crate::api::Status;

/// Show the running daemon's apps, keys and cached tokens: never a token itself.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  ghtokend status --json | jq '.tokens[] | select(.state != \"fresh\")'")]
pub(super) struct Args {
    /// Print what GET /status answers
    #[arg(long)]
    json: bool,
    /// How many tokens to show, of those that expire soonest: 1 to 1000 [default: 100]
    #[arg(long, value_name = "N")]
    limit: Option<u32>,
    #[command(flatten)]
    endpoint: Endpoint,
}

pub(super) fn run(args: Args) -> Result<ExitCode, Failure> {
    let target = args.limit.map_or_else(|| "/status".to_owned(), |limit| format!("/status?limit={limit}"));
    let body = args.endpoint.get(&target, "application/json")?;
    let shown = match args.json {
        true => body.to_vec(),
        false => tables(&serde_json::from_slice(&body)?).into_bytes(),
    };
    print(&shown)?;
    Ok(ExitCode::SUCCESS)
}

fn tables(status: &Status) -> String {
    let ready = if status.ready { "ready" } else { "not ready" };
    let clock = status.clock_offset_seconds.map_or_else(
        || "GitHub has not answered yet".to_owned(),
        |offset| format!("GitHub's clock is {offset:+.1} s from this machine's"),
    );
    let mut text = format!("ghtokend {}, {ready}; {clock}\n\n", status.version);
    let keys = status.apps.iter().flat_map(|app| {
        app.keys
            .iter()
            .map(|key| [app.name.clone(), app.id.clone(), key.fingerprint.clone(), key.status.clone()])
    });
    text.push_str(&table(["APP", "ID", "KEY", "STATUS"], keys.collect()));
    for app in &status.apps {
        if let Some(why) = &app.not_ready {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "app {} is not ready: {why}", app.name);
        }
        for limit in &app.limits {
            let _ = writeln!(text, "app {} is limited until {}: {}", app.name, limit.until, limit.reason);
        }
    }
    if status.tokens.is_empty() {
        return text + "\nNo token is cached.\n";
    }
    let rows = status.tokens.iter().map(|token| {
        [
            token.app.clone(),
            token.installation_id.to_string(),
            token.account.clone().unwrap_or_else(|| NONE.to_owned()),
            token.user_id.map_or_else(|| NONE.to_owned(), |id| id.to_string()),
            token.scope.clone(),
            token
                .successor
                .as_ref()
                .map_or_else(|| token.state.clone(), |_| format!("{}, renewed", token.state)),
            in_words(token.remaining_seconds),
        ]
    });
    let head = ["APP", "INSTALLATION", "ACCOUNT", "USER", "SCOPE", "STATE", "LEFT"];
    text.push('\n');
    text.push_str(&table(head, rows.collect()));
    if status.tokens_omitted > 0 {
        let _ = writeln!(text, "… and {} more, which expire later: see --limit", status.tokens_omitted);
    }
    text
}

/// Columns as wide as their widest cell.
fn table<const N: usize>(head: [&str; N], rows: Vec<[String; N]>) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].len()]).max().unwrap_or_default()
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |cells: [&str; N]| {
        let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(|row| line(row.each_ref().map(String::as_str))).fold(line(head), |text, row| text + &row)
}

fn in_words(seconds: u64) -> String {
    let left = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
    format!("{left:#}")
}

const NONE: &str = "-";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_table_counts_omitted_tokens() {
        let status = r#"{"version":"1","ready":false,"web_url":"","clock_offset_seconds":-0.25,
            "apps":[{"name":"release","id":"12","key_fingerprint":"","keys":[{"fingerprint":"SHA256:x","status":"active"}],
                     "not_ready":"GitHub has not been reached yet",
                     "limits":[{"reason":"rate_limit","until":"2026-11-26T10:00:00Z"}]}],
            "tokens":[{"app":"release","installation_id":22,"account":null,"user_id":7,"scope":"widgets","state":"renewing",
                       "expires_at":"","remaining_seconds":540,"hashed_token":"",
                       "successor":{"expires_at":"","in_service_in_seconds":3,"hashed_token":""}},
                      {"app":"release","installation_id":1,"account":"acme","user_id":null,"scope":"full","state":"fresh",
                       "expires_at":"","remaining_seconds":3599,"hashed_token":"","successor":null}],
            "tokens_total":9,"tokens_omitted":7}"#;
        let text = tables(&serde_json::from_str(status).unwrap());
        let expected = "\
ghtokend 1, not ready; GitHub's clock is -0.2 s from this machine's

APP      ID  KEY       STATUS
release  12  SHA256:x  active
app release is not ready: GitHub has not been reached yet
app release is limited until 2026-11-26T10:00:00Z: rate_limit

APP      INSTALLATION  ACCOUNT  USER  SCOPE    STATE              LEFT
release  22            -        7     widgets  renewing, renewed  9m
release  1             acme     -     full     fresh              59m 59s
… and 7 more, which expire later: see --limit
";
        assert_eq!(text, expected);
    }
}
