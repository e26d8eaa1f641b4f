//! What was once tried on a release binary and found wanting, each in virtual time, with exact counts.

use std::sync::Arc;
use std::time::Duration;

use ghtokend::broker::Vended;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::faults::{Effect, Fault, Scope};
use super::github::Ask;
use super::observer::Heard;
use super::simulate;
use super::time::Time;
use super::world::{Way, Wish, World, installation};

/// What one request came to: when it was made, how long it took, and what was heard.
pub type Outcome = (Time, Duration, Result<Vended, Heard>);

pub async fn ask(world: &World, client: u64, wish: &Wish) -> Outcome {
    let began = world.now();
    let outcome = world.vend(client, wish).await;
    (began, world.now() - began, outcome)
}

/// Asks for `wish` every so often until `until`, whatever comes, each time without waiting for the last.
pub async fn poll(world: Arc<World>, client: u64, wish: Wish, every: Duration, until: Time) -> Vec<Outcome> {
    ask_in_turn(world, client, every, until, move |_| wish.clone()).await
}

/// The same with another wish each time.
pub async fn ask_in_turn(
    world: Arc<World>,
    client: u64,
    every: Duration,
    until: Time,
    mut wish: impl FnMut(u64) -> Wish,
) -> Vec<Outcome> {
    let mut asked = JoinSet::new();
    for number in 0.. {
        let (world, wish) = (Arc::clone(&world), wish(number));
        if world.now() >= until {
            break;
        }
        asked.spawn(async move { ask(&world, client, &wish).await });
        sleep(every).await;
    }
    asked.join_all().await
}

/// A new key of the first app each time.
pub fn newcomer(number: u64) -> Wish {
    Wish::new(installation(0, 30 + number % 30), Way::Id, Some(&format!("new_{number}")))
}

pub fn served(outcomes: &[Outcome], within: Duration) -> usize {
    outcomes.iter().filter(|(_, took, outcome)| outcome.is_ok() && *took <= within).count()
}

fn mints_of(world: &World, id: u64) -> usize {
    world.calls(Time::ZERO, |call| matches!(&call.ask, Ask::Mint { installation, .. } if *installation == id))
}

fn look_ups_of(world: &World, name: &str) -> usize {
    world.calls(Time::ZERO, |call| matches!(&call.ask, Ask::LookUp { path, .. } if path.contains(name)))
}

pub fn finish(world: &World, name: &str) {
    let outcome = world.observer.outcome(&format!("cargo test --test it -- fleet::{name}"));
    outcome.unwrap_or_else(|broken| panic!("{broken}"));
}

#[test]
fn broken_installations_leave_healthy_keys_served() {
    simulate(async {
        let world = World::start(1, Duration::from_secs(60));
        let end = seconds(120);
        let broken = [installation(0, 1), installation(0, 2)];
        for id in broken {
            world.add_fault(Fault::during(Scope::Installation(id), Effect::Status(500, None), 0, FOREVER));
            tokio::spawn(poll(Arc::clone(&world), id, Wish::new(id, Way::Id, None), millis(500), end));
        }
        let warm = Wish::new(installation(0, 3), Way::Id, None);
        let warm = tokio::spawn(poll(Arc::clone(&world), 1, warm, seconds(1), end));
        // Between their attempts, so that those fail one after another.
        sleep(millis(600)).await;
        let cold = ask_in_turn(Arc::clone(&world), 2, seconds(1), end, newcomer).await;
        assert_eq!(served(&cold, seconds(1)), 120);
        // Its first token had to be waited for.
        assert_eq!(served(&warm.await.unwrap(), Duration::ZERO), 119);
        // After pauses of 1, 2, 4 … 60 s, at least half as long, and the first time with two retries.
        for id in broken {
            let calls = mints_of(&world, id);
            assert!((9..=12).contains(&calls), "{calls} calls for installation {id}");
        }
        finish(&world, "broken_installations_leave_healthy_keys_served");
    });
}

