//! The checks of `ghtokend check`: each part of the way to a token, and what to do about what is wrong.

use std::sync::Arc;

use super::keys::{Keys, read_keys};
use super::upstream;
use crate::clock::{Clock, GithubClock};
use crate::github::key::Key;
use crate::github::{Demand, Kind, Requester, Upstream, webhook};
use crate::model::{App, AppName, Installation, Priority};
use crate::settings::{self, Settings};

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was checked: `key`, `clock`, `app`.
    pub subject: &'static str,
    /// How severe it is.
    pub severity: Severity,
    /// The result and, where something is wrong, what to do.
    pub text: String,
}

/// Severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing to do.
    Ok,
    /// Tokens are vended, but something should be fixed.
    Warning,
    /// The daemon would not vend.
    Error,
}

fn good(subject: &'static str, text: impl Into<String>) -> Finding {
    Finding { subject, severity: Severity::Ok, text: text.into() }
}

fn warning(subject: &'static str, text: impl Into<String>) -> Finding {
    Finding { subject, severity: Severity::Warning, text: text.into() }
}

fn broken(subject: &'static str, text: impl Into<String>) -> Finding {
    Finding { subject, severity: Severity::Error, text: text.into() }
}

/// Checks everything from the configuration to the installations. Calls GitHub, but mints nothing.
pub async fn examine(settings: &Settings, clock: Arc<dyn Clock>) -> Vec<Finding> {
    if let Err(error) = settings.require_apps() {
        return vec![broken("configuration", error.to_string().trim_start_matches("configuration: "))];
    }
    let mut findings = Vec::new();
    let mut keys = Keys::new();
    for (name, app) in &settings.apps {
        let readable = of_key_files(name, app, &mut findings);
        let accepted = of_several_keys(settings, name, &readable, &clock, &mut findings).await;
        keys.insert(name.clone(), accepted);
    }
    let upstream = match upstream(settings, &keys, clock) {
        Ok(upstream) => upstream,
        Err(error) => return with(findings, broken("github", error.to_string())),
    };
    for (name, app) in
        settings.apps.iter().filter(|(name, _)| keys.get(*name).is_some_and(|keys| !keys.is_empty()))
    {
        findings.extend(of_app(&upstream, name, app).await);
    }
    findings.extend(of_clock(upstream.github_clock()));
    findings.extend(of_webhook(settings));
    findings
}

fn of_webhook(settings: &Settings) -> Option<Finding> {
    let path = settings.webhook.secret_file.as_deref()?;
    Some(match webhook::Secrets::read(path) {
        Ok(_) => good("webhook", format!("deliveries are known by the secret in {}", path.display())),
        Err(error) => broken("webhook", error.to_string()),
    })
}

fn with(mut findings: Vec<Finding>, last: Finding) -> Vec<Finding> {
    findings.push(last);
    findings
}

/// The keys that can sign. The daemon would not start with a file that holds none, but all of them are looked at.
fn of_key_files(name: &AppName, app: &settings::App, findings: &mut Vec<Finding>) -> Vec<Key> {
    let mut usable = Vec::new();
    for key in read_keys(app, &[]) {
        match key.and_then(|key| key.self_test().map(|()| key)) {
            Ok(key) => {
                findings.push(of_key(name, &key));
                usable.push(key);
            }
            Err(error) => findings.push(broken("key", format!("private key {error}"))),
        }
    }
    usable
}

fn of_key(name: &AppName, key: &Key) -> Finding {
    let seen = format!("app {name}: {} from {}", key.fingerprint(), key.origin());
    match key.warning() {
        None => good("key", seen),
        Some(problem) => warning("key", format!("{seen}: {problem}")),
    }
}

/// The keys that GitHub accepts. It is asked about each by itself, if there is more than one: of a single one, and if it
/// refuses them all, what follows tells.
async fn of_several_keys(
    settings: &Settings,
    name: &AppName,
    keys: &[Key],
    clock: &Arc<dyn Clock>,
    findings: &mut Vec<Finding>,
) -> Vec<Key> {
    let (mut accepted, mut refused) = (Vec::new(), Vec::new());
    for key in keys.iter().filter(|_| keys.len() > 1) {
        let alone = Keys::from([(name.clone(), vec![key.clone()])]);
        let Ok(upstream) = upstream(settings, &alone, Arc::clone(clock)) else { break };
        match upstream.github().authenticated_app(name).await {
            Err(failure) if failure.kind == Kind::AppRejected => refused.push(key),
            _ => accepted.push(key.clone()),
        }
    }
    if accepted.is_empty() {
        return keys.to_vec();
    }
    findings.extend(refused.iter().map(|key| {
        let (fingerprint, origin) = (key.fingerprint(), key.origin());
        let text = format!(
            "app {name}: GitHub refuses {fingerprint} from {origin}, and another key signs: take the file out of \
             private_key_file, or put a key there that the app's settings page shows"
        );
        warning("key", text)
    }));
    accepted
}

