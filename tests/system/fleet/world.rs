//! The apps and their installations, and the daemon before them: all that ships, but for clock and transport.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ghtokend::broker::freshness::Windows;
use ghtokend::broker::{self, AdmissionStatus, Broker, Page, Rejection, Requirement, TokenRequest, Vended};
use ghtokend::clock::Clock;
use ghtokend::github::key::Key;
use ghtokend::github::{Transport, Upstream, UpstreamConfig};
use ghtokend::model::{AppName, ClientId, Dialect, InstallationId, Level, Scope, Secret, Selector};
use ghtokend::telemetry::metrics::Metrics;
use serde_json::{Value, json};

use super::faults::{Fault, Faults};
use super::github::{Call, Github, REQUEST_TIMEOUT};
use super::observer::{Asking, Heard, Observer};
use super::report::Rule;
use super::time::{Rng, Time, VirtualClock};

/// How many installations each app has.
pub const INSTALLATIONS: [u64; 3] = [60, 30, 10];

/// The ids of an app's installations.
pub fn installations(app: usize) -> impl Iterator<Item = u64> {
    (0..INSTALLATIONS[app]).map(move |number| installation(app, number))
}

pub fn installation(app: usize, number: u64) -> u64 {
    (app as u64 + 1) * 10_000 + number
}

/// The account of an installation.
pub fn owner(installation: u64) -> String {
    format!("org-{installation}")
}

/// The installation on this account.
pub fn installation_of(owner: &str) -> Option<u64> {
    let id: u64 = owner.strip_prefix("org-")?.parse().ok()?;
    let app = (id / 10_000).checked_sub(1)? as usize;
    (id % 10_000 < *INSTALLATIONS.get(app)?).then_some(id)
}

pub fn installation_json(id: u64) -> Value {
    json!({"id": id, "account": {"login": owner(id)}, "permissions": {"contents": "write"}})
}

/// What a mint asks, told by its body: equal bodies are equal questions, however they are written.
pub fn mint_question(installation: u64, body: &str) -> String {
    let body: Value = serde_json::from_str(body).unwrap();
    format!("{installation} {body}")
}

/// All that must work for a token.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    pub app: usize,
    pub installation: u64,
    /// The path of the look-up that finds the installation.
    pub name: Option<String>,
}

/// A token that some client wants.
#[derive(Debug, Clone)]
pub struct Wish {
    pub place: Place,
    /// That of the mint.
    pub question: String,
    pub request: TokenRequest,
}

/// How a wish names its installation.
#[derive(Debug, Clone, Copy)]
pub enum Way {
    Id,
    Owner,
    /// By the repository of this number.
    Repository(u64),
}

impl Wish {
    /// A token for `installation`, which is named in this `way`, with one permission, or all there are.
    pub fn new(installation: u64, way: Way, permission: Option<&str>) -> Self {
        let (app, login) = ((installation / 10_000 - 1) as usize, owner(installation));
        let (selector, name) = match way {
            Way::Id => (Selector::Id(InstallationId::new(installation).unwrap()), None),
            Way::Owner => {
                (Selector::Owner(login.parse().unwrap()), Some(format!("/users/{login}/installation")))
            }
            Way::Repository(number) => {
                let name = format!("{REPOSITORY}{number}");
                let path = format!("/repos/{login}/{name}/installation");
                (Selector::Repository(login.parse().unwrap(), name.parse().unwrap()), Some(path))
            }
        };
        Self::of(Place { app, installation, name }, selector, permission)
    }

    /// A token for what no GitHub knows.
    pub fn misspelt(app: usize, number: u64) -> Self {
        let login = format!("nobody-{number}");
        let name = Some(format!("/users/{login}/installation"));
        Self::of(Place { app, installation: 0, name }, Selector::Owner(login.parse().unwrap()), None)
    }

