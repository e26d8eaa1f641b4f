//! The control endpoint: what the Rust interface can do, for everybody with curl.

mod json;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::Response;
use hyper::body::Incoming;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::fake_github::api::routes::parameters;
use crate::fake_github::faults::fault::Fault;
use crate::fake_github::state::Shared;
use crate::fake_github::webhooks::delivery::Hook;
use crate::fake_github::wire::body::Payload;
use crate::fake_github::wire::request::Request;
use crate::fake_github::wire::server::Service;
use crate::fake_github::world::definition::{Installation, Permissions, check_levels};
use crate::fake_github::world::replication::Replication;

/// What the control endpoint, which is at `url`, does with a request.
pub(crate) fn control(shared: Arc<Shared>, url: String) -> Service {
    let url: Arc<str> = url.into();
    Arc::new(move |request| {
        let (shared, url) = (shared.clone(), url.clone());
        Box::pin(async move { serve(&shared, &url, request).await.map_err(|never| match never {}) })
    })
}

async fn serve(
    shared: &Shared,
    url: &str,
    request: hyper::Request<Incoming>,
) -> Result<Response<Payload>, Infallible> {
    let request = Request::read(request, "").await;
    let path = request.path.as_deref().unwrap_or_default();
    let (status, content_type, body) = if (request.method.as_str(), path) == ("GET", "/") {
        (200, "text/plain; charset=utf-8", help(url))
    } else {
        let (status, body) = match answer(shared, &request, path) {
            Ok(body) => (200, body),
            Err(Refusal { status, why }) => (status, json!({ "error": why })),
        };
        (status, "application/json", format!("{body:#}\n"))
    };
    let mut response = Response::new(Payload::whole(body));
    *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or_default();
    response.headers_mut().insert("content-type", hyper::header::HeaderValue::from_static(content_type));
    Ok(response)
}

/// Why a call was refused.
struct Refusal {
    status: u16,
    why: String,
}

type Answer = Result<Value, Refusal>;

