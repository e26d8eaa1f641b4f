//! Renewal ahead of time: nobody waits for it, GitHub is asked no more than it must be, and its lagging replicas do no
//! harm.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ghtokend::app::{self, App};
use ghtokend::clock::{BootTime, Clock, SystemClock};
use ghtokend::fake_github::World as GithubWorld;
use ghtokend::fake_github::{Effect, FakeGithub, Fault, LagResponse, Options, Replication};
use ghtokend::settings::{Environment, Settings, Sources};
use jiff::Timestamp;

use crate::support::world::{Setup, World, get, until};

const MINT: &str = "/app/installations";
const MINT_1: &str = "/app/installations/1/access_tokens";

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(minutes * 60)
}

const SECOND: Duration = Duration::from_secs(1);

fn state(reply: &crate::support::world::Reply) -> &str {
    reply.header("ghtokend-token-state").unwrap_or_default()
}

fn expiry(reply: &crate::support::world::Reply) -> Timestamp {
    reply.json()["expires_at"].as_str().unwrap().parse().unwrap()
}

/// A world with `count` installations on an organisation each, and these lines in its configuration.
async fn of_many(count: u64, file: String) -> World {
    let options = Options { world: GithubWorld::with_installations(count), ..Options::default() };
    World::with(Setup { options, file, ..Setup::default() }).await
}

