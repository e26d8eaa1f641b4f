//! One scenario for each rule of admission that chance alone rarely puts to the test: without the rule it fails.

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::sleep;

use super::faults::{Effect, Fault, Scope};
use super::github::Call;
use super::scenarios::{
    FOREVER, HOUR, Outcome, ask, ask_in_turn, finish, millis, newcomer, poll, seconds, served,
};
use super::simulate;
use super::time::Time;
use super::world::{Way, Wish, World, installation};

/// Asks for all of it at once, each wish as the client beside it.
async fn ask_at_once(world: &Arc<World>, wishes: impl Iterator<Item = (u64, Wish)>) -> JoinSet<Outcome> {
    let mut asked = JoinSet::new();
    for (client, wish) in wishes {
        let world = Arc::clone(world);
        asked.spawn(async move { ask(&world, client, &wish).await });
    }
    // So that all of them are under way when the next one asks.
    sleep(millis(10)).await;
    asked
}

fn words(outcomes: &[Outcome]) -> Vec<&'static str> {
    outcomes.iter().map(|(.., outcome)| outcome.as_ref().map_or_else(|heard| heard.word, |_| "ok")).collect()
}

#[test]
fn single_refused_connection_delays_nobody() {
    simulate(async {
        let world = World::start(1, HOUR);
        world.add_fault(Fault::during(Scope::Host, Effect::Refused, 0, 10));
        let first = ask_at_once(&world, [(1, newcomer(1))].into_iter()).await;
        // By then it has been refused, and is not yet tried again.
        world.until(millis(50)).await;
        let others = ask_at_once(&world, (2..12).map(|number| (number, newcomer(number)))).await;
        assert_eq!(served(&others.join_all().await, seconds(1)), 10);
        assert_eq!(served(&first.join_all().await, seconds(1)), 1);
        finish(&world, "rules::single_refused_connection_delays_nobody");
    });
}

#[test]
fn any_answer_shows_that_the_host_is_back() {
    simulate(async {
        let world = World::start(1, HOUR);
        let slow = installation(0, 1);
        world.add_fault(Fault::during(Scope::Host, Effect::Refused, 0, 6_000));
        world.add_fault(Fault::during(Scope::Installation(slow), Effect::Slow, 0, FOREVER));
        loop {
            match ask(&world, 1, &Wish::misspelt(0, 1)).await.2.unwrap_err().word {
                "not_found" => break,
                word => assert_eq!(word, "unreachable"),
            }
            sleep(millis(200)).await;
        }
        let attempt = ask_at_once(&world, [(2, Wish::new(slow, Way::Id, None))].into_iter()).await;
        let (_, took, outcome) = ask(&world, 3, &newcomer(1)).await;
        assert!(outcome.is_ok() && took < seconds(1), "{took:?}");
        assert_eq!(words(&attempt.join_all().await), ["ok"]);
        finish(&world, "rules::any_answer_shows_that_the_host_is_back");
    });
}

#[test]
fn answer_learnt_before_does_not_bring_the_host_back() {
    simulate(async {
        let world = World::start(1, HOUR);
        let failing = installation(0, 1);
        world.add_fault(Fault::during(Scope::Installation(failing), Effect::Status(500, None), 0, 200));
        world.add_fault(Fault::during(Scope::Host, Effect::Refused, 200, 10_000));
        // It is answered, and waits to be sent once more while the others find out that there is no connection.
        let retried = ask_at_once(&world, [(1, Wish::new(failing, Way::Id, None))].into_iter()).await;
        world.until(millis(200)).await;
        let others = ask_at_once(&world, (2..8).map(|number| (number, newcomer(number)))).await;
        assert_eq!(words(&retried.join_all().await), ["unavailable"]);
        let before = world.now();
        assert_eq!(words(&[ask(&world, 8, &newcomer(8)).await]), ["unreachable"]);
        assert_eq!(world.calls(before, |_| true), 0);
        drop(others.join_all().await);
        finish(&world, "rules::answer_learnt_before_does_not_bring_the_host_back");
    });
}