#[test]
fn broken_look_up_leaves_cold_mints_served() {
    simulate(async {
        let world = World::start(1, HOUR);
        let broken = Wish::new(installation(0, 1), Way::Repository(1), None);
        let path = broken.place.name.clone().unwrap();
        world.add_fault(Fault::during(Scope::Name(path.clone()), Effect::Status(502, None), 0, FOREVER));
        let broken = tokio::spawn(poll(Arc::clone(&world), 1, broken, seconds(1), seconds(60)));
        let cold = ask_in_turn(Arc::clone(&world), 2, seconds(1), seconds(60), newcomer).await;
        assert_eq!(served(&cold, seconds(1)), 60);
        let heard = broken.await.unwrap();
        assert!(
            heard
                .iter()
                .all(|(.., outcome)| outcome.as_ref().is_err_and(|heard| heard.word == "unavailable"))
        );
        let calls = look_ups_of(&world, &path);
        assert!((6..=24).contains(&calls), "{calls} calls");
        finish(&world, "broken_look_up_leaves_cold_mints_served");
    });
}

#[test]
fn refused_connections_end_in_tokens_within_seconds() {
    simulate(async {
        let world = World::start(1, HOUR);
        world.add_fault(Fault::during(Scope::Host, Effect::Refused, 0, 9_000));
        let mut asked = JoinSet::new();
        for number in 0..3 {
            let wish = Wish::new(installation(0, number), Way::Id, None);
            asked.spawn(poll(Arc::clone(&world), number, wish, millis(120), seconds(60)));
        }
        let outcomes = asked.join_all().await.concat();
        let failed = outcomes.iter().filter_map(|(.., outcome)| outcome.as_ref().err());
        for heard in failed {
            assert_eq!(heard.word, "unreachable", "{heard:?}");
        }
        let first = |(began, took, outcome): &Outcome| outcome.is_ok().then_some(*began + *took);
        let first = outcomes.iter().filter_map(first).min().unwrap();
        // Pauses of 0.5 to 1, 1 to 2, 2 to 4 and 4 to 8 s reach to the end of the outage; the last that may begin in it
        // is one of 16 s.
        assert!(first > seconds(9) && first < seconds(25), "{first:?}");
        let last =
            outcomes.iter().filter(|(.., outcome)| outcome.is_err()).map(|(began, ..)| *began).max().unwrap();
        assert!(last < first + seconds(1), "{last:?}");
        let calls = world.calls(Time::ZERO, |call| call.at < seconds(9));
        assert!((6..=10).contains(&calls), "{calls} calls to a host that refuses them");
        finish(&world, "refused_connections_end_in_tokens_within_seconds");
    });
}

#[test]
fn limit_lasts_as_long_as_github_said() {
    simulate(async {
        let world = World::start(1, HOUR);
        world.add_fault(Fault::during(Scope::App(0), Effect::Limit(429, Some(10)), 0, 1_000));
        let polls = poll(
            Arc::clone(&world),
            1,
            Wish::new(installation(0, 1), Way::Id, None),
            millis(500),
            seconds(60),
        );
        let outcomes = polls.await;
        let mut limited = 0;
        for (began, took, outcome) in &outcomes {
            let Err(heard) = outcome else { continue };
            limited += 1;
            assert_eq!(heard.word, "rate_limited");
            let ends = *began + *took + heard.wait.unwrap();
            // A wait is a second at least.
            assert!(ends > seconds(10) && ends < millis(11_300), "{ends:?}");
        }
        assert_eq!(limited, 21);
        assert_eq!(served(&outcomes, Duration::ZERO) + 1, outcomes.len() - limited);
        assert_eq!(world.calls(Time::ZERO, |_| true), 2);
        finish(&world, "limit_lasts_as_long_as_github_said");
    });
}

