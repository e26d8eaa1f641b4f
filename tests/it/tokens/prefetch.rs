//! `[[prefetch]]`: tokens minted at start, that nobody waits for.

use std::time::Duration;

use ghtokend::fake_github::World as GithubWorld;
use ghtokend::fake_github::{Effect, Fault, Options};

use crate::support::world::{Setup, World, until};
use crate::tokens::renewal::{most_in_a_minute, sweep_for};

const SECOND: Duration = Duration::from_secs(1);

async fn world(file: &str) -> World {
    World::with(Setup { file: file.to_owned(), ..Setup::default() }).await
}

#[tokio::test]
async fn prefetched_token_is_a_cache_hit() {
    let world = world(
        "[[prefetch]]\nowner = 'acme'\n\
         [[prefetch]]\nrepo = 'acme/widgets'\npermissions = { contents = 'read', issues = 'read' }\n\
         [[prefetch]]\ninstallation = 2\n\
         [[prefetch]]\nenterprise = 'acme-enterprise'\n\
         [[prefetch]]\nowner = 'Acme'\nrepositories = ['widgets', 'gadgets']\n",
    )
    .await;
    assert_eq!(world.tick(), 5);
    world.minted(5).await;
    for target in [
        "/token",
        "/token?repo=acme/widgets&permissions=issues:read,contents:read",
        "/token?owner=octocat",
        "/token?enterprise=acme-enterprise",
        "/token?owner=acme&repositories=gadgets,widgets",
    ] {
        assert_eq!(world.get(target).await.status, 200, "{target}");
    }
    // Once is enough.
    world.advance(SECOND);
    assert_eq!((world.tick(), world.mints()), (0, 5));
}

#[tokio::test]
async fn startup_does_not_wait_for_prefetch() {
    let world = world("[[prefetch]]\ninstallation = 2\n").await;
    let hold = world.github.hold("POST", "/app/installations/2");
    assert_eq!(world.tick(), 1);
    hold.reached(1).await;
    assert_eq!(world.get("/token").await.status, 200);
    assert_eq!((world.tick(), world.mints()), (0, 2));
    hold.release();
    world.minted(2).await;
    assert_eq!((world.get("/token?installation=2").await.status, world.mints()), (200, 2));
}

#[tokio::test]
async fn prefetch_skips_tokens_already_minted() {
    let world = world("[[prefetch]]\nowner = 'acme'\n").await;
    world.token("/token").await;
    world.tick();
    world.minted(1).await;
}

#[tokio::test]
async fn failed_prefetch_backs_off() {
    let world = world("[[prefetch]]\nowner = 'acme'\n").await;
    world.github.fault(Fault::new(Effect::Html { status: 503 }));
    let mut attempts = 0;
    for _ in 0..300 {
        attempts += world.tick();
        until(|| async { world.is_idle() }).await;
        world.advance(SECOND);
    }
    assert!((8..=15).contains(&attempts), "{attempts}");
    assert_eq!(world.mints(), 0, "the look-up failed already");
    world.github.clear_faults();
    for _ in 0..61 {
        world.tick();
        until(|| async { world.is_idle() }).await;
        world.advance(SECOND);
    }
    assert_eq!((world.get("/token?owner=acme").await.status, world.mints()), (200, 1));
}

#[tokio::test]
async fn denied_prefetch_waits_ten_minutes() {
    let world = world("[[prefetch]]\nowner = 'nobody'\n").await;
    let mut attempts = 0;
    for _ in 0..1190 {
        attempts += world.tick();
        until(|| async { world.is_idle() }).await;
        world.advance(SECOND);
    }
    assert_eq!((attempts, world.github.count("GET", "/users/nobody/installation")), (2, 2));
}

#[tokio::test]
async fn thousand_prefetches_stay_within_the_budget() {
    let file = (1..=1000).map(|id| format!("[[prefetch]]\ninstallation = {id}\n")).collect();
    let options = Options { world: GithubWorld::with_installations(1000), ..Options::default() };
    let world = World::with(Setup { options, file, ..Setup::default() }).await;
    assert_eq!(world.tick(), 256, "no more wait at a time");
    world.settled().await;
    assert_eq!(world.mints(), 50);
    let step = Duration::from_secs(10);
    let minted = sweep_for(&world, Duration::from_secs(600), step).await;
    assert_eq!(minted.iter().sum::<usize>(), 950, "{minted:?}");
    assert!(minted.iter().all(|minted| *minted <= 17), "a hundred a minute: {minted:?}");
    assert_eq!(most_in_a_minute(&minted, step), 100);
    assert_eq!(world.github.counters().mints_by_installation.len(), 1000);
}
