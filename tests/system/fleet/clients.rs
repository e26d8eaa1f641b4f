//! Forty clients of different kinds. Each goes on until the simulation drops it.

use std::sync::Arc;
use std::time::Duration;

use ghtokend::broker::{Requirement, Vended};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::time::Rng;
use super::world::{self, MISSPELT, Way, Wish, World};

/// The keys that are in use: 300 of the first app, 150 of the second, 50 of the third.
pub fn keys(rng: &mut Rng) -> Vec<Wish> {
    const PERMISSIONS: [Option<&str>; 5] =
        [None, Some("contents"), Some("issues"), Some("checks"), Some("actions")];
    let mut keys = Vec::new();
    for (app, count) in KEYS.into_iter().enumerate() {
        let installations: Vec<_> = world::installations(app).collect();
        for number in 0..count {
            let installation = installations[number % installations.len()];
            let way = match rng.below(3) {
                0 => Way::Id,
                1 => Way::Owner,
                _ => Way::Repository(rng.between(0, 3)),
            };
            keys.push(Wish::new(installation, way, PERMISSIONS[number / installations.len()]));
        }
    }
    keys
}

/// Lets all clients loose: those that use `keys` steadily, and those that do not.
pub fn start(world: &Arc<World>, keys: &[Wish], rng: &mut Rng) -> (JoinSet<()>, JoinSet<()>) {
    let (mut steady, mut unsteady) = (JoinSet::new(), JoinSet::new());
    for number in 0..STEADY {
        // Some keys have two clients.
        let of = |(at, _): &(usize, &Wish)| at % STEADY == number || at % 97 == number;
        let mine: Vec<_> = keys.iter().enumerate().filter(of).map(|(_, wish)| wish.clone()).collect();
        steady.spawn(uses_steadily(client(world, number, rng), mine));
    }
    let mut number = STEADY;
    let mut next = |rng: &mut Rng| {
        number += 1;
        client(world, number, rng)
    };
    for app in 0..KEYS.len() {
        unsteady.spawn(misspells(next(rng), app));
        unsteady.spawn(looks_for_new_keys(next(rng), app));
    }
    for app in 0..2 {
        unsteady.spawn(asks_for_ever_new_scopes(next(rng), app));
        unsteady.spawn(hangs_up(next(rng), app));
        unsteady.spawn(mints_like_an_sdk(next(rng), app));
        unsteady.spawn(rejects(next(rng), some(keys, app, 5)));
    }
    unsteady.spawn(comes_in_bursts(next(rng), 0));
    unsteady.spawn(lists(next(rng)));
    (steady, unsteady)
}

/// A client, and its own luck.
struct Client {
    world: Arc<World>,
    number: u64,
    rng: Rng,
}

fn client(world: &Arc<World>, number: usize, rng: &mut Rng) -> Client {
    Client { world: Arc::clone(world), number: number as u64 + 1, rng: rng.fork() }
}

impl Client {
    async fn vend(&self, wish: &Wish) -> Option<Vended> {
        self.world.vend(self.number, wish).await.ok()
    }

    async fn pause(&mut self, low: u64, high: u64) {
        sleep(self.rng.millis(low, high)).await;
    }
}

fn some(keys: &[Wish], app: usize, count: usize) -> Vec<Wish> {
    keys.iter().filter(|wish| wish.place.app == app).take(count).cloned().collect()
}

fn random_installation(rng: &mut Rng, app: usize) -> u64 {
    world::installation(app, rng.between(0, world::INSTALLATIONS[app]))
}

/// Asks for each of its keys every few seconds.
async fn uses_steadily(client: Client, keys: Vec<Wish>) {
    let Client { world, number, mut rng } = client;
    let mut polls = JoinSet::new();
    for wish in keys {
        let (world, mut rng) = (Arc::clone(&world), rng.fork());
        polls.spawn(async move {
            sleep(rng.seconds(0, 60)).await;
            loop {
                let _ = world.vend(number, &wish).await;
                sleep(rng.seconds(8, 20)).await;
            }
        });
    }
    while polls.join_next().await.is_some() {}
}

/// A loop without a pause, with a mistake in it.
async fn misspells(mut client: Client, app: usize) {
    let installation = random_installation(&mut client.rng, app);
    let wrong = [
        Wish::misspelt(app, 1),
        Wish::new(installation, Way::Id, Some(MISSPELT)),
        Wish::new(installation, Way::Owner, Some(MISSPELT)),
    ];
    loop {
        for wish in &wrong {
            client.vend(wish).await;
            client.pause(60, 140).await;
        }
    }
}