#[test]
fn limit_stops_a_cold_burst_at_once() {
    simulate(async {
        let world = World::start(1, HOUR);
        world.add_fault(Fault::during(Scope::App(0), Effect::Limit(403, Some(30)), 400, 1_000));
        let mut asked = JoinSet::new();
        for number in 0..150 {
            let world = Arc::clone(&world);
            asked.spawn(async move { ask(&world, number % 10, &newcomer(number)).await });
        }
        let outcomes = asked.join_all().await;
        // A third of the minute's budget at once, and what flows back until GitHub says stop.
        assert!((50..=52).contains(&served(&outcomes, seconds(1))), "{}", served(&outcomes, seconds(1)));
        let failed = outcomes.iter().filter_map(|(_, took, outcome)| Some((*took, outcome.as_ref().err()?)));
        let (reached, _) = failed.clone().min_by_key(|(took, _)| *took).unwrap();
        assert!(reached > millis(400) && reached < seconds(2), "{reached:?}");
        assert!(failed.clone().all(|(_, heard)| heard.word == "rate_limited"));
        // All asked at the same moment: those that waited hear of it when the first does.
        assert!(failed.clone().all(|(took, _)| took < reached + millis(300)));
        assert_eq!(
            world.calls(reached, |call| call.at < reached + seconds(29)),
            0,
            "calls after GitHub said stop"
        );
        finish(&world, "limit_stops_a_cold_burst_at_once");
    });
}

#[test]
fn repeated_mistakes_cost_a_handful_of_calls() {
    simulate(async {
        let world = World::start(1, HOUR);
        let nowhere = Wish::misspelt(0, 1);
        let unseen = Wish::unseen_repository(installation(0, 1));
        for _ in 0..300 {
            for wish in [&nowhere, &unseen] {
                assert_eq!(ask(&world, 1, wish).await.2.unwrap_err().word, "not_found");
            }
            sleep(millis(10)).await;
        }
        assert_eq!((look_ups_of(&world, "nobody"), look_ups_of(&world, "org")), (1, 1));
        for _ in 0..100 {
            world.describe_app(1, 0).await.unwrap();
            sleep(millis(10)).await;
        }
        assert_eq!(world.calls(Time::ZERO, |call| call.ask == Ask::App), 1);
        let mut revoking = JoinSet::new();
        for number in 0..100 {
            let world = Arc::clone(&world);
            revoking.spawn(async move { world.revoke(1, &format!("ghs_made_up_{number}")).await });
        }
        revoking.join_all().await;
        let revocations = world.calls(Time::ZERO, |call| matches!(call.ask, Ask::Revoke { .. }));
        // Three at once, and a sixth of ten flows back while the others are patient.
        assert!((3..=5).contains(&revocations), "{revocations}");
        assert!(ask(&world, 2, &newcomer(1)).await.2.is_ok());
        finish(&world, "repeated_mistakes_cost_a_handful_of_calls");
    });
}

#[test]
fn hanging_look_ups_leave_healthy_mints_served() {
    simulate(async {
        let world = World::start(1, HOUR);
        let end = seconds(60);
        world.add_fault(Fault::during(Scope::LookUps, Effect::Hang, 0, 60_000));
        for client in 0..4 {
            let asking = Arc::clone(&world);
            tokio::spawn(async move {
                for number in 0.. {
                    let wish = Wish::new(installation(0, client), Way::Repository(number), None);
                    let _ = timeout(millis(300), asking.vend(client, &wish)).await;
                    if asking.now() > end {
                        break;
                    }
                }
            });
            // And some that do so at the same time.
            let asking = Arc::clone(&world);
            tokio::spawn(async move {
                for number in 1_000_000_u64.. {
                    let wish = Wish::new(installation(0, client), Way::Repository(number), None);
                    let asking = Arc::clone(&asking);
                    if asking.now() > end {
                        break;
                    }
                    tokio::spawn(async move { timeout(millis(400), asking.vend(client, &wish)).await });
                    sleep(millis(20)).await;
                }
            });
        }
        let cold = ask_in_turn(Arc::clone(&world), 9, seconds(5), end, newcomer).await;
        assert_eq!(served(&cold, seconds(16)), 12);
        sleep(seconds(60)).await;
        let flood = world.calls(end + millis(500), |call| matches!(call.ask, Ask::LookUp { .. }));
        assert_eq!(flood, 0, "look-ups that nobody waits for");
        finish(&world, "hanging_look_ups_leave_healthy_mints_served");
    });
}

