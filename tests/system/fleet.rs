//! The fleet in the mix: hours of virtual time in which random parts of GitHub break, while forty clients of all kinds
//! ask for tokens. What runs is what ships, broker, cache, refresh and admission; only clock and transport are replaced.
//!
//! [`observer`] and [`traffic`] see everything and know what is promised. `FLEET_SEED=123 cargo test --test system --
//! fleet::` runs one seed again, `FLEET_SEEDS=200` so many of them, and `FLEET_TRACE=10023` prints all that happens to
//! installation 10023, or whatever else is said in events. A seed is the same run each time: jitter is drawn from the clock,
//! and who waits for one call is served in the order in which they came.

mod clients;
mod evidence;
mod faults;
mod github;
mod observer;
mod report;
mod rules;
mod scenarios;
mod time;
mod traffic;
mod world;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use time::Rng;
use tokio::time::sleep;
use world::{Place, Wish, World};

/// Runs `simulation` in virtual time.
fn simulate<F: Future>(simulation: F) -> F::Output {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(simulation)
}

async fn run(seed: u64) -> Result<(), String> {
    let mut rng = Rng::new(seed);
    let life = *rng.pick(&[3600, 3600, 3600, 1800, 1200]);
    let world = World::start(rng.between(0, u64::MAX), Duration::from_secs(life));
    let keys = clients::keys(&mut rng);
    let (mut steady, mut unsteady) = clients::start(&world, &keys, &mut rng);
    tokio::spawn(Arc::clone(&world).watch());
    let places: Vec<Place> = keys.iter().map(|wish| wish.place.clone()).collect();
    for fault in faults::at_random(&mut rng, &places, clients::WARM_UP, clients::WARM_UP + FAULTY).list() {
        world.add_fault(fault.clone());
    }
    sleep(clients::WARM_UP + FAULTY).await;
    unsteady.abort_all();
    recover(&world, &keys).await;
    steady.abort_all();
    sleep(REST).await;
    world.check_rest();
    world.observer.outcome(&format!("FLEET_SEED={seed} cargo test --test system -- fleet::"))
}

/// All is well again: every key in use is fresh within the time that its app's budget takes.
async fn recover(world: &World, keys: &[Wish]) {
    let (from, due) = (world.now(), world.observer.due(keys));
    sleep(RECOVERY).await;
    world.observer.check_recovery(&due, from, world::MINTS_PER_MINUTE);
    let state = world.observer.lock();
    println!(
        "{} keys to recover; {} calls; callers heard {:?}",
        due.len(),
        state.traffic.calls.len(),
        state.served
    );
}

const FAULTY: Duration = Duration::from_secs(2400);
const RECOVERY: Duration = Duration::from_secs(600);
/// Longer than any call.
const REST: Duration = Duration::from_secs(30);

/// The seeds to run: one, or so many.
fn seeds() -> Vec<u64> {
    let number = |name: &str| variable(name).map(|text| text.parse::<u64>().unwrap());
    match number("FLEET_SEED") {
        Some(seed) => vec![seed],
        None => (1..=number("FLEET_SEEDS").unwrap_or(SEEDS)).collect(),
    }
}

#[expect(clippy::disallowed_methods, reason = "how a run is replayed, and looked at")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// As many as CI has time for.
const SEEDS: u64 = 2;

#[test]
fn fleet_in_the_mix_keeps_every_promise() {
    let seeds = Mutex::new(seeds().into_iter());
    let failed = Mutex::new(Vec::new());
    let work = || {
        loop {
            let Some(seed) = seeds.lock().unwrap().next() else { return };
            if let Err(broken) = simulate(run(seed)) {
                println!("seed {seed}: {broken}");
                failed.lock().unwrap().push(seed);
            }
        }
    };
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        (0..threads).for_each(|_| drop(scope.spawn(work)));
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "seeds {failed:?} broke a promise: run one again with FLEET_SEED");
}
