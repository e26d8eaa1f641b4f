//! Webhooks: what GitHub tells apps by itself. Each delivery is signed, sent once, in order, and written down.

use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use url::{Host, Url};

use crate::fake_github::digest::hex;
use crate::fake_github::options::{Options, Timestamps};
use crate::fake_github::random::{HEX, Random};
use crate::fake_github::state::refusal;
use crate::fake_github::world::definition::App;

/// Where webhooks go, and the secret that signs them. All apps share it; each is told by deliveries of its own.
#[derive(Clone)]
pub struct Hook {
    url: Url,
    addresses: Vec<SocketAddr>,
    secret: String,
}

/// A webhook as it goes over the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Delivery {
    /// What `X-GitHub-Delivery` says. It stays the same when the delivery is repeated.
    pub id: String,
    /// The event, for example `installation`.
    pub event: String,
    /// What happened, for example `suspend`, where the event says so.
    pub action: Option<String>,
    /// All headers but `Host` and `Content-Length`.
    pub headers: Vec<(String, String)>,
    /// The body, byte for byte what was signed.
    #[serde(skip)]
    pub body: Bytes,
}

/// A delivery that was sent, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Delivered {
    /// What was sent.
    #[serde(flatten)]
    pub delivery: Delivery,
    /// What the receiver answered; none if it could not be reached or took too long.
    pub status: Option<u16>,
    /// Why there is no answer.
    pub error: Option<String>,
}

impl Hook {
    /// A hook at `url`, which must be `http` and on this machine. Without a secret nothing is signed.
    ///
    /// # Errors
    ///
    /// If the URL leads anywhere else, or is none.
    pub fn new(url: &str, secret: &str) -> io::Result<Self> {
        let here = |url: &Url| {
            let port = url.port_or_known_default()?;
            let (v4, v6) = ((Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into());
            match url.host()? {
                _ if url.scheme() != "http" => None,
                Host::Domain(name) => (name == "localhost").then(|| vec![v4, v6]),
                Host::Ipv4(ip) => ip.is_loopback().then(|| vec![(ip, port).into()]),
                Host::Ipv6(ip) => ip.is_loopback().then(|| vec![v6]),
            }
        };
        let not_here = || {
            refusal(format!(
                "webhooks cannot go to `{url}`: they stay on this machine, which is http://127.0.0.1, \
                 http://localhost or http://[::1]"
            ))
        };
        let url = Url::parse(url).map_err(|_| not_here())?;
        let addresses = here(&url).ok_or_else(not_here)?;
        Ok(Self { url, addresses, secret: secret.to_owned() })
    }

    /// `X-Hub-Signature` and `X-Hub-Signature-256` for `body`.
    fn signatures(&self, body: &[u8]) -> Vec<(&'static str, String)> {
        if self.secret.is_empty() {
            return Vec::new();
        }
        let sign = |algorithm| {
            let key = hmac::Key::new(algorithm, self.secret.as_bytes());
            hex(hmac::sign(&key, body).as_ref())
        };
        vec![
            ("X-Hub-Signature", format!("sha1={}", sign(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY))),
            ("X-Hub-Signature-256", format!("sha256={}", sign(hmac::HMAC_SHA256))),
        ]
    }
}

/// All about webhooks that changes while the emulator runs.
#[derive(Debug, Clone)]
pub(crate) struct Webhooks {
    state: Arc<watch::Sender<State>>,
    /// What ids of deliveries are made of; tokens have their own, so that they do not depend on these.
    random: Arc<Random>,
    pub(crate) timestamps: Timestamps,
    patience: Duration,
}

#[derive(Debug, Default)]
struct State {
    hook: Option<Hook>,
    /// What is to be sent; the first may be on its way.
    queue: VecDeque<Arc<Order>>,
    done: VecDeque<Delivered>,
}

/// A delivery with the hook as it was when it was made.
#[derive(Debug)]
struct Order {
    hook: Hook,
    delivery: Delivery,
}

impl Webhooks {
    /// They go nowhere until there is a hook.
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            state: Arc::default(),
            random: Arc::new(Random::new(options.seed)),
            timestamps: options.webhook_timestamps,
            patience: options.webhook_timeout,
        }
    }

    /// From now on they go to `hook`, and the first is a ping for each of `apps`.
    pub(crate) fn set(&self, hook: Hook, apps: &[App]) {
        let url = hook.url.clone();
        self.state.send_modify(|state| state.hook = Some(hook));
        for app in apps {
            self.tell(app.id, "ping", &ping(app, &url));
        }
    }

    /// Tells the app with the id `app`, if there is a hook.
    pub(crate) fn tell(&self, app: u64, event: &str, payload: &Value) {
        if let Some(delivery) = self.signed(app, event, payload.to_string().into()) {
            self.deliver(delivery);
        }
    }

    /// A delivery of `body` to the app with the id `app`; none without a hook.
    pub(crate) fn signed(&self, app: u64, event: &str, body: Bytes) -> Option<Delivery> {
        let hook = self.state.borrow().hook.clone()?;
        let id = [8, 4, 4, 4, 12].map(|length| self.random.text(HEX, length)).join("-");
        let mut headers = vec![
            ("Accept", "*/*".to_owned()),
            ("Content-Type", "application/json".to_owned()),
            ("User-Agent", "GitHub-Hookshot/044aadd".to_owned()),
            ("X-GitHub-Delivery", id.clone()),
            ("X-GitHub-Event", event.to_owned()),
            ("X-GitHub-Hook-ID", app.to_string()),
            ("X-GitHub-Hook-Installation-Target-ID", app.to_string()),
            ("X-GitHub-Hook-Installation-Target-Type", "integration".to_owned()),
        ];
        headers.extend(hook.signatures(&body));
        let payload: Option<Value> = serde_json::from_slice(&body).ok();
        Some(Delivery {
            id,
            event: event.to_owned(),
            action: payload.and_then(|payload| Some(payload.get("action")?.as_str()?.to_owned())),
            headers: headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            body,
        })
    }

    /// Sends `delivery` as it is, after all that wait already. Whether there is a hook to send it to.
    pub(crate) fn deliver(&self, delivery: Delivery) -> bool {
        self.state.send_if_modified(|state| {
            let Some(hook) = state.hook.clone() else { return false };
            state.queue.push_back(Arc::new(Order { hook, delivery }));
            true
        })
    }

    /// Sends again what was sent under `id`. Whether there was such a delivery.
    pub(crate) fn redeliver(&self, id: &str) -> bool {
        let sent = self.state.borrow().done.iter().find(|done| done.delivery.id == id).cloned();
        sent.is_some_and(|sent| self.deliver(sent.delivery))
    }

    pub(crate) fn delivered(&self) -> Vec<Delivered> {
        self.state.borrow().done.iter().cloned().collect()
    }

    /// Waits until nothing is left to send.
    pub(crate) async fn all_delivered(&self) {
        // The sender is in `self`, so that the channel cannot be closed while this waits.
        let _ = self.state.subscribe().wait_for(|state| state.queue.is_empty()).await;
    }

    /// Forgets all deliveries, those to come included, and goes back to `hook`.
    pub(crate) fn reset(&self, hook: Option<Hook>) {
        self.state.send_modify(|state| *state = State { hook, ..State::default() });
    }

    /// Sends one after the other, until it is aborted.
    pub(crate) async fn run(self) {
        let mut states = self.state.subscribe();
        loop {
            let next = match states.wait_for(|state| !state.queue.is_empty()).await {
                Ok(state) => state.queue.front().cloned(),
                Err(_) => return,
            };
            let Some(order) = next else { continue };
            let answer = match timeout(self.patience, order.send()).await {
                Ok(answer) => answer.map_err(|error| error.to_string()),
                Err(_) => Err("timed out".to_owned()),
            };
            let (event, action) = (&order.delivery.event, &order.delivery.action);
            tracing::debug!(event, action, ?answer, "the emulator has sent a webhook");
            self.state.send_modify(|state| state.settle(&order, answer));
        }
    }
}