    /// A token for a repository that the app cannot see.
    pub fn unseen_repository(near: u64) -> Self {
        let (login, name) = (owner(near), "unseen");
        let place = Place {
            app: (near / 10_000 - 1) as usize,
            installation: 0,
            name: Some(format!("/repos/{login}/{name}/installation")),
        };
        Self::of(place, Selector::Repository(login.parse().unwrap(), name.parse().unwrap()), None)
    }

    fn of(place: Place, selector: Selector, permission: Option<&str>) -> Self {
        let permissions = permission.map(|name| [(name.parse().unwrap(), Level::Read)].into());
        let body = permission.map_or_else(|| json!({}), |name| json!({"permissions": {name: "read"}}));
        let question = format!("{} {body}", place.installation);
        let scope = Arc::new(Scope { permissions, ..Scope::default() });
        let app = Some(app_name(place.app));
        let request = TokenRequest { app, selector, scope, user: None, requirement: Requirement::Any };
        Self { place, question, request }
    }

    pub fn with_requirement(mut self, requirement: Requirement) -> Self {
        self.request.requirement = requirement;
        self
    }
}

pub fn app_name(app: usize) -> AppName {
    format!("app_{app}").parse().unwrap()
}

/// The daemon, its GitHub, and who looks at both.
pub struct World {
    clock: Arc<VirtualClock>,
    pub observer: Arc<Observer>,
    faults: Arc<Mutex<Faults>>,
    broker: Broker,
}

impl World {
    /// A daemon that holds nothing yet, before a GitHub whose tokens live so long. Needs paused time.
    pub fn start(seed: u64, life: Duration) -> Arc<Self> {
        let clock = VirtualClock::start();
        let faults = Arc::new(Mutex::new(Faults::default()));
        let observer = Arc::new(Observer::new(Arc::clone(&clock), Arc::clone(&faults), MINTS_PER_MINUTE));
        let github = Github::new(Arc::clone(&observer), Arc::clone(&faults), Rng::new(seed), life);
        let broker = broker(github, Arc::clone(&clock) as Arc<dyn Clock>);
        let sweeping = broker.clone();
        tokio::spawn(async move { sweeping.sweep().await });
        Arc::new(Self { clock, observer, faults, broker })
    }

    /// Looks at what the daemon says of itself, once a second.
    pub async fn watch(self: Arc<Self>) {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let AdmissionStatus { in_flight, queued, remembered, signatures, .. } = self.broker.admission();
            // A JWT is used for eight minutes.
            let jwts = INSTALLATIONS.len() as u64 * (self.now().as_secs() / 480 + 1);
            let is_within = in_flight <= PLACES
                && queued <= MAX_QUEUED
                && remembered <= MAX_REMEMBERED
                && signatures <= jwts;
            if !is_within {
                let what = format!(
                    "{in_flight} in flight, {queued} queued, {remembered} remembered, {signatures} signed"
                );
                self.observer.broken(Rule::Bounds, what);
            }
        }
    }

    /// Whether nothing is left of calls that nobody waits for any more.
    pub fn check_rest(&self) {
        let AdmissionStatus { in_flight, queued, .. } = self.broker.admission();
        if in_flight + queued > 0 {
            self.observer.broken(Rule::Bounds, format!("{in_flight} in flight and {queued} queued at rest"));
        }
    }

    pub fn add_fault(&self, fault: Fault) {
        self.observer.lock().report.note(fault.from, None, || format!("{fault:?}"));
        self.faults.lock().unwrap().add(fault);
    }

    pub fn now(&self) -> Time {
        self.clock.now()
    }

    /// Lets time pass until `at`.
    pub async fn until(&self, at: Time) {
        tokio::time::sleep(at.saturating_sub(self.now())).await;
    }

    /// How many calls that are `meant` were sent from `from` on.
    pub fn calls(&self, from: Time, meant: impl Fn(&Call) -> bool) -> usize {
        let state = self.observer.lock();
        state.traffic.calls.iter().filter(|call| call.at >= from && meant(call)).count()
    }

    /// Asks for a token as `client`. The observer judges what comes, also if the client goes away.
    pub async fn vend(&self, client: u64, wish: &Wish) -> Result<Vended, Heard> {
        let asking = Asking::begin(&self.observer, client, wish);
        let outcome = self.broker.vend(&wish.request, client_id(client)).await;
        asking.end(outcome)
    }

    /// Says that a token that was vended no longer works.
    pub fn reject(&self, vended: &Vended) {
        if self.broker.reject(vended.entry.hash) == Rejection::Evicted {
            self.observer.evicted(vended.entry.token.secret.expose());
        }
    }

    pub async fn revoke(&self, client: u64, token: &str) -> Result<(), Heard> {
        self.observer.giving_back(token);
        self.broker
            .revoke(Secret::from(token.to_owned()), client_id(client))
            .await
            .map_err(|error| Heard::of(&error))
    }

    pub async fn describe_app(&self, client: u64, app: usize) -> Result<(), Heard> {
        let described = self.broker.describe_app(Some(&app_name(app)), client_id(client)).await;
        described.map(drop).map_err(|error| Heard::of(&error))
    }

    pub async fn list(&self, client: u64, app: usize, page: u64) -> Result<(), Heard> {
        let page = Page { number: page, size: 30 };
        let listed = self.broker.installation_page(Some(&app_name(app)), page, client_id(client)).await;
        listed.map(drop).map_err(|error| Heard::of(&error))
    }

    pub async fn describe(&self, client: u64, wish: &Wish) -> Result<(), Heard> {
        let described =
            self.broker.describe(wish.request.app.as_ref(), &wish.request.selector, client_id(client)).await;
        described.map(drop).map_err(|error| Heard::of(&error))
    }
}