#[test]
fn runaway_client_leaves_others_unharmed() {
    simulate(async {
        let world = World::start(1, Duration::from_secs(600));
        let end = seconds(1500);
        for number in 0..20 {
            let wish = Wish::new(installation(0, number), Way::Id, None);
            tokio::spawn(poll(Arc::clone(&world), 10 + number % 4, wish, seconds(5), end));
        }
        world.until(seconds(60)).await;
        let ever_new = |number: u64| Wish::new(installation(0, 25), Way::Id, Some(&format!("ever_{number}")));
        tokio::spawn(ask_in_turn(Arc::clone(&world), 1, millis(200), end, ever_new));
        let cold = ask_in_turn(Arc::clone(&world), 2, seconds(10), end, newcomer).await;
        assert_eq!(served(&cold, seconds(10)), cold.len());
        finish(&world, "runaway_client_leaves_others_unharmed");
    });
}

/// `failing` keys in use of one app cannot be renewed for a quarter of an hour; a new and healthy one comes each 5 s.
fn newcomers_beside(failing: u64, name: &str) {
    simulate(async {
        let world = World::start(failing, Duration::from_secs(600));
        let (broken, end) = (300, seconds(1200));
        for number in 0..failing {
            let wish = Wish::new(installation(0, number % 30), Way::Id, Some(&format!("in_use_{number}")));
            tokio::spawn(poll(Arc::clone(&world), 10 + number % 8, wish, seconds(2), end));
            // As many as the budget lets warm up.
            sleep(millis(620)).await;
        }
        world.until(seconds(broken)).await;
        for number in 0..30 {
            let scope = Scope::Installation(installation(0, number));
            world.add_fault(Fault::during(scope, Effect::Status(500, None), broken * 1000, FOREVER));
        }
        let cold = ask_in_turn(Arc::clone(&world), 1, seconds(5), end, newcomer).await;
        assert_eq!(served(&cold, seconds(10)), 180);
        finish(&world, name);
    });
}

#[test]
fn newcomers_are_served_beside_100_failing_keys() {
    newcomers_beside(100, "newcomers_are_served_beside_100_failing_keys");
}

#[test]
fn newcomers_are_served_beside_150_failing_keys() {
    newcomers_beside(150, "newcomers_are_served_beside_150_failing_keys");
}

#[test]
fn newcomers_are_served_beside_400_failing_keys() {
    newcomers_beside(400, "newcomers_are_served_beside_400_failing_keys");
}

#[test]
fn renewals_follow_expiry_after_an_outage() {
    simulate(async {
        let world = World::start(1, HOUR);
        let (back, end) = (seconds(3120), seconds(3420));
        let key =
            |number: u64| Wish::new(installation(0, number % 60), Way::Id, Some(&format!("key_{number}")));
        let keys: Vec<_> = (0..400).map(key).collect();
        for (number, wish) in (0..).zip(&keys) {
            tokio::spawn(poll(Arc::clone(&world), number % 8, wish.clone(), seconds(20), end));
            sleep(millis(620)).await;
        }
        // All become due, and none so old that callers would wait for a new one.
        world.add_fault(Fault::during(Scope::App(0), Effect::Status(503, None), 2_850_000, 3_120_000));
        world.until(back).await;
        let due = world.observer.due(&keys);
        world.until(end).await;
        world.observer.check_recovery(&due, back, super::world::MINTS_PER_MINUTE);
        // By then nothing is remembered any more, and all that is left waits for the budget.
        let late = due.iter().map(|due| world.observer.renewed(due, back).unwrap());
        let late: Vec<_> = late.filter(|at| *at > back + seconds(61)).collect();
        assert!(late.len() > 100 && late.is_sorted(), "{late:?}");
        finish(&world, "renewals_follow_expiry_after_an_outage");
    });
}

pub fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub const HOUR: Duration = Duration::from_secs(3600);
pub const FOREVER: u64 = 1 << 40;