#[test]
fn answer_to_a_call_from_before_does_not_end_a_limit() {
    simulate(async {
        let world = World::start(1, HOUR);
        let slow = installation(0, 1);
        world.add_fault(Fault::during(Scope::Installation(slow), Effect::Slow, 0, 500));
        world.add_fault(Fault::during(Scope::App(0), Effect::Limit(429, Some(30)), 500, 2_000));
        let under_way = ask_at_once(&world, [(1, Wish::new(slow, Way::Id, None))].into_iter()).await;
        world.until(seconds(1)).await;
        assert_eq!(ask(&world, 2, &newcomer(1)).await.2.unwrap_err().word, "rate_limited");
        assert_eq!(words(&under_way.join_all().await), ["ok"]);
        assert!(world.now() < seconds(12));
        let polls = poll(Arc::clone(&world), 3, newcomer(2), seconds(1), seconds(40)).await;
        let limited = polls.iter().filter(|(.., outcome)| outcome.is_err()).map(|(began, ..)| *began).max();
        assert!(limited > Some(seconds(29)), "{limited:?}");
        assert_eq!(world.calls(millis(1_500), |call| call.at < seconds(31)), 0);
        finish(&world, "rules::answer_to_a_call_from_before_does_not_end_a_limit");
    });
}

/// A suspended installation, of which the next attempts hang until `until`, in milliseconds.
async fn suspended_then_hanging(until: u64) -> Arc<World> {
    let (world, id) = (World::start(1, HOUR), installation(0, 1));
    world.add_fault(Fault::during(Scope::Installation(id), Effect::Suspended, 0, 1_000));
    world.add_fault(Fault::during(Scope::Installation(id), Effect::Hang, 1_000, until));
    assert_eq!(ask(&world, 1, &Wish::new(id, Way::Id, None)).await.2.unwrap_err().word, "suspended");
    world.until(millis(1_500)).await;
    world
}

fn of_suspended(number: u64) -> Wish {
    Wish::new(installation(0, 1), Way::Id, Some(&format!("key_{number}")))
}

#[test]
fn attempt_that_hangs_is_awaited_for_five_seconds() {
    simulate(async {
        let world = suspended_then_hanging(2_000).await;
        let hanging = ask_at_once(&world, [(1, of_suspended(1))].into_iter()).await;
        let (_, took, outcome) = ask(&world, 2, &of_suspended(2)).await;
        assert!(outcome.is_ok() && took > seconds(4) && took < seconds(6), "{took:?}");
        assert_eq!(words(&hanging.join_all().await), ["timed_out"]);
        finish(&world, "rules::attempt_that_hangs_is_awaited_for_five_seconds");
    });
}

#[test]
fn late_caller_hears_the_result_of_the_attempt() {
    simulate(async {
        let world = suspended_then_hanging(20_000).await;
        let asked = ask_at_once(&world, (1..=5).map(|number| (number, of_suspended(number)))).await;
        let heard = words(&asked.join_all().await);
        // An attempt each five seconds, while callers wait for ten.
        let of = |word| heard.iter().filter(|heard| **heard == word).count();
        assert!(of("suspended") >= 2 && of("suspended") + of("timed_out") == 5, "{heard:?}");
        finish(&world, "rules::late_caller_hears_the_result_of_the_attempt");
    });
}

#[test]
fn hung_installations_leave_places_to_others() {
    simulate(async {
        let world = World::start(1, HOUR);
        let end = seconds(180);
        for number in 0..8 {
            let id = installation(0, number);
            world.add_fault(Fault::during(Scope::Installation(id), Effect::Hang, 0, FOREVER));
            let ever_new = move |at| Wish::new(id, Way::Id, Some(&format!("ever_{at}")));
            tokio::spawn(ask_in_turn(Arc::clone(&world), 10 + number, millis(500), end, ever_new));
        }
        // By then it is known of each that it hangs.
        world.until(seconds(45)).await;
        let cold = ask_in_turn(Arc::clone(&world), 1, seconds(5), end, newcomer).await;
        assert_eq!(served(&cold, seconds(3)), 27);
        finish(&world, "rules::hung_installations_leave_places_to_others");
    });
}