/// Number 0 is the daemon itself.
fn client_id(client: u64) -> ClientId {
    ClientId::new(client + 1)
}

fn broker(transport: Arc<dyn Transport>, clock: Arc<dyn Clock>) -> Broker {
    let reach = UpstreamConfig {
        api_url: "https://api.github.test".parse().unwrap(),
        dialect: Dialect::Apps,
        api_version: None,
        ca_file: None,
        proxy: None,
        connect_timeout: Duration::from_secs(5),
        request_timeout: REQUEST_TIMEOUT,
        calls_at_once: PLACES,
        mints_per_minute: MINTS_PER_MINUTE,
        remembered_bytes: REMEMBERED_BYTES,
    };
    let key = Key::parse(include_str!("../../it/keys/rsa.pem"), "a test").unwrap();
    let keys = (0..INSTALLATIONS.len())
        .map(|app| (app_name(app), ((app + 1).to_string(), vec![key.clone()])))
        .collect::<BTreeMap<_, _>>();
    let apps = keys.keys().map(|name| (name.clone(), None)).collect();
    let upstream = Upstream::over(transport, &reach, keys, Arc::clone(&clock));
    let rules = broker::BrokerConfig {
        apps,
        default_app: None,
        windows: WINDOWS,
        settle: Duration::from_secs(5),
        idle_after: Duration::from_secs(1800),
        prefetch: Vec::new(),
        // Enough for all that is in use, and few enough to be quick.
        max_entries: 2_000,
        max_bytes: 64 << 20,
        render: ghtokend::server::render,
    };
    Broker::new(Arc::clone(upstream.github()), clock, Arc::new(Metrics::default()), rules)
}

pub const WINDOWS: Windows = Windows {
    renew_before: Duration::from_secs(600),
    min_validity: Duration::from_secs(300),
    grace: Duration::from_secs(30),
};
/// Callers' calls; those of the daemon itself are as many as there are keys.
const MAX_QUEUED: usize = 1024 + 500;
/// Memory takes 320 bytes for each failure, without its message.
const REMEMBERED_BYTES: usize = 1 << 20;
const MAX_REMEMBERED: usize = REMEMBERED_BYTES / 320;
pub const MINTS_PER_MINUTE: u32 = 150;
pub const PLACES: usize = 64;
/// How repositories that the app can see are called, before their number.
pub const REPOSITORY: &str = "repo-";
/// How permissions that GitHub does not know are called, at the beginning.
pub const MISSPELT: &str = "misspelt";