impl State {
    /// Writes down what came of `order`, unless there was a reset meanwhile.
    fn settle(&mut self, order: &Arc<Order>, answer: Result<u16, String>) {
        if !self.queue.front().is_some_and(|front| Arc::ptr_eq(front, order)) {
            return;
        }
        self.queue.pop_front();
        if self.done.len() == MAX_DELIVERIES {
            self.done.pop_front();
        }
        let delivery = order.delivery.clone();
        self.done.push_back(Delivered {
            delivery,
            status: answer.as_ref().ok().copied(),
            error: answer.err(),
        });
    }
}

impl Order {
    /// The status that the receiver answers with.
    async fn send(&self) -> Result<u16, Box<dyn Error + Send + Sync>> {
        let url = &self.hook.url;
        let stream = TcpStream::connect(self.hook.addresses.as_slice()).await?;
        let mut client = http1::Builder::new();
        let (mut sender, connection) =
            client.title_case_headers(true).handshake(TokioIo::new(stream)).await?;
        let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
        let mut request = hyper::Request::post(&url[url::Position::BeforePath..url::Position::AfterQuery])
            .header("Host", &url[url::Position::BeforeHost..url::Position::AfterPort]);
        for (name, value) in &self.delivery.headers {
            request = request.header(name, value);
        }
        let answer = sender.send_request(request.body(Full::new(self.delivery.body.clone()))?).await?;
        let status = answer.status().as_u16();
        // Reading it lets the receiver finish; what it says does not matter.
        let _ = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await;
        Ok(status)
    }
}

/// The oldest make way, so that an emulator can run for weeks.
const MAX_DELIVERIES: usize = 1000;
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// The body of the event that says a hook is there.
fn ping(app: &App, url: &Url) -> Value {
    json!({
        "zen": "Anything added dilutes everything else.", "hook_id": app.id,
        "hook": {
            "type": "App", "id": app.id, "app_id": app.id, "name": "web", "active": true, "events": app.events,
            "config": { "content_type": "json", "insecure_ssl": "0", "secret": "********", "url": url.as_str() },
        },
    })
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hook").field("url", &self.url.as_str()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_signed_as_in_githubs_own_example() {
        let hook = Hook::new("http://localhost/", "It's a Secret to Everybody").unwrap();
        let signatures = hook.signatures(b"Hello, World!");
        let expected = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        assert_eq!(signatures[1], ("X-Hub-Signature-256", expected.to_owned()));
        assert!(!format!("{hook:?}").contains("Secret"));
    }

    #[test]
    fn a_hook_leads_to_this_machine_only() {
        for url in ["http://127.0.0.1:1/x?y", "http://localhost:1", "http://[::1]:1/", "http://127.9.9.9"] {
            assert!(Hook::new(url, "").is_ok(), "{url}");
        }
        let others = [
            "https://127.0.0.1/",
            "http://192.0.2.1/",
            "http://127.0.0.1.example.com/",
            "http://localhost@example.com/",
            "http://0.0.0.0/",
            "http://[2001:db8::1]/",
            "ftp://localhost/",
            "localhost:1",
            "",
        ];
        for url in others {
            let error = Hook::new(url, "").unwrap_err().to_string();
            assert!(error.contains(&format!("`{url}`")) && error.contains("on this machine"), "{error}");
        }
    }
}
