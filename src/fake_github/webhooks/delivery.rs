//! Deliveries of webhooks: each is signed, sent once, in order, and recorded.

use std::collections::VecDeque;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::hook::Hook;
use crate::fake_github::random::{HEX, Random};

/// A webhook as it goes over the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Delivery {
    /// What `X-GitHub-Delivery` says. It stays the same when the delivery is repeated.
    pub id: String,
    /// The event, for example `installation`.
    pub event: String,
    /// The action, for example `suspend`, if the event has one.
    pub action: Option<String>,
    /// All headers but `Host` and `Content-Length`.
    pub headers: Vec<(String, String)>,
    /// The body, byte for byte what was signed.
    #[serde(skip)]
    pub body: Bytes,
}

/// A delivery that was sent, and its result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeliveryRecord {
    /// What was sent.
    #[serde(flatten)]
    pub delivery: Delivery,
    /// The receiver's status; `None` if it could not be reached or took too long.
    pub status: Option<u16>,
    /// Why there is no status.
    pub error: Option<String>,
}

/// `created_at` and `updated_at` of the installation in a webhook, which has been seen in two forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Timestamps {
    /// Seconds since 1970.
    #[default]
    Unix,
    /// Text with milliseconds and an offset, such as `2016-07-11T18:14:10.000-04:00`.
    Iso,
}

/// The webhooks of a running emulator.
#[derive(Debug, Clone)]
pub(crate) struct Webhooks {
    queue: Arc<watch::Sender<Queue>>,
    /// For delivery ids. Tokens have a generator of their own, so that a seed gives the same ones with a hook or without.
    random: Arc<Random>,
    pub(crate) timestamps: Timestamps,
    timeout: Duration,
}

#[derive(Debug, Default)]
struct Queue {
    hook: Option<Hook>,
    /// Deliveries to send; the first may be in flight.
    pending: VecDeque<Arc<QueuedDelivery>>,
    sent: VecDeque<DeliveryRecord>,
}

/// A delivery with the hook as it was when it was made.
#[derive(Debug)]
struct QueuedDelivery {
    hook: Hook,
    delivery: Delivery,
}

impl Webhooks {
    /// Without a hook, nothing is delivered. `timeout` is the receiver's.
    pub(crate) fn new(seed: Option<u64>, timestamps: Timestamps, timeout: Duration) -> Self {
        Self { queue: Arc::default(), random: Arc::new(Random::new(seed)), timestamps, timeout }
    }

    /// Deliveries that are made from now on go to `hook`.
    pub(crate) fn set_hook(&self, hook: Hook) {
        self.queue.send_modify(|queue| queue.hook = Some(hook));
    }

    /// Sends `payload` to the app with the id `app`, if there is a hook.
    pub(crate) fn enqueue(&self, app: u64, event: &str, payload: &Value) {
        if let Some(delivery) = self.signed(app, event, payload.to_string().into()) {
            self.deliver(delivery);
        }
    }

    /// A delivery of `body` to the app with the id `app`; none without a hook.
    pub(crate) fn signed(&self, app: u64, event: &str, body: Bytes) -> Option<Delivery> {
        let hook = self.queue.borrow().hook.clone()?;
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

    /// Queues `delivery` as it is. Whether there is a hook to send it to.
    pub(crate) fn deliver(&self, delivery: Delivery) -> bool {
        self.queue.send_if_modified(|queue| {
            let Some(hook) = queue.hook.clone() else { return false };
            queue.pending.push_back(Arc::new(QueuedDelivery { hook, delivery }));
            true
        })
    }

    /// Queues the delivery `id` again. Whether there was such a delivery.
    pub(crate) fn redeliver(&self, id: &str) -> bool {
        let sent = self.queue.borrow().sent.iter().find(|sent| sent.delivery.id == id).cloned();
        sent.is_some_and(|sent| self.deliver(sent.delivery))
    }

    pub(crate) fn delivered(&self) -> Vec<DeliveryRecord> {
        self.queue.borrow().sent.iter().cloned().collect()
    }

    /// Waits until nothing is left to send.
    pub(crate) async fn all_delivered(&self) {
        // The sender is in `self`, so that the channel cannot be closed while this waits.
        let _ = self.queue.subscribe().wait_for(|queue| queue.pending.is_empty()).await;
    }

    /// Drops all deliveries, pending ones included, and goes back to `hook`.
    pub(crate) fn reset(&self, hook: Option<Hook>) {
        self.queue.send_modify(|queue| *queue = Queue { hook, ..Queue::default() });
    }

    /// Sends deliveries one after the other, until it is aborted.
    pub(crate) async fn run(self) {
        let mut changes = self.queue.subscribe();
        loop {
            let next = match changes.wait_for(|queue| !queue.pending.is_empty()).await {
                Ok(queue) => queue.pending.front().cloned(),
                Err(_) => return,
            };
            let Some(queued) = next else { continue };
            let result = match timeout(self.timeout, queued.send()).await {
                Ok(result) => result.map_err(|error| error.to_string()),
                Err(_) => Err("timed out".to_owned()),
            };
            let (event, action) = (&queued.delivery.event, &queued.delivery.action);
            tracing::debug!(event, action, ?result, "webhook sent");
            self.queue.send_modify(|queue| queue.record_result(&queued, result));
        }
    }
}

impl Queue {
    /// Records the result of `queued`, unless there was a reset meanwhile.
    fn record_result(&mut self, queued: &Arc<QueuedDelivery>, result: Result<u16, String>) {
        if !self.pending.front().is_some_and(|front| Arc::ptr_eq(front, queued)) {
            return;
        }
        self.pending.pop_front();
        if self.sent.len() == MAX_DELIVERIES {
            self.sent.pop_front();
        }
        let delivery = queued.delivery.clone();
        self.sent.push_back(DeliveryRecord {
            delivery,
            status: result.as_ref().ok().copied(),
            error: result.err(),
        });
    }
}

impl QueuedDelivery {
    /// The receiver's status.
    async fn send(&self) -> Result<u16, Box<dyn Error + Send + Sync>> {
        let url = self.hook.url();
        let stream = TcpStream::connect(self.hook.addresses()).await?;
        let mut client = http1::Builder::new();
        let (mut sender, connection) =
            client.title_case_headers(true).handshake(TokioIo::new(stream)).await?;
        let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
        let mut request = hyper::Request::post(&url[url::Position::BeforePath..url::Position::AfterQuery])
            .header("Host", &url[url::Position::BeforeHost..url::Position::AfterPort]);
        for (name, value) in &self.delivery.headers {
            request = request.header(name, value);
        }
        let response = sender.send_request(request.body(Full::new(self.delivery.body.clone()))?).await?;
        let status = response.status().as_u16();
        // Reading the body lets the receiver finish.
        let _ = Limited::new(response.into_body(), MAX_RESPONSE_BYTES).collect().await;
        Ok(status)
    }
}

/// The oldest are dropped, so that an emulator can run for weeks.
const MAX_DELIVERIES: usize = 1000;
const MAX_RESPONSE_BYTES: usize = 64 * 1024;