/// Method, path, an example body, what it does.
#[rustfmt::skip]
const CALLS: &[(&str, &str, &str, &str)] = &[
    ("GET", "/apps", "", "The apps with their ids, private keys and installations."),
    ("POST", "/apps/{app}/keys", "", "Adds a private key to an app."),
    ("DELETE", "/apps/{app}/keys", r#"{"fingerprint": "…"}"#, "Removes a private key from an app."),
    ("GET", "/journal", "", "Every request since the start or the last reset."),
    ("GET", "/counters", "", "Sums over the journal, such as how many tokens were minted."),
    ("POST", "/reset", "", "Everything back to the start."),
    ("GET", "/faults", "", "The faults that are armed."),
    ("POST", "/faults", r#"{"method": "POST", "path": "/app/installations", "times": 1, "effect": {"kind": "html", "status": 503}}"#, "Arms a fault."),
    ("DELETE", "/faults", "", "Disarms all faults."),
    ("GET", "/clock", "", "What GitHub believes the time is."),
    ("POST", "/clock", r#"{"advance_seconds": 3600}"#, "Moves the clock forward, or makes it wrong by `skew_seconds`."),
    ("POST", "/installations", r#"{"id": 9, "app": "demo", "account": "octocat", "permissions": {"contents": "read"}}"#, "Adds an installation."),
    ("DELETE", "/installations/{id}", "", "Deletes an installation."),
    ("POST", "/installations/{id}/suspend", "", "Suspends an installation."),
    ("POST", "/installations/{id}/unsuspend", "", "Ends the suspension."),
    ("PUT", "/installations/{id}/permissions", r#"{"contents": "read", "metadata": "read"}"#, "Sets what was granted."),
    ("POST", "/installations/{id}/repositories", r#"{"name": "widgets"}"#, "Gives an installation a repository of its account."),
    ("DELETE", "/installations/{id}/repositories", r#"{"name": "widgets"}"#, "Takes a repository from an installation."),
    ("POST", "/repositories/{owner}/{repo}/rename", r#"{"to": "gizmos"}"#, "Renames a repository; the old name redirects."),
    ("POST", "/accounts/{name}/rename", r#"{"to": "acme-inc"}"#, "Renames an account."),
    ("POST", "/tokens/revoke", r#"{"token": "ghs_…"}"#, "Revokes a token."),
    ("GET", "/replication", "", "How far the replicas are behind."),
    ("POST", "/replication", r#"{"lag_ms": 2000, "status": 404}"#, "Answers a token so for so long after it was made."),
    ("POST", "/nonces", r#"{"installation": 1, "user": "octocat"}"#, "Makes the nonce that a user's browser would bring to the app."),
    ("POST", "/preview/retire", "", "Answers the routes of the preview of 2016 with 404, as GitHub does since 2020."),
    ("POST", "/preview/restore", "", "Answers them again."),
    ("POST", "/webhook", r#"{"url": "http://127.0.0.1:9/webhook", "secret": "secret"}"#, "Sends webhooks there, on this machine only; first a ping."),
    ("GET", "/deliveries", "", "The webhooks that were sent, and what the receiver answered."),
    ("POST", "/deliveries", r#"{"event": "github_app_authorization", "payload": {"action": "revoked", "sender": {"id": 2}}}"#, "Sends a webhook of your own making."),
    ("POST", "/deliveries/{delivery}/redeliver", "", "Sends a webhook again, under the same id."),
    ("GET", "/holds", "", "The holds, and how many requests each has held."),
    ("POST", "/holds", r#"{"method": "POST", "path": "/app/installations"}"#, "Holds answers back until released."),
    ("POST", "/holds/{id}/release", "", "Lets the held answers go."),
];

fn help(url: &str) -> String {
    let mut text = "The control endpoint of the fake GitHub. Every call is answered in JSON.\n".to_owned();
    for (method, template, body, what) in CALLS {
        let path = template
            .replace("{app}", "demo")
            .replace("{id}", "1")
            .replace("{owner}/{repo}", "acme/widgets")
            .replace("{name}", "acme");
        let verb = if *method == "GET" { String::new() } else { format!(" -X {method}") };
        let data = if body.is_empty() { String::new() } else { format!(" -d '{body}'") };
        text.push_str(&format!("\n{method} {template}\n  {what}\n  curl -s{verb} {url}{path}{data}\n"));
    }
    text
}

fn answer(shared: &Shared, request: &Request, path: &str) -> Answer {
    let (template, parameters) = find(&request.method, path)?;
    let name = parameters.first().copied().unwrap_or_default();
    match (request.method.as_str(), template) {
        ("GET", "/apps") => Ok(json!(shared.apps())),
        ("GET", "/journal") => Ok(json!(shared.journal.lock().entries())),
        ("GET", "/counters") => Ok(json!(shared.journal.lock().counters())),
        ("POST", "/reset") => {
            shared.reset();
            done()
        }
        ("POST", "/apps/{app}/keys") => {
            let key = shared.store.lock().keys.add(name);
            key.map(|key| json!(key)).ok_or_else(|| missing("no such app, or it has 25 keys already"))
        }
        ("DELETE", "/apps/{app}/keys") => {
            let Key { fingerprint } = body(request)?;
            found(shared.store.lock().keys.remove(name, &fingerprint), "no such key of such an app")
        }
        ("POST", "/repositories/{owner}/{repo}/rename") => {
            let Rename { to } = body(request)?;
            let repo = parameters.get(1).copied().unwrap_or_default();
            found(shared.store.lock().rename_repository(name, repo, &to), "no such repository")
        }
        ("POST", "/accounts/{name}/rename") => {
            let Rename { to } = body(request)?;
            found(shared.store.lock().rename_account(name, &to), "no such account")
        }
        ("POST", "/tokens/revoke") => {
            let Token { token } = body(request)?;
            found(shared.store.lock().kill_token(&token), "no such token")
        }
        ("POST", "/installations") => {
            let installation: Installation = body(request)?;
            shared.store.lock().add_installation(installation).map_err(invalid)?;
            done()
        }
        (_, template) if template.starts_with("/installations/") => {
            installation(shared, request, template, id(name)?)
        }
        (_, template) if template == "/webhook" || template.starts_with("/deliveries") => {
            webhooks(shared, request, template, name)
        }
        (_, template) if template.starts_with("/preview/") || template == "/nonces" => {
            preview(shared, request, template)
        }
        _ => control_routes(shared, request, template, name),
    }
}

/// Calls about one installation.
fn installation(shared: &Shared, request: &Request, template: &str, id: u64) -> Answer {
    let known = match (request.method.as_str(), template) {
        ("POST", "/installations/{id}/suspend") => {
            shared.store.lock().suspend(id, shared.clock.shown_second())
        }
        ("POST", "/installations/{id}/unsuspend") => shared.store.lock().unsuspend(id),
        ("PUT", "/installations/{id}/permissions") => {
            let permissions: Permissions = body(request)?;
            check_levels(&permissions).map_err(invalid)?;
            shared.store.lock().set_permissions(id, permissions)
        }
        ("POST", "/installations/{id}/repositories") => {
            let Name { name } = body(request)?;
            shared.store.lock().add_repository(id, &name)
        }
        ("DELETE", "/installations/{id}/repositories") => {
            let Name { name } = body(request)?;
            shared.store.lock().remove_repository(id, &name)
        }
        _ => shared.store.lock().delete_installation(id),
    };
    found(known, "no such installation, or it has no such repository")
}

/// Calls about the preview of 2016.
fn preview(shared: &Shared, request: &Request, template: &str) -> Answer {
    match template {
        "/preview/retire" => shared.retire_preview(),
        "/preview/restore" => shared.restore_preview(),
        _ => {
            let Redirect { installation, user } = body(request)?;
            let nonce = shared.create_nonce(installation, &user);
            return nonce
                .map(|nonce| json!({ "nonce": nonce }))
                .ok_or_else(|| missing("no such installation, or no such user"));
        }
    }
    done()
}

/// Calls about webhooks.
fn webhooks(shared: &Shared, request: &Request, template: &str, id: &str) -> Answer {
    match (request.method.as_str(), template) {
        ("POST", "/webhook") => {
            let Target { url, secret } = body(request)?;
            shared.set_webhook(Hook::new(&url, &secret).map_err(|error| invalid(error.to_string()))?);
            done()
        }
        ("GET", "/deliveries") => Ok(json!(shared.webhooks.delivered())),
        ("POST", "/deliveries") => {
            let Event { event, payload } = body(request)?;
            let delivery = shared.signed(&event, payload.to_string().into());
            let id = delivery.as_ref().map(|delivery| delivery.id.clone());
            found(
                delivery.is_some_and(|delivery| shared.webhooks.deliver(delivery)),
                "there is no webhook yet",
            )
            .map(|_| json!({ "id": id }))
        }
        _ => found(shared.webhooks.redeliver(id), "no such delivery"),
    }
}

/// Calls about the emulator itself: faults, the clock, replicas, holds.
fn control_routes(shared: &Shared, request: &Request, template: &str, name: &str) -> Answer {
    match (request.method.as_str(), template) {
        ("GET", "/faults") => Ok(json!(shared.faults.lock().armed())),
        ("POST", "/faults") => {
            let fault: Fault = body(request)?;
            fault.check().map_err(invalid)?;
            shared.faults.lock().arm(fault);
            done()
        }
        ("DELETE", "/faults") => {
            shared.faults.lock().clear();
            done()
        }
        ("POST", "/clock") => {
            let Time { advance_seconds, skew_seconds } = body(request)?;
            if advance_seconds.is_none() && skew_seconds.is_none() {
                return Err(invalid("give `advance_seconds` or `skew_seconds`".into()));
            }
            if let Some(seconds) = advance_seconds {
                shared.clock.advance(Duration::from_secs(seconds));
            }
            if let Some(seconds) = skew_seconds {
                shared.clock.skew(seconds);
            }
            Ok(json!({ "now": crate::fake_github::clock::iso(shared.clock.shown_second()) }))
        }
        ("GET", "/clock") => {
            Ok(json!({ "now": crate::fake_github::clock::iso(shared.clock.shown_second()) }))
        }
        ("GET", "/replication") => Ok(json!(*shared.replication.lock())),
        ("POST", "/replication") => {
            let replication: Replication = body(request)?;
            *shared.replication.lock() = replication;
            done()
        }
        ("GET", "/holds") => {
            let holds = shared.holds.list();
            Ok(holds.into_iter().map(|(id, held)| json!({ "id": id, "held": held })).collect())
        }
        ("POST", "/holds") => {
            let Matching { method, path } = body(request)?;
            Ok(json!({ "id": shared.holds.hold_by_id(method.as_deref(), path.as_deref()) }))
        }
        _ => found(shared.holds.release(id(name)?), "no such hold"),
    }
}

fn find<'a>(method: &str, path: &'a str) -> Result<(&'static str, Vec<&'a str>), Refusal> {
    let mut allowed = Vec::new();
    for (known, template, ..) in CALLS {
        if let Some(parameters) = parameters(template, path) {
            if *known == method {
                return Ok((template, parameters));
            }
            allowed.push(*known);
        }
    }
    if allowed.is_empty() {
        return Err(missing("no such call; `GET /` lists all of them"));
    }
    Err(Refusal { status: 405, why: format!("allowed here: {}", allowed.join(", ")) })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    fingerprint: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rename {
    to: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Token {
    token: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Name {
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Redirect {
    installation: u64,
    user: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Target {
    url: String,
    secret: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Event {
    event: String,
    payload: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Time {
    advance_seconds: Option<u64>,
    skew_seconds: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Matching {
    method: Option<String>,
    path: Option<String>,
}

fn body<T: DeserializeOwned>(request: &Request) -> Result<T, Refusal> {
    json::read(request.body.as_deref().unwrap_or_default()).map_err(invalid)
}

fn id(text: &str) -> Result<u64, Refusal> {
    text.parse().map_err(|_| invalid(format!("`{text}` in the path must be an id, which is a number")))
}

fn done() -> Answer {
    Ok(json!({ "ok": true }))
}

fn found(known: bool, otherwise: &str) -> Answer {
    if known { done() } else { Err(missing(otherwise)) }
}

fn missing(why: &str) -> Refusal {
    Refusal { status: 404, why: why.into() }
}

fn invalid(why: String) -> Refusal {
    Refusal { status: 400, why }
}