/// A world with these variables.
async fn with(variables: &[(&'static str, &str)]) -> World {
    let environment = variables.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    World::with(Setup { environment, ..Setup::default() }).await
}

/// Sweeps for so long, and lets GitHub answer after each `step`; how many mints there were in each.
pub async fn sweep_for(world: &World, time: Duration, step: Duration) -> Vec<usize> {
    let mut minted = Vec::new();
    for _ in 0..time.as_secs() / step.as_secs() {
        let before = world.mints();
        world.advance(step);
        world.tick();
        world.settled().await;
        minted.push(world.mints() - before);
    }
    minted
}

/// The most that fell into any minute of such steps.
pub fn most_in_a_minute(per_step: &[usize], step: Duration) -> usize {
    let steps = usize::try_from(60 / step.as_secs()).unwrap();
    per_step.windows(steps).map(|minute| minute.iter().sum()).max().unwrap_or(0)
}

#[tokio::test]
async fn renewing_token_is_refreshed_once_in_background() {
    let world = World::start().await;
    let token = world.token("/token").await;
    world.advance(minutes(50));
    let hold = world.github.hold("POST", MINT_1);
    for _ in 0..50 {
        // With GitHub's answer held back, a caller that waited for it would wait for ever.
        let reply = world.get("/token").await;
        assert_eq!((state(&reply), reply.json()["token"].as_str()), ("renewing", Some(&*token)));
    }
    hold.reached(1).await;
    hold.release();
    world.minted(2).await;
    world.advance(Duration::from_secs(6));
    let renewed = world.get("/token").await;
    assert_eq!((state(&renewed), world.mints()), ("fresh", 2));
    assert_ne!(renewed.json()["token"], token.as_str());
}

#[tokio::test]
async fn a_fresh_token_is_renewed_by_no_request() {
    let world = World::start().await;
    world.token("/token").await;
    world.advance(minutes(49));
    world.token("/token").await;
    world.minted(1).await;
}

#[tokio::test]
async fn a_renewed_token_enters_service_when_it_has_settled() {
    let world = World::start().await;
    let old = world.token("/token").await;
    world.advance(minutes(50));
    world.token("/token").await;
    world.minted(2).await;
    for second in 0..5 {
        assert_eq!(world.token("/token").await, old, "{second} s");
        let shown = &world.get("/status").await.json()["tokens"][0];
        assert_eq!(shown["state"], "renewing");
        assert_eq!(shown["successor"]["in_service_in_seconds"], 5 - second);
        assert_ne!(shown["successor"]["hashed_token"], shown["hashed_token"]);
        world.advance(SECOND);
    }
    assert_ne!(world.token("/token").await, old);
    let shown = &world.get("/status").await.json()["tokens"][0];
    assert_eq!((shown["state"].as_str(), &shown["successor"]), (Some("fresh"), &serde_json::Value::Null));
    // The old one is not only out of service, but gone.
    world.tick();
    let shown = world.get("/status").await.json()["tokens"].as_array().unwrap().clone();
    assert_eq!((shown.len(), world.get("/token").await.status, world.mints()), (1, 200, 2));
}

/// How many of the tokens that are handed out around a renewal GitHub refuses, one a second.
async fn refused_around_a_renewal(settle: &str, status: LagResponse) -> usize {
    let replication = Replication { lag_ms: 4000, status };
    let environment = vec![("GHTOKEND_CACHE__SETTLE", settle.to_owned())];
    let options = Options { replication, ..Options::default() };
    let world = World::with(Setup { options, environment, ..Setup::default() }).await;
    world.token("/token").await;
    world.advance(minutes(49));
    let mut refused = 0;
    for _ in 0..120 {
        world.advance(SECOND);
        world.tick();
        until(|| async { world.is_idle() }).await;
        let token = world.token("/token").await;
        refused += usize::from(!world.is_accepted(&token).await);
    }
    assert_eq!(world.mints(), 2);
    refused
}

#[tokio::test]
async fn settled_token_is_never_refused_by_lagging_replicas() {
    for status in [LagResponse::Unauthorized, LagResponse::Forbidden, LagResponse::NotFound] {
        assert_eq!(refused_around_a_renewal("5s", status).await, 0, "{status:?}");
    }
    assert!(refused_around_a_renewal("0s", LagResponse::Unauthorized).await >= 3);
}

#[tokio::test]
async fn while_a_token_settles_no_renewal_starts() {
    let world = World::start().await;
    world.token("/token").await;
    world.advance(minutes(50));
    world.token("/token").await;
    world.minted(2).await;
    for _ in 0..4 {
        world.advance(SECOND);
        assert_eq!(world.tick(), 0);
        world.token("/token").await;
    }
    world.minted(2).await;
}

#[tokio::test]
async fn while_a_renewal_is_under_way_the_timer_counts_no_other() {
    let world = World::start().await;
    world.token("/token").await;
    world.advance(minutes(29));
    world.token("/token").await;
    world.advance(minutes(21));
    let hold = world.github.hold("POST", MINT_1);
    assert_eq!(world.tick(), 1);
    hold.reached(1).await;
    world.advance(SECOND);
    assert_eq!(world.tick(), 0);
    hold.release();
    world.minted(2).await;
}

#[tokio::test]
async fn stale_token_yields_to_an_unsettled_one() {
    let world = with(&[("GHTOKEND_CACHE__SETTLE", "4m")]).await;
    let old = world.token("/token").await;
    world.advance(minutes(54));
    assert_eq!(world.token("/token").await, old);
    world.minted(2).await;
    world.advance(Duration::from_secs(58));
    assert_eq!(world.token("/token").await, old);
    world.advance(Duration::from_secs(3));
    let new = world.get("/token").await;
    assert_eq!((state(&new), world.mints()), ("fresh", 2));
    assert_ne!(new.json()["token"], old.as_str());
    let shown = &world.get("/status").await.json()["tokens"][0];
    assert_eq!((shown["state"].as_str(), &shown["successor"]), (Some("fresh"), &serde_json::Value::Null));
}

#[tokio::test]
async fn waiters_get_the_new_token_before_it_settles() {
    let world = World::start().await;
    let old = world.token("/token").await;
    world.advance(minutes(20));
    let new = world.token("/token?min_ttl=45m").await;
    assert_ne!(new, old);
    assert_eq!(world.token("/token").await, old);
    // It counts for whoever wants as much.
    assert_eq!(world.token("/token?min_ttl=2700").await, new);
    world.advance(Duration::from_secs(5));
    assert_eq!((world.token("/token").await, world.mints()), (new, 2));
}

#[tokio::test]
async fn a_rejected_token_makes_way_for_the_one_that_settles() {
    let world = World::start().await;
    let old = world.token("/token").await;
    world.advance(minutes(50));
    world.token("/token").await;
    world.minted(2).await;
    let outcome = async |token: &str| {
        let body = serde_json::json!({ "token": token }).to_string();
        let request = format!(
            "POST /token/reject HTTP/1.1\r\nHost: localhost\r\nGhtokend-Client: t\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        crate::support::world::send(world.address, &request).await.unwrap().json()["outcome"].clone()
    };
    assert_eq!(outcome(&old).await, "evicted");
    let new = world.token("/token").await;
    assert_eq!((new == old, world.mints()), (false, 2));
    assert_eq!((outcome(&old).await, outcome(&new).await), ("unknown".into(), "kept".into()));
    // Settled, but asked for too soon after the first.
    world.advance(Duration::from_secs(10));
    assert_eq!((outcome(&new).await, world.token("/token").await, world.mints()), ("kept".into(), new, 2));
}

#[tokio::test]
async fn rejected_token_is_not_replaced_by_its_predecessor() {
    let world = World::start().await;
    let old = world.token("/token").await;
    world.advance(minutes(50));
    world.token("/token").await;
    world.minted(2).await;
    world.advance(Duration::from_secs(10));
    let new = world.token("/token").await;
    let body = format!("{{\"token\":\"{new}\"}}");
    let request = format!(
        "POST /token/reject HTTP/1.1\r\nHost: localhost\r\nGhtokend-Client: t\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    assert_eq!(
        crate::support::world::send(world.address, &request).await.unwrap().json()["outcome"],
        "evicted"
    );
    let newest = world.token("/token").await;
    assert!(newest != new && newest != old && world.mints() == 3);
}

#[tokio::test]
async fn timer_renews_keys_in_use_with_jitter() {
    let world = of_many(20, String::new()).await;
    for id in 1..=20 {
        world.token(&format!("/token?installation={id}")).await;
    }
    // Asked for again half an hour before the renewal at the latest.
    world.advance(minutes(20));
    for id in 1..=20 {
        world.token(&format!("/token?installation={id}")).await;
    }
    // Down to 12 minutes of life nothing happens, down to 10 everything does.
    world.advance(minutes(28) - Duration::from_secs(10));
    assert_eq!(sweep_for(&world, Duration::from_secs(8), SECOND).await.iter().sum::<usize>(), 0);
    let started = sweep_for(&world, Duration::from_secs(124), SECOND).await;
    assert_eq!((started.iter().sum::<usize>(), world.mints()), (20, 40));
    let moments = started.iter().filter(|count| **count > 0).count();
    assert!(moments >= 10, "{moments} different moments: {started:?}");
    // Once is enough.
    assert_eq!(sweep_for(&world, minutes(5), SECOND).await.iter().sum::<usize>(), 0);
    // Nobody has asked since: the renewed ones expire.
    world.advance(minutes(40));
    assert_eq!(sweep_for(&world, minutes(10), SECOND).await.iter().sum::<usize>(), 0);
}

#[tokio::test]
async fn a_key_that_nobody_asks_for_expires() {
    for (variables, asked_at, renewals) in [
        (&[][..], 15, 0),
        (&[], 21, 1),
        (&[("GHTOKEND_CACHE__IDLE_AFTER", "5m")], 42, 0),
        (&[("GHTOKEND_CACHE__IDLE_AFTER", "5m")], 46, 1),
        // At most half of a token's lifetime.
        (&[("GHTOKEND_CACHE__IDLE_AFTER", "1h")], 15, 0),
    ] {
        let world = with(variables).await;
        world.token("/token").await;
        world.advance(minutes(asked_at));
        world.token("/token").await;
        world.advance(minutes(47 - asked_at));
        let started = sweep_for(&world, minutes(12), SECOND).await;
        assert_eq!(started.iter().sum::<usize>(), renewals, "asked for at minute {asked_at}, {variables:?}");
    }
}

#[tokio::test]
async fn idle_key_is_renewed_once_it_is_asked_for_again() {
    // At minute 49 the moment of some has come and gone, and all are fresh; at 51 a request has each renewed.
    for (asked_at, expected) in [(49, "fresh"), (51, "renewing")] {
        let world = of_many(20, String::new()).await;
        let ask_for_all = async |expected: &str| {
            for id in 1..=20 {
                let reply = world.get(&format!("/token?installation={id}")).await;
                assert_eq!(state(&reply), expected, "{id}");
            }
        };
        ask_for_all("fresh").await;
        world.advance(minutes(asked_at));
        assert_eq!(world.tick(), 0, "they are idle");
        ask_for_all(expected).await;
        for _ in 0..70 {
            world.advance(SECOND);
            world.tick();
            until(|| async { world.is_idle() }).await;
        }
        assert_eq!(world.mints(), 40, "asked for at minute {asked_at}");
    }
}

#[tokio::test]
async fn short_lived_tokens_are_renewed_ahead_too() {
    let world = World::start().await;
    world.github.fault(Fault::new(Effect::Lifetime { seconds: 60 }).on("POST", MINT_1));
    world.token("/token").await;
    let mut handed_out = BTreeMap::<String, usize>::new();
    for _ in 0..300 {
        world.advance(SECOND);
        world.tick();
        until(|| async { world.is_idle() }).await;
        let reply = world.get("/token").await;
        assert!(matches!(state(&reply), "fresh" | "renewing"), "{}", state(&reply));
        *handed_out.entry(reply.json()["token"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    // Each is due with 20 to 24 s left, and none waited for GitHub but the first.
    assert!((7..=10).contains(&handed_out.len()), "{handed_out:?}");
    let metrics = world.get("/metrics").await.text();
    assert!(metrics.contains("ghtokend_vends_total{app=\"default\",outcome=\"minted\"} 1\n"), "{metrics}");
}

#[tokio::test]
async fn renewal_under_load_mints_once_without_waiting() {
    let world = World::start().await;
    world.token("/token?owner=acme").await;
    let mut asked = 1;
    let mut hold = None;
    for second in 0..55 * 60_u64 {
        world.advance(SECOND);
        // A look-up now and then keeps the name known, too.
        if second % 20 > 0 && second < 47 * 60 {
            continue;
        }
        world.tick();
        if second == 47 * 60 {
            // GitHub takes its time from before the renewal until half a minute after it.
            hold = Some(world.github.hold("POST", MINT_1));
        }
        if second == 52 * 60 {
            hold.take().unwrap().reached(1).await;
        }
        let callers: Vec<_> = (0..4).map(|_| tokio::spawn(get(world.address, "/token?owner=acme"))).collect();
        for caller in callers {
            let reply = caller.await.unwrap();
            assert_eq!(reply.status, 200, "{second} s: {}", reply.text());
            assert!(matches!(state(&reply), "fresh" | "renewing"), "{second} s: {}", state(&reply));
            asked += 1;
        }
        if hold.is_none() {
            until(|| async { world.is_idle() }).await;
        }
    }
    world.minted(2).await;
    let metrics = world.get("/metrics").await.text();
    for line in [
        "ghtokend_vends_total{app=\"default\",outcome=\"minted\"} 1".to_owned(),
        format!("ghtokend_vends_total{{app=\"default\",outcome=\"cached\"}} {}", asked - 1),
        "ghtokend_mints_total{app=\"default\",outcome=\"ok\",priority=\"background\"} 1".to_owned(),
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test]
async fn failing_renewal_is_tried_ever_more_rarely() {
    let world = World::start().await;
    let token = world.token("/token").await;
    // Of a kind that is not tried again at once.
    world.github.fault(Fault::new(Effect::TruncatedBody).on("POST", MINT));
    world.advance(minutes(50));
    let mut attempts = Vec::new();
    for second in 0..200_u64 {
        world.advance(SECOND);
        let before = world.mints();
        world.tick();
        // Requests do not make it faster.
        let reply = world.get("/token").await;
        assert_eq!((state(&reply), reply.json()["token"].as_str()), ("renewing", Some(&*token)));
        until(|| async { world.is_idle() }).await;
        attempts.extend((before..world.mints()).map(|_| second));
    }
    // Between half and all of 1, 2, 4, 8, 16, 32, 60, 60 seconds lie between them.
    assert!((9..=13).contains(&attempts.len()), "{attempts:?}");
    let pauses: Vec<_> = attempts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    for (pause, doubled) in pauses.iter().zip([1_u64, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60, 60, 60]) {
        assert!((doubled.div_ceil(2)..=doubled + 1).contains(pause), "{pauses:?}");
    }
    // It is well again, and the next attempt is the last.
    world.github.clear_faults();
    let before = world.mints();
    world.advance(minutes(1));
    assert_eq!(world.token("/token").await, token);
    world.minted(before + 1).await;
    world.advance(Duration::from_secs(5));
    assert_ne!(world.token("/token").await, token);
    assert_eq!(world.mints(), before + 1);
}

#[tokio::test]
async fn named_limit_stops_the_renewals_of_the_whole_app() {
    let world = of_many(3, String::new()).await;
    for id in 1..=3 {
        world.token(&format!("/token?installation={id}")).await;
    }
    world.advance(minutes(25));
    for id in 1..=3 {
        world.token(&format!("/token?installation={id}")).await;
    }
    world.advance(minutes(25));
    world.github.fault(
        Fault::new(Effect::SecondaryLimit { status: 429, retry_after: Some(120) })
            .on("POST", MINT_1)
            .times(1),
    );
    world.token("/token?installation=1").await;
    world.minted(4).await;
    for _ in 0..118 {
        world.advance(SECOND);
        world.tick();
        world.token("/token?installation=2").await;
        world.minted(4).await;
    }
    world.advance(Duration::from_secs(3));
    assert_eq!(world.tick(), 3);
    world.minted(7).await;
}

#[tokio::test]
async fn thousand_keys_are_renewed_within_the_budget() {
    let world = of_many(1000, String::new()).await;
    world.tokens(1..=1000).await;
    world.advance(minutes(24));
    world.tokens(1..=1000).await;
    assert_eq!(world.mints(), 1000);
    world.advance(minutes(16));
    let step = Duration::from_secs(10);
    let renewed = sweep_for(&world, minutes(12), step).await;
    assert_eq!(renewed.iter().sum::<usize>(), 1000, "{renewed:?}");
    assert!(most_in_a_minute(&renewed, step) <= 150, "{renewed:?}");
    assert_eq!(world.github.counters().mints_by_installation.values().max(), Some(&2));
}

#[tokio::test]
async fn renewals_go_in_order_of_expiry() {
    // One mint each 30 s.
    let options = Options { world: GithubWorld::with_installations(6), ..Options::default() };
    let environment = vec![("GHTOKEND_GITHUB__MINTS_PER_MINUTE", "3".to_owned())];
    let world = World::with(Setup { options, environment, ..Setup::default() }).await;
    let order = [4, 2, 6, 1, 5, 3];
    for id in order {
        world.token(&format!("/token?installation={id}")).await;
        world.advance(Duration::from_secs(30));
    }
    world.advance(minutes(29));
    for id in order {
        world.token(&format!("/token?installation={id}")).await;
    }
    world.advance(minutes(21));
    let (step, mut renewed) = (Duration::from_secs(10), Vec::new());
    for _ in 0..18 {
        let before = world.mints();
        world.tick();
        // The one that expires last is asked for all the time: its renewal stays behind the others.
        world.token("/token?installation=3").await;
        world.settled().await;
        renewed.push(world.mints() - before);
        world.advance(step);
    }
    let minted: Vec<_> = world
        .github
        .journal()
        .iter()
        .filter(|entry| entry.method == "POST")
        .filter_map(|entry| entry.path.split('/').nth(3)?.parse::<u64>().ok())
        .skip(6)
        .collect();
    assert_eq!(minted, order);
    assert_eq!(renewed, [1, 0, 0].repeat(6));
}

#[tokio::test]
async fn no_budget_is_no_bound() {
    let options = Options { world: GithubWorld::with_installations(20), ..Options::default() };
    let environment = vec![("GHTOKEND_GITHUB__MINTS_PER_MINUTE", "0".to_owned())];
    let world = World::with(Setup { options, environment, ..Setup::default() }).await;
    for wait in [0, 25] {
        world.advance(minutes(wait));
        for id in 1..=20 {
            world.token(&format!("/token?installation={id}")).await;
        }
    }
    world.advance(minutes(26));
    assert_eq!(world.tick(), 20);
    world.minted(40).await;
}

#[tokio::test]
async fn a_draining_daemon_renews_nothing() {
    let environment = vec![("GHTOKEND_SHUTDOWN__DELAY", "20s".to_owned())];
    let mut world = World::with(Setup { environment, ..Setup::default() }).await;
    world.token("/token").await;
    world.advance(minutes(29));
    let token = world.token("/token").await;
    world.advance(minutes(22));
    world.begin_to_stop();
    until(|| async { world.get("/token?owner=octocat").await.code() == "shutting_down" }).await;
    assert_eq!((world.tick(), world.token("/token").await), (0, token));
    assert!(world.is_idle() && world.github.count("POST", MINT_1) == 1);
}

/// A clock that can be broken, as a defect in the sweep would show.
struct Breakable(AtomicBool);

impl Clock for Breakable {
    fn boot(&self) -> BootTime {
        assert!(!self.0.load(Ordering::SeqCst), "a defect");
        SystemClock.boot()
    }

    fn wall(&self) -> Timestamp {
        SystemClock.wall()
    }
}

#[tokio::test]
async fn a_sweep_that_panics_ends_the_daemon() {
    let github = FakeGithub::start(Options { seed: Some(1), ..Options::default() }).await.unwrap();
    let app = github.app("demo").unwrap();
    let environment = Environment::from_iter([
        ("GITHUB_API_URL", github.api_url()),
        ("GITHUB_APP_ID", app.client_id.clone()),
        ("GITHUB_APP_PRIVATE_KEY", app.private_key_pem.clone()),
        ("GHTOKEND_LISTEN__TCP", "127.0.0.1:0".to_owned()),
    ]);
    let settings = Settings::load(&Sources { environment, ..Sources::default() }).unwrap();
    let keys = app::load_keys(&settings).unwrap();
    let clock = Arc::new(Breakable(AtomicBool::new(false)));
    let app = App::build(&settings, &keys, clock.clone()).unwrap();
    let listeners = app::bind(&settings.listen).await.unwrap();
    clock.0.store(true, Ordering::SeqCst);
    let daemon = tokio::spawn(app.serve(listeners, std::future::pending()));
    assert!(daemon.await.unwrap_err().is_panic());
}

#[tokio::test]
async fn renewal_keeps_the_account_of_the_token() {
    let world = World::start().await;
    let first = world.get("/token?owner=acme").await;
    world.advance(minutes(50));
    // By number, which says nothing of the account.
    world.get("/token?installation=1").await;
    world.minted(2).await;
    world.advance(Duration::from_secs(6));
    let second = world.get("/token?installation=1").await;
    assert_eq!(second.json()["account"], "acme");
    let later = expiry(&second).duration_since(expiry(&first)).as_secs();
    assert!((49 * 60..=51 * 60).contains(&later), "{later}");
}

#[tokio::test]
async fn renewed_token_settles_from_its_own_try() {
    let replication = Replication { lag_ms: 4000, status: LagResponse::Unauthorized };
    let options = Options { replication, ..Options::default() };
    let world = World::with(Setup { options, ..Setup::default() }).await;
    let old = world.token("/token").await;
    world.advance(minutes(50));
    world.github.fault(Fault::new(Effect::Html { status: 503 }).on("POST", MINT).times(1));
    let hold = world.github.hold("POST", MINT);
    assert_eq!(world.token("/token").await, old);
    hold.reached(1).await;
    // The first try fails, just in time for another one.
    world.advance(Duration::from_millis(900));
    hold.release();
    world.minted(3).await;
    world.advance(Duration::from_millis(4500));
    assert_eq!(world.token("/token").await, old);
    world.advance(Duration::from_millis(500));
    let new = world.token("/token").await;
    assert!(new != old && world.is_accepted(&new).await);
}
