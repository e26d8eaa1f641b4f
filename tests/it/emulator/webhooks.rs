//! The emulator's webhooks, as they arrive at a receiver on loopback.

#![cfg(feature = "fake-github")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::hmac;
use ghtokend::fake_github::{
    App, Delivery, DeliveryRecord, FakeGithub, Hook, Installation, Options, Timestamps, TokenFormat, World,
    permissions,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;

use crate::emulator::client::{as_app, control, demo, start};
use crate::support::world::until;

const SECRET: &str = "It's a Secret to Everybody";

/// A request, byte for byte.
#[derive(Debug, Clone)]
struct Arrived {
    /// The request line and the headers.
    head: String,
    body: Vec<u8>,
}

impl Arrived {
    /// The value of the header that is spelled exactly so.
    fn header(&self, name: &str) -> &str {
        let prefix = format!("{name}: ");
        self.head.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap_or_default()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Such as `installation.suspend 1`.
    fn summary(&self) -> String {
        let payload = self.json();
        let action = payload["action"].as_str().unwrap_or_default();
        format!("{}.{action} {}", self.header("X-Github-Event"), payload["installation"]["id"])
    }

    fn is_signed_by(&self, secret: &str) -> bool {
        [
            ("X-Hub-Signature-256", "sha256=", hmac::HMAC_SHA256),
            ("X-Hub-Signature", "sha1=", hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY),
        ]
        .into_iter()
        .all(|(name, prefix, algorithm)| {
            let tag = hmac::sign(&hmac::Key::new(algorithm, secret.as_bytes()), &self.body);
            let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
            self.header(name) == format!("{prefix}{hex}")
        })
    }
}

/// Writes down what arrives, and answers with 204, or not at all.
struct Receiver {
    url: String,
    arrived: Arc<Mutex<Vec<Arrived>>>,
    task: JoinHandle<()>,
}

impl Receiver {
    async fn start() -> Self {
        Self::answering("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await
    }

    /// Answers with `reply`; an empty one is never sent, and the connection stays open.
    async fn answering(reply: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/webhook?from=github", listener.local_addr().unwrap());
        let arrived = Arc::<Mutex<Vec<Arrived>>>::default();
        let log = arrived.clone();
        let task = tokio::spawn(async move {
            let mut unanswered = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let request = read(&mut stream).await;
                log.lock().unwrap().push(request);
                if reply.is_empty() {
                    unanswered.push(stream);
                } else {
                    stream.write_all(reply.as_bytes()).await.unwrap();
                }
            }
        });
        Self { url, arrived, task }
    }

    fn arrived(&self) -> Vec<Arrived> {
        self.arrived.lock().unwrap().clone()
    }

    /// What arrived after the ping, in short.
    fn told(&self) -> Vec<String> {
        self.arrived().iter().map(Arrived::summary).filter(|summary| !summary.starts_with("ping")).collect()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn read(stream: &mut TcpStream) -> Arrived {
    let mut bytes = Vec::new();
    let end = loop {
        assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0, "cut off");
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let length: usize =
        head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap().parse().unwrap();
    let mut body = bytes[end + 4..].to_vec();
    while body.len() < length {
        assert_ne!(stream.read_buf(&mut body).await.unwrap(), 0, "cut off");
    }
    Arrived { head, body }
}

/// The demo's emulator with its webhooks at a receiver, the ping delivered.
async fn hooked() -> (FakeGithub, Receiver) {
    let (github, receiver) = (demo().await, Receiver::start().await);
    github.set_webhook(&receiver.url, SECRET).unwrap();
    github.all_delivered().await;
    (github, receiver)
}

fn last(github: &FakeGithub) -> DeliveryRecord {
    github.deliveries().pop().unwrap()
}

#[tokio::test]
async fn delivery_has_github_headers_and_signatures() {
    let (github, receiver) = hooked().await;
    github.suspend(1);
    github.all_delivered().await;
    let sent = receiver.arrived().pop().unwrap();
    assert_eq!(sent.head.lines().next(), Some("POST /webhook?from=github HTTP/1.1"));
    assert_eq!(sent.header("Host"), receiver.url.split('/').nth(2).unwrap());
    assert!(sent.header("User-Agent").starts_with("GitHub-Hookshot/"), "{}", sent.head);
    for (name, value) in [
        ("Accept", "*/*"),
        ("Content-Type", "application/json"),
        ("X-Github-Event", "installation"),
        ("X-Github-Hook-Id", "1001"),
        ("X-Github-Hook-Installation-Target-Id", "1001"),
        ("X-Github-Hook-Installation-Target-Type", "integration"),
    ] {
        assert_eq!(sent.header(name), value, "{}", sent.head);
    }
    let id = sent.header("X-Github-Delivery");
    assert_eq!(id.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12], "{id}");
    assert!(sent.is_signed_by(SECRET) && !sent.is_signed_by("another"), "{}", sent.head);
    let noted = last(&github);
    assert_eq!((noted.delivery.id.as_str(), noted.status, noted.error), (id, Some(204), None));
}

#[tokio::test]
async fn githubs_own_example_is_signed_as_github_says() {
    let (github, receiver) = hooked().await;
    github.deliver(github.signed("push", b"Hello, World!").unwrap());
    github.all_delivered().await;
    let sent = receiver.arrived().pop().unwrap();
    assert_eq!(sent.body, b"Hello, World!");
    let expected = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    assert_eq!(sent.header("X-Hub-Signature-256"), expected);
    assert!(sent.is_signed_by(SECRET));
}

#[tokio::test]
async fn a_new_hook_is_pinged_for_every_app() {
    let receiver = Receiver::start().await;
    let mut world = World::demo();
    world.apps.push(App::new("second", 1002));
    let webhook = Some(Hook::new(&receiver.url, "").unwrap());
    let github = start(Options { world, webhook, ..Options::default() }).await;
    github.all_delivered().await;
    let pings = receiver.arrived();
    assert_eq!(pings.len(), 2);
    for (ping, app) in pings.iter().zip([1001, 1002]) {
        assert_eq!(ping.header("X-Github-Event"), "ping");
        assert_eq!(ping.header("X-Github-Hook-Installation-Target-Id"), app.to_string());
        assert_eq!(ping.header("X-Hub-Signature-256"), "", "without a secret nothing is signed");
        let payload = ping.json();
        assert!(payload["zen"].is_string(), "{payload}");
        assert_eq!(payload["hook"]["app_id"], app);
        assert_eq!(payload["hook"]["config"]["url"], receiver.url.as_str());
        assert_eq!(payload["hook"]["config"]["secret"], "********");
    }
}

#[tokio::test]
async fn installation_changes_are_delivered_once_in_order() {
    let (github, receiver) = hooked().await;
    for _ in 0..2 {
        // The second time nothing changes.
        github.suspend(1);
    }
    github.unsuspend(1);
    github.unsuspend(1);
    github.set_permissions(1, permissions("contents:read"));
    github.set_permissions(1, permissions("contents:read"));
    github.add_repository(2, "new");
    github.add_repository(2, "new");
    github.remove_repository(2, "new");
    github.remove_repository(2, "new");
    github.delete_installation(1);
    github.delete_installation(1);
    github.add_installation(Installation::new(9, "demo", "octocat")).unwrap();
    github.all_delivered().await;
    let told = [
        "installation.suspend 1",
        "installation.unsuspend 1",
        "installation.new_permissions_accepted 1",
        "installation_repositories.added 2",
        "installation_repositories.removed 2",
        "installation.deleted 1",
        "installation.created 9",
    ];
    assert_eq!(receiver.told(), told);
    assert_eq!(github.deliveries().len(), told.len() + 1, "the ping");
    assert!(receiver.arrived().iter().all(|arrived| arrived.is_signed_by(SECRET)));
}

#[tokio::test]
async fn a_payload_shows_the_world_as_the_change_left_it() {
    let (github, receiver) = hooked().await;
    github.suspend(1);
    github.unsuspend(1);
    github.add_repository(2, "new");
    github.delete_installation(2);
    github.all_delivered().await;
    let [_, suspend, unsuspend, added, deleted] = &receiver.arrived()[..] else { panic!() };
    let (suspend, unsuspend) = (suspend.json(), unsuspend.json());
    assert!(suspend["installation"]["suspended_at"].is_string(), "{suspend}");
    assert!(unsuspend["installation"]["suspended_at"].is_null(), "{unsuspend}");
    assert!(suspend.get("repositories").is_none(), "{suspend}");
    assert_eq!(suspend["installation"]["account"]["login"], "acme");
    assert_eq!(suspend["sender"]["type"], "User");

    let added = added.json();
    assert_eq!(added["repository_selection"], "selected");
    let short = json!([{"id": 5, "node_id": "MDEwOlJlcG9zaXRvcnk1", "name": "new", "full_name": "octocat/new",
                        "private": true}]);
    assert_eq!(added["repositories_added"], short);
    assert_eq!(added["repositories_removed"], json!([]));
    assert_eq!(added.get("requester"), Some(&Value::Null));

    let names = |payload: &Value| -> Vec<String> {
        let repositories = payload["repositories"].as_array().unwrap();
        repositories.iter().map(|own| own["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&deleted.json()), ["hello-world", "new"]);
}

#[tokio::test]
async fn repository_change_is_delivered_to_each_installation() {
    let mut world = World::demo();
    world.apps.push(App::new("silent", 1002));
    world.installations.push(Installation::new(7, "silent", "acme"));
    let (github, receiver) = (start(Options { world, ..Options::default() }).await, Receiver::start().await);
    github.set_webhook(&receiver.url, SECRET).unwrap();
    github.add_repository(1, "new");
    github.rename_repository("acme", "widgets", "gizmos");
    github.remove_repository(7, "new");
    github.all_delivered().await;
    assert_eq!(
        receiver.told(),
        [
            "repository.created 1",
            "installation_repositories.added 1",
            "installation_repositories.added 7",
            "repository.renamed 1",
            "repository.deleted 1",
            "installation_repositories.removed 1",
            "installation_repositories.removed 7",
        ],
        "the app `silent` does not subscribe to `repository`"
    );
    let renamed = receiver.arrived()[5].json();
    assert_eq!(renamed["changes"], json!({"repository": {"name": {"from": "widgets"}}}));
    assert_eq!(renamed["repository"]["full_name"], "acme/gizmos");
}

#[tokio::test]
async fn a_renamed_account_is_told_to_the_subscribers_on_it() {
    let (github, receiver) = hooked().await;
    github.rename_account("acme", "acme-inc");
    github.rename_account("acme-enterprise", "big");
    github.rename_account("mona", "lisa");
    github.all_delivered().await;
    assert_eq!(receiver.told(), ["installation_target.renamed 1", "installation_target.renamed 3"]);
    let [_, organization, enterprise] = &receiver.arrived()[..] else { panic!() };
    let organization = organization.json();
    assert_eq!(organization["changes"], json!({"login": {"from": "acme"}}));
    assert_eq!(organization["account"]["login"], "acme-inc");
    assert_eq!(organization["target_type"], "Organization");
    assert_eq!(enterprise.json()["changes"], json!({"slug": {"from": "acme-enterprise"}}));
}

#[tokio::test]
async fn api_or_control_changes_are_delivered() {
    let (github, receiver) = hooked().await;
    assert_eq!(as_app(&github, "PUT", "/app/installations/1/suspended", "").await.status, 204);
    assert_eq!(control(&github, "POST", "/installations/1/unsuspend", "").await.status, 200);
    assert_eq!(as_app(&github, "DELETE", "/app/installations/1", "").await.status, 204);
    let rename = control(&github, "POST", "/repositories/octocat/hello-world/rename", r#"{"to": "bye"}"#);
    assert_eq!(rename.await.status, 200);
    github.all_delivered().await;
    assert_eq!(
        receiver.told(),
        [
            "installation.suspend 1",
            "installation.unsuspend 1",
            "installation.deleted 1",
            "repository.renamed 2"
        ]
    );
}

#[tokio::test]
async fn times_are_numbers_or_text_with_an_offset() {
    for (webhook_timestamps, expected) in
        [(Timestamps::Unix, json!(1_468_275_250)), (Timestamps::Iso, json!("2016-07-11T18:14:10.000-04:00"))]
    {
        let github = start(Options { webhook_timestamps, ..Options::default() }).await;
        github.set_webhook("http://127.0.0.1:9/", SECRET).unwrap();
        let delivery = github.delivery("installation", "suspend", 1).unwrap();
        let payload: Value = serde_json::from_slice(&delivery.body).unwrap();
        assert_eq!(payload["installation"]["created_at"], expected);
        assert_eq!(payload["installation"]["updated_at"], expected);
    }
}

#[tokio::test]
async fn delivery_can_be_repeated_reordered_or_corrupted() {
    let (github, receiver) = hooked().await;
    let suspend = github.delivery("installation", "suspend", 1).unwrap();
    let unsuspend = github.delivery("installation", "unsuspend", 1).unwrap();
    assert_eq!(receiver.told(), [""; 0], "nothing is sent by itself");
    let spoiled = Delivery { body: b"{}".to_vec().into(), ..suspend.clone() };
    for delivery in [&unsuspend, &suspend, &suspend, &spoiled] {
        assert!(github.deliver(delivery.clone()));
    }
    github.all_delivered().await;
    assert!(github.redeliver(&suspend.id));
    assert!(!github.redeliver("unheard-of"));
    github.all_delivered().await;
    let arrived = &receiver.arrived()[1..];
    let ids: Vec<&str> = arrived.iter().map(|one| one.header("X-Github-Delivery")).collect();
    assert_eq!(ids, [&unsuspend.id, &suspend.id, &suspend.id, &suspend.id, &suspend.id]);
    let good: Vec<bool> = arrived.iter().map(|one| one.is_signed_by(SECRET)).collect();
    assert_eq!(good, [true, true, true, false, true]);
    assert_eq!(arrived[1].body, arrived[4].body);
    assert!(mint_works(&github).await, "the world is as it was");
}

async fn mint_works(github: &FakeGithub) -> bool {
    crate::emulator::client::mint(github, 1, "").await.status == 201
}

#[tokio::test]
async fn every_webhook_event_can_be_sent_on_request() {
    let (github, _receiver) = hooked().await;
    let events = [
        ("installation", "created deleted suspend unsuspend new_permissions_accepted"),
        ("installation_repositories", "added removed"),
        ("installation_target", "renamed"),
        ("repository", "created deleted renamed transferred"),
        ("github_app_authorization", "revoked"),
    ];
    for (event, actions) in events {
        for action in actions.split(' ') {
            let delivery = github.delivery(event, action, 1).unwrap();
            assert_eq!((delivery.event.as_str(), delivery.action.as_deref()), (event, Some(action)));
        }
    }
    let revoked = github.delivery("github_app_authorization", "revoked", 2).unwrap();
    let revoked: Value = serde_json::from_slice(&revoked.body).unwrap();
    assert!(revoked["sender"]["id"] == 2 && revoked.get("installation").is_none(), "{revoked}");
    assert_eq!(github.delivery("installation", "exploded", 1), None);
    assert_eq!(github.delivery("installation", "deleted", 99), None);
}

#[tokio::test]
async fn receiver_response_is_recorded_without_retry() {
    let github = demo().await;
    assert_eq!(github.delivery("installation", "suspend", 1), None, "there is no hook yet");
    github.suspend(2);
    let refusing =
        Receiver::answering("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
    github.set_webhook(&refusing.url, SECRET).unwrap();
    github.all_delivered().await;
    assert_eq!((last(&github).status, last(&github).error), (Some(500), None));

    // Bound, so that nobody else takes the port, and not listening.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    github.set_webhook(&format!("http://{}/", socket.local_addr().unwrap()), SECRET).unwrap();
    github.all_delivered().await;
    assert_eq!(last(&github).status, None);
    assert!(last(&github).error.unwrap().contains("refused"));
    assert_eq!((refusing.arrived().len(), github.deliveries().len()), (1, 2));
}

#[tokio::test]
async fn silent_receiver_times_out_before_the_next_delivery() {
    assert_eq!(Options::default().webhook_timeout, Duration::from_secs(10), "as GitHub's documents say");
    let silent = Receiver::answering("").await;
    let github = start(Options { webhook_timeout: Duration::from_millis(100), ..Options::default() }).await;
    github.set_webhook(&silent.url, SECRET).unwrap();
    github.suspend(1);
    github.all_delivered().await;
    let outcomes: Vec<_> = github.deliveries().into_iter().map(|done| (done.status, done.error)).collect();
    assert_eq!(outcomes, [(None, Some("timed out".to_owned())), (None, Some("timed out".to_owned()))]);
}

#[tokio::test]
async fn control_endpoint_manages_webhook_deliveries() {
    let (github, receiver) = (demo().await, Receiver::start().await);
    let event = json!({"event": "github_app_authorization",
                       "payload": {"action": "revoked", "sender": {"id": 2}}});
    let refused = control(&github, "POST", "/deliveries", &event.to_string()).await;
    assert_eq!((refused.status, refused.json()["error"].as_str()), (404, Some("there is no webhook yet")));
    let elsewhere = json!({"url": "http://192.0.2.1/", "secret": ""}).to_string();
    let refused = control(&github, "POST", "/webhook", &elsewhere).await;
    assert!(refused.status == 400 && refused.text.contains("on this machine"), "{}", refused.text);

    let hook = json!({"url": receiver.url, "secret": SECRET}).to_string();
    assert_eq!(control(&github, "POST", "/webhook", &hook).await.status, 200);
    let sent = control(&github, "POST", "/deliveries", &event.to_string()).await.json();
    github.all_delivered().await;
    let id = sent["id"].as_str().unwrap();
    assert_eq!(control(&github, "POST", &format!("/deliveries/{id}/redeliver"), "").await.status, 200);
    assert_eq!(control(&github, "POST", "/deliveries/x/redeliver", "").await.status, 404);
    github.all_delivered().await;
    assert_eq!(receiver.told(), ["github_app_authorization.revoked null"; 2]);
    let listed = control(&github, "GET", "/deliveries", "").await;
    let newest = &listed.json()[2];
    assert_eq!((&newest["id"], &newest["event"]), (&json!(id), &json!("github_app_authorization")));
    assert_eq!((&newest["action"], &newest["status"]), (&json!("revoked"), &json!(204)));
    assert!(!listed.text.contains(SECRET));
}

#[tokio::test]
async fn reset_restores_the_initial_webhook() {
    let (first, second) = (Receiver::start().await, Receiver::start().await);
    let webhook = Some(Hook::new(&first.url, SECRET).unwrap());
    let github = start(Options { webhook, ..Options::default() }).await;
    github.set_webhook(&second.url, "other").unwrap();
    github.all_delivered().await;
    github.reset();
    assert_eq!(github.deliveries(), []);
    github.suspend(1);
    github.all_delivered().await;
    assert_eq!((first.told().len(), second.told().len()), (1, 0));
}

#[tokio::test]
async fn webhooks_do_not_change_seeded_tokens() {
    let opaque = || start(Options { token_format: TokenFormat::Opaque, ..Options::default() });
    let (plain, told, receiver) = (opaque().await, opaque().await, Receiver::start().await);
    told.set_webhook(&receiver.url, SECRET).unwrap();
    told.suspend(1);
    told.all_delivered().await;
    let ids = |github: &FakeGithub| -> Vec<String> {
        github.deliveries().into_iter().map(|done| done.delivery.id).collect()
    };
    let (again, _receiver) = hooked().await;
    assert_eq!(ids(&told)[..1], ids(&again));
    let token = async |github: &FakeGithub| {
        crate::emulator::client::mint(github, 2, "").await.json()["token"].clone()
    };
    assert_eq!(token(&plain).await, token(&told).await);
    assert!(token(&plain).await.is_string());
}

#[tokio::test]
async fn command_line_sets_webhook_url_and_secret_file() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let path = |name: &str| dir.path().join(name).display().to_string();
    std::fs::write(path("secret"), format!("{SECRET}\n")).unwrap();
    std::fs::write(path("empty"), "\n").unwrap();
    let fake = |url: &str, file: &str| {
        ["fake-github", "--key-dir", &path("keys"), "--webhook-url", url, "--webhook-secret-file", file]
            .map(str::to_owned)
    };
    let arguments = fake(&receiver.url, &path("secret"));
    let _child =
        crate::support::program::program(&arguments.each_ref().map(String::as_str), &[]).spawn().unwrap();
    until(async || !receiver.arrived().is_empty()).await;
    assert!(receiver.arrived()[0].is_signed_by(SECRET));
    for (url, file, says) in [
        ("http://192.0.2.1/", "secret", "ghtokend: --webhook-url: webhooks cannot go to `http://192.0.2.1/`"),
        (receiver.url.as_str(), "empty", "it is empty"),
        (receiver.url.as_str(), "absent", "--webhook-secret-file"),
    ] {
        let arguments = fake(url, &path(file));
        let (code, _, stderr) =
            crate::support::program::run(&arguments.each_ref().map(String::as_str), &[]).await;
        assert!(code == 65 && stderr.contains(says), "{code}: {stderr}");
    }
    let (code, _, stderr) =
        crate::support::program::run(&["fake-github", "--webhook-url", &receiver.url], &[]).await;
    assert!(code == 2 && stderr.contains("--webhook-secret-file"), "{stderr}");
}
