//! The operations of the control endpoint: method, path, an example body, what it does, and its handler.

use super::context::{ControlError, Handler};
use super::{emulator, webhooks, world};
use crate::fake_github::wire::path_template::match_path;

/// An operation of the control endpoint.
struct Route {
    method: &'static str,
    template: &'static str,
    /// Empty if it takes no body.
    example: &'static str,
    description: &'static str,
    handler: Handler,
}

/// The handler for `method` and `path`, and the values of its path parameters.
pub(super) fn find<'a>(method: &str, path: &'a str) -> Result<(Handler, Vec<&'a str>), ControlError> {
    let mut allowed = Vec::new();
    for route in ROUTES {
        if let Some(parameters) = match_path(route.template, path) {
            if route.method == method {
                return Ok((route.handler, parameters));
            }
            allowed.push(route.method);
        }
    }
    if allowed.is_empty() {
        return Err(ControlError::not_found("no such call; `GET /` lists all of them"));
    }
    Err(ControlError { status: 405, message: format!("allowed here: {}", allowed.join(", ")) })
}

/// All operations as curl commands, for an endpoint at `url`.
pub(super) fn help(url: &str) -> String {
    let mut text = "The control endpoint of the fake GitHub. Every response is JSON.\n".to_owned();
    for Route { method, template, example, description, .. } in ROUTES {
        let path = template
            .replace("{app}", "demo")
            .replace("{id}", "1")
            .replace("{owner}/{repo}", "acme/widgets")
            .replace("{name}", "acme");
        let verb = if *method == "GET" { String::new() } else { format!(" -X {method}") };
        let data = if example.is_empty() { String::new() } else { format!(" -d '{example}'") };
        text.push_str(&format!(
            "\n{method} {template}\n  {description}\n  curl -s{verb} {url}{path}{data}\n"
        ));
    }
    text
}

/// Every operation there is.
#[rustfmt::skip]
const ROUTES: &[Route] = &[
    route("GET", "/apps", "", "The apps with their ids, private keys and installations.", world::apps),
    route("POST", "/apps/{app}/keys", "", "Adds a private key to an app.", world::add_key),
    route("DELETE", "/apps/{app}/keys", r#"{"fingerprint": "…"}"#, "Removes a private key from an app.", world::remove_key),
    route("GET", "/journal", "", "Every request since the start or the last reset.", emulator::journal),
    route("GET", "/counters", "", "Sums over the journal, such as how many tokens were minted.", emulator::counters),
    route("POST", "/reset", "", "Resets everything to the start.", emulator::reset),
    route("GET", "/faults", "", "The faults that are armed.", emulator::faults),
    route("POST", "/faults", r#"{"method": "POST", "path": "/app/installations", "times": 1, "effect": {"kind": "html", "status": 503}}"#, "Arms a fault.", emulator::arm_fault),
    route("DELETE", "/faults", "", "Disarms all faults.", emulator::clear_faults),
    route("GET", "/clock", "", "The time by GitHub's clock.", emulator::clock),
    route("POST", "/clock", r#"{"advance_seconds": 3600}"#, "Moves the clock forward, or makes it wrong by `skew_seconds`.", emulator::set_clock),
    route("POST", "/installations", r#"{"id": 9, "app": "demo", "account": "octocat", "permissions": {"contents": "read"}}"#, "Adds an installation.", world::add_installation),
    route("DELETE", "/installations/{id}", "", "Deletes an installation.", world::delete_installation),
    route("POST", "/installations/{id}/suspend", "", "Suspends an installation.", world::suspend),
    route("POST", "/installations/{id}/unsuspend", "", "Ends the suspension.", world::unsuspend),
    route("PUT", "/installations/{id}/permissions", r#"{"contents": "read", "metadata": "read"}"#, "Sets the granted permissions.", world::set_permissions),
    route("POST", "/installations/{id}/repositories", r#"{"name": "widgets"}"#, "Gives an installation a repository of its account.", world::add_repository),
    route("DELETE", "/installations/{id}/repositories", r#"{"name": "widgets"}"#, "Takes a repository from an installation.", world::remove_repository),
    route("POST", "/repositories/{owner}/{repo}/rename", r#"{"to": "gizmos"}"#, "Renames a repository; the old name redirects.", world::rename_repository),
    route("POST", "/accounts/{name}/rename", r#"{"to": "acme-inc"}"#, "Renames an account.", world::rename_account),
    route("POST", "/tokens/revoke", r#"{"token": "ghs_…"}"#, "Revokes a token.", world::revoke_token),
    route("GET", "/replication", "", "The replication lag.", emulator::replication),
    route("POST", "/replication", r#"{"lag_ms": 2000, "status": 404}"#, "Refuses a token with this status until so long after it was minted.", emulator::set_replication),
    route("POST", "/nonces", r#"{"installation": 1, "user": "octocat"}"#, "Makes the nonce that a user's browser would bring to the app.", world::create_nonce),
    route("POST", "/preview/retire", "", "Retires the preview of 2016: its routes return 404, as on GitHub since 2020.", emulator::retire_preview),
    route("POST", "/preview/restore", "", "Restores the preview.", emulator::restore_preview),
    route("POST", "/webhook", r#"{"url": "http://127.0.0.1:9/webhook", "secret": "secret"}"#, "Sends webhooks there, on this machine only; first a ping.", webhooks::set_webhook),
    route("GET", "/deliveries", "", "The webhooks that were sent, and their results.", webhooks::deliveries),
    route("POST", "/deliveries", r#"{"event": "github_app_authorization", "payload": {"action": "revoked", "sender": {"id": 2}}}"#, "Sends a webhook of your own making.", webhooks::deliver),
    route("POST", "/deliveries/{delivery}/redeliver", "", "Sends a webhook again, under the same id.", webhooks::redeliver),
    route("GET", "/holds", "", "The holds, and how many requests each has held.", emulator::holds),
    route("POST", "/holds", r#"{"method": "POST", "path": "/app/installations"}"#, "Holds responses back until released.", emulator::hold),
    route("POST", "/holds/{id}/release", "", "Releases the held responses.", emulator::release_hold),
];

const fn route(
    method: &'static str,
    template: &'static str,
    example: &'static str,
    description: &'static str,
    handler: Handler,
) -> Route {
    Route { method, template, example, description, handler }
}