async fn of_app(upstream: &Upstream, name: &AppName, settings: &settings::App) -> Vec<Finding> {
    let app = match upstream.github().authenticated_app(name).await {
        Ok(app) => app,
        Err(failure) => return vec![broken("app", format!("app {name}: {failure}"))],
    };
    let known = app.as_ref().map(|app| format!(" as \"{}\" (app id {})", app.name, app.id));
    let accepted = good("app", format!("app {name}: GitHub accepts it{}", known.unwrap_or_default()));
    let demand = Demand::of(Requester::background(Priority::New, None));
    let installations = match upstream.github().installations(name, usize::MAX, demand).await {
        Ok(installations) => installations,
        Err(failure) => return vec![accepted, broken("installations", format!("app {name}: {failure}"))],
    };
    let mut findings = vec![accepted, count(name, app.as_ref(), &installations)];
    findings
        .extend(installations.iter().map(|installation| of_installation(name, app.as_ref(), installation)));
    findings.extend(of_default(name, settings, &installations));
    findings
}

fn count(name: &AppName, app: Option<&App>, installations: &[Installation]) -> Finding {
    let usable = installations.iter().filter(|installation| !installation.suspended).count();
    match (installations.len(), usable) {
        (0, _) => {
            let slug = app.and_then(|app| app.slug.as_ref());
            let page = slug.map(|slug| format!(" from its page, …/apps/{slug}")).unwrap_or_default();
            broken(
                "installations",
                format!("app {name} is not installed anywhere: install it on an account{page}"),
            )
        }
        (all, 0) => broken(
            "installations",
            format!("app {name} has {all}, all suspended: have an owner unsuspend one"),
        ),
        (all, _) => good("installations", format!("app {name} has {all}")),
    }
}

fn of_installation(name: &AppName, app: Option<&App>, installation: &Installation) -> Finding {
    let account = installation.account.as_deref().unwrap_or("(an account that GitHub does not name)");
    let list = |permissions: &mut dyn Iterator<Item = (&String, &String)>| {
        permissions.map(|(name, level)| format!("{name}:{level}")).collect::<Vec<_>>().join(" ")
    };
    let granted = match list(&mut installation.permissions.iter()) {
        granted if granted.is_empty() => granted,
        granted => format!(": {granted}"),
    };
    let seen = format!("app {name}: {} on {account}{granted}", installation.id);
    if installation.suspended {
        return warning(
            "installation",
            format!("{seen}: suspended, no token can be minted: an owner must unsuspend it"),
        );
    }
    let pending = list(
        &mut app
            .into_iter()
            .flat_map(|app| &app.permissions)
            .filter(|(name, level)| installation.permissions.get(*name) != Some(*level)),
    );
    if pending.is_empty() {
        return good("installation", seen);
    }
    let text = format!("{seen}: the app asks for {pending} there, which an owner has not accepted yet");
    warning("installation", text)
}

fn of_default(name: &AppName, settings: &settings::App, installations: &[Installation]) -> Option<Finding> {
    let id = settings.installation?;
    let found = installations.iter().find(|installation| installation.id == id);
    Some(match found {
        None => broken(
            "default",
            format!("app {name}: app.installation is {id}, and the app has no such installation"),
        ),
        Some(found) if found.suspended => {
            broken("default", format!("app {name}: app.installation {id} is suspended"))
        }
        Some(_) => good("default", format!("app {name}: requests that name no installation get {id}")),
    })
}

fn of_clock(clock: &GithubClock) -> Option<Finding> {
    let offset = clock.offset()?.as_secs();
    let seen = match offset {
        0 => "agrees with GitHub's".to_owned(),
        ahead @ 1.. => format!("is {ahead} s behind GitHub's"),
        behind => format!("is {} s ahead of GitHub's", -behind),
    };
    let text = format!("this machine's clock {seen}");
    if offset.abs() > WORTH_A_WARNING {
        return Some(warning(
            "clock",
            format!("{text}: ghtokend corrects for it, other programs do not: start NTP"),
        ));
    }
    Some(good("clock", text))
}

/// Seconds. GitHub itself tolerates none, and a `Date` header is whole seconds.
const WORTH_A_WARNING: i64 = 30;