/// Look-ups that hang, by the client and the wish of each, hold no more places than leave one to a newcomer.
fn newcomer_beside_hanging_look_ups(wish: impl Fn(u64) -> (u64, Wish), name: &str) {
    simulate(async {
        let world = World::start(1, HOUR);
        world.add_fault(Fault::during(Scope::LookUps, Effect::Hang, 0, FOREVER));
        let hanging = ask_at_once(&world, (0..100).map(wish)).await;
        let (_, took, outcome) = ask(&world, 99, &newcomer(1)).await;
        assert!(outcome.is_ok() && took < seconds(1), "{took:?}");
        drop(hanging);
        finish(&world, name);
    });
}

#[test]
fn owner_holds_a_quarter_of_the_places() {
    let of_owner = |number| (number % 8, Wish::new(installation(0, 1), Way::Repository(number), None));
    newcomer_beside_hanging_look_ups(of_owner, "rules::owner_holds_a_quarter_of_the_places");
}

#[test]
fn client_holds_three_quarters_of_the_places() {
    let of_client = |number| (1, Wish::misspelt(0, number));
    newcomer_beside_hanging_look_ups(of_client, "rules::client_holds_three_quarters_of_the_places");
}

#[test]
fn renewals_ahead_hold_half_of_the_places() {
    simulate(async {
        let world = World::start(1, seconds(600));
        let end = seconds(520);
        for number in 0..90 {
            let wish = Wish::new(installation(0, number % 30), Way::Id, Some(&format!("key_{number}")));
            tokio::spawn(poll(Arc::clone(&world), 10 + number % 8, wish, seconds(20), end));
            sleep(millis(620)).await;
        }
        // Until it ends, all become due and none so old that it is urgent; then they hang.
        world.add_fault(Fault::during(Scope::App(0), Effect::Limit(429, Some(180)), 300_000, 301_000));
        for number in 0..30 {
            let scope = Scope::Installation(installation(0, number));
            world.add_fault(Fault::during(scope, Effect::Hang, 301_000, FOREVER));
        }
        world.until(millis(300_500)).await;
        assert_eq!(ask(&world, 1, &newcomer(99)).await.2.unwrap_err().word, "rate_limited");
        world.until(seconds(482)).await;
        let cold = ask_in_turn(Arc::clone(&world), 1, seconds(1), seconds(500), newcomer).await;
        assert_eq!(served(&cold, seconds(3)), 18);
        finish(&world, "rules::renewals_ahead_hold_half_of_the_places");
    });
}

#[test]
fn caller_without_a_place_waits_for_as_long_as_a_call_hangs() {
    simulate(async {
        let world = World::start(1, HOUR);
        world.add_fault(Fault::during(Scope::LookUps, Effect::Hang, 0, 500));
        let hanging =
            ask_at_once(&world, (0..64).map(|number| (number % 8, Wish::misspelt(0, number)))).await;
        let (_, took, outcome) = ask(&world, 99, &newcomer(1)).await;
        assert!(outcome.is_ok() && took > seconds(14) && took < seconds(16), "{took:?}");
        assert_eq!(words(&hanging.join_all().await), ["timed_out"; 64]);
        finish(&world, "rules::caller_without_a_place_waits_for_as_long_as_a_call_hangs");
    });
}

#[test]
fn cheap_calls_do_not_starve_mints() {
    simulate(async {
        let world = World::start(1, HOUR);
        let end = seconds(150);
        for client in 0..4 {
            let ever_new = move |number| Wish::misspelt(0, client * 100_000 + number);
            tokio::spawn(ask_in_turn(Arc::clone(&world), 10 + client, millis(200), end, ever_new));
        }
        world.until(seconds(60)).await;
        let cold = ask_in_turn(Arc::clone(&world), 1, seconds(5), end, newcomer).await;
        assert_eq!(served(&cold, seconds(10)), 18);
        finish(&world, "rules::cheap_calls_do_not_starve_mints");
    });
}