/// Asks for something new now and then, which is less than its share.
async fn looks_for_new_keys(mut client: Client, app: usize) {
    for number in 0_u64.. {
        let installation = random_installation(&mut client.rng, app);
        let way = *client.rng.pick(&[Way::Id, Way::Owner, Way::Repository(0)]);
        let wish = Wish::new(installation, way, Some(&format!("new_{number}")));
        client.vend(&wish).await;
        client.pause(9_000, 25_000).await;
    }
}

/// Has a defect that makes each of its requests another one.
async fn asks_for_ever_new_scopes(mut client: Client, app: usize) {
    loop {
        // It has its quiet times, in which others are to recover.
        let count = client.rng.between(100, 2000);
        for number in 0..count {
            let installation = random_installation(&mut client.rng, app);
            let run = client.rng.between(0, 1 << 40);
            let wish = Wish::new(installation, Way::Id, Some(&format!("ever_{run}_{number}")));
            let world = Arc::clone(&client.world);
            let asking = async move { world.vend(client.number, &wish).await };
            let _ = timeout(client.rng.millis(100, 20_000), asking).await;
            client.pause(20, 80).await;
        }
        client.pause(10_000, 200_000).await;
    }
}

/// Waits for nothing long.
async fn hangs_up(mut client: Client, app: usize) {
    for number in 0_u64.. {
        let installation = random_installation(&mut client.rng, app);
        let wish = match client.rng.chance(50) {
            true => Wish::new(installation, Way::Repository(number % 50), Some("pages")),
            false => Wish::misspelt(app, 100 + number),
        };
        let patience = client.rng.millis(100, 900);
        let _ = timeout(patience, client.vend(&wish)).await;
        client.pause(300, 4_000).await;
    }
}

/// Keeps tokens itself, and wants them new, or long-lived. It may give one back.
async fn mints_like_an_sdk(mut client: Client, app: usize) {
    loop {
        let installation = random_installation(&mut client.rng, app);
        let age = match client.rng.chance(70) {
            true => Requirement::RecentlyMinted,
            false => Requirement::MinTtl(client.rng.seconds(60, 900)),
        };
        let vended =
            client.vend(&Wish::new(installation, Way::Id, Some("packages")).with_requirement(age)).await;
        if let Some(vended) = vended.filter(|_| client.rng.chance(30)) {
            let token = vended.entry.token.secret.expose();
            let _ = client.world.revoke(client.number, token).await;
        }
        client.pause(15_000, 60_000).await;
    }
}

/// Takes good tokens for bad, and says so.
async fn rejects(mut client: Client, keys: Vec<Wish>) {
    loop {
        let wish = client.rng.pick(&keys).clone();
        if let Some(vended) = client.vend(&wish).await {
            client.world.reject(&vended);
        }
        let token = format!("ghs_made_up_{}", client.rng.between(0, 1000));
        let _ = client.world.revoke(client.number, &token).await;
        client.pause(2_000, 30_000).await;
    }
}

/// Starts all its jobs at once.
async fn comes_in_bursts(mut client: Client, app: usize) {
    for burst in 0_u64.. {
        client.pause(60_000, 600_000).await;
        let mut jobs = JoinSet::new();
        for number in 0..client.rng.between(20, 80) {
            let installation = random_installation(&mut client.rng, app);
            let wish = Wish::new(installation, Way::Owner, Some(&format!("burst_{burst}_{number}")));
            let (world, number) = (Arc::clone(&client.world), client.number);
            jobs.spawn(async move { drop(world.vend(number, &wish).await) });
        }
        while jobs.join_next().await.is_some() {}
    }
}

/// Looks at what there is.
async fn lists(mut client: Client) {
    loop {
        let app = client.rng.below(KEYS.len());
        let (number, page) = (client.number, client.rng.between(1, 3));
        let installation = random_installation(&mut client.rng, app);
        let wish = Wish::new(installation, Way::Owner, None);
        let world = &client.world;
        let _ = tokio::join!(
            world.describe_app(number, app),
            world.list(number, app, page),
            world.describe(number, &wish),
        );
        client.pause(500, 1_500).await;
    }
}

/// How many keys of each app are in use.
pub const KEYS: [usize; 3] = [300, 150, 50];
/// Clients that use them.
const STEADY: usize = 24;
/// Time in which every key has been asked for, and the budget has been enough for all.
pub const WARM_UP: Duration = Duration::from_secs(300);