#[test]
fn apps_take_turns_for_places() {
    simulate(async {
        let world = World::start(1, HOUR);
        let end = seconds(120);
        world.add_fault(Fault::during(Scope::LookUps, Effect::Slow, 0, FOREVER));
        for client in 0..8 {
            let ever_new = move |number| Wish::misspelt(0, client * 100_000 + number);
            tokio::spawn(ask_in_turn(Arc::clone(&world), 10 + client, millis(400), end, ever_new));
        }
        world.until(seconds(30)).await;
        let other = |number| Wish::new(installation(1, number % 30), Way::Id, Some(&format!("new_{number}")));
        let cold = ask_in_turn(Arc::clone(&world), 1, seconds(5), end, other).await;
        assert_eq!(served(&cold, seconds(3)), 18);
        finish(&world, "rules::apps_take_turns_for_places");
    });
}

#[test]
fn retries_are_a_tenth_of_all_calls() {
    simulate(async {
        let world = World::start(1, HOUR);
        world.add_fault(Fault::during(Scope::App(0), Effect::Status(503, None), 0, FOREVER));
        let cold = ask_in_turn(Arc::clone(&world), 1, millis(700), seconds(70), newcomer).await;
        assert_eq!(words(&cold), vec!["unavailable"; 100]);
        let calls = world.calls(Time::ZERO, Call::is_mint);
        // Ten at first, three a minute, and a tenth of what is sent.
        assert!((122..=126).contains(&calls), "{calls}");
        finish(&world, "rules::retries_are_a_tenth_of_all_calls");
    });
}

#[test]
fn joiner_of_a_mint_has_a_share_of_its_own() {
    simulate(async {
        let world = World::start(1, HOUR);
        let others = (1_000..1_050).map(|number| (number % 8, newcomer(number)));
        drop(ask_at_once(&world, others).await.join_all().await);
        let greedy = ask_at_once(&world, (0..64).map(|number| (20, newcomer(number)))).await;
        // The last of those, on the account of the first who asked.
        let (_, took, outcome) = ask(&world, 21, &newcomer(63)).await;
        assert!(outcome.is_ok() && took > seconds(9) && took < seconds(12), "{took:?}");
        let heard = words(&greedy.join_all().await);
        assert!(heard.contains(&"caller_limited"), "{heard:?}");
        finish(&world, "rules::joiner_of_a_mint_has_a_share_of_its_own");
    });
}

#[test]
fn newcomers_have_twice_the_share_of_failing_questions() {
    simulate(async {
        let world = World::start(1, HOUR);
        let end = seconds(480);
        for number in 0..120 {
            let id = installation(0, number % 30);
            if number < 30 {
                world.add_fault(Fault::during(
                    Scope::Installation(id),
                    Effect::Status(500, None),
                    0,
                    FOREVER,
                ));
            }
            let wish = Wish::new(id, Way::Id, Some(&format!("failing_{number}")));
            tokio::spawn(poll(Arc::clone(&world), 10 + number % 8, wish, seconds(2), end));
        }
        let cold = (0..8).map(|client| {
            let of_client = move |number| newcomer(client * 10_000 + number);
            ask_in_turn(Arc::clone(&world), client, seconds(2), end, of_client)
        });
        let cold: JoinSet<_> = cold.collect();
        drop(cold.join_all().await);
        let mints = |is_failing: bool| {
            world.calls(seconds(180), |call| {
                call.is_mint() && call.question().contains("failing") == is_failing
            })
        };
        let (failing, new) = (mints(true), mints(false));
        // 100 flow back in a minute: of five minutes' mints a third and two thirds.
        assert!((155..=180).contains(&failing) && (320..=345).contains(&new), "{failing} failing, {new} new");
        finish(&world, "rules::newcomers_have_twice_the_share_of_failing_questions");
    });
}
