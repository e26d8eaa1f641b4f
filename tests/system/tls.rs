//! A GitHub behind TLS: who is trusted, and what is done about who is not.

use std::time::Duration;

use ghtokend::fake_github::Options;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use tempfile::TempDir;

use crate::support::door::{Certificate, Door, behind_a_door};
use crate::support::world::World;

pub type Authority = CertifiedIssuer<'static, KeyPair>;

/// A private authority.
pub fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new([]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate for `name` by `authority`, which ends with the year before `end`.
pub fn certificate(authority: &Authority, name: &str, end: i32) -> Certificate {
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(end, 1, 1);
    let signing_key = KeyPair::generate().unwrap();
    Certificate { cert: params.signed_by(&signing_key, authority).unwrap(), signing_key }
}

/// A daemon that has been told of `authority`, before a GitHub with a certificate by it.
async fn trusting(authority: &Authority) -> (World, Door, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.pem");
    std::fs::write(&path, authority.pem()).unwrap();
    let environment = vec![("GHTOKEND_GITHUB__CA_FILE", path.display().to_string())];
    let certificate = certificate(authority, "localhost", 4000);
    let (world, door) = behind_a_door(Options::default(), environment, Some(&certificate)).await;
    (world, door, dir)
}

#[tokio::test]
async fn private_ca_is_trusted_when_configured() {
    let (world, _door, _dir) = trusting(&authority("Known")).await;
    let token = world.token("/token?repo=acme/widgets").await;
    assert!(world.is_accepted(&token).await);
}

#[tokio::test]
async fn bad_certificate_error_is_named_with_backoff() {
    let known = authority("Known");
    let (authority_of_it, else_its_owner) =
        ("name its certificate in github.ca_file", "check github.api_url and");
    for (shown, why, advice) in [
        (certificate(&authority("Unknown"), "localhost", 4000), "UnknownIssuer", authority_of_it),
        (certificate(&known, "elsewhere.example", 4000), "not valid for name \"localhost\"", else_its_owner),
        (certificate(&known, "localhost", 2021), "certificate expired", else_its_owner),
    ] {
        let (world, door, _dir) = trusting(&known).await;
        let warm = world.token("/token").await;
        door.show(&shown);
        let before = door.connections();
        let reply = world.get("/token?installation=2").await;
        assert_eq!((reply.status, reply.code().as_str()), (503, "github_unavailable"), "{}", reply.text());
        for says in ["could not connect to localhost (invalid peer certificate", why, advice] {
            assert!(reply.message().contains(says), "{}", reply.message());
        }
        assert_eq!(door.connections() - before, 3);
        // Twenty minutes in which it is asked for every second.
        let mut half = 0;
        for second in 0..1200 {
            world.advance(Duration::from_secs(1));
            assert_eq!(world.get("/token?installation=2").await.code(), "github_unavailable");
            if second == 599 {
                half = door.connections();
            }
        }
        // After pauses of 15 to 30 seconds, which have grown from one.
        let (first, second) = (half - before, door.connections() - half);
        assert!((20..=40).contains(&second), "{second} in ten minutes");
        assert!((5 + 20..=5 + 5 + 40).contains(&first), "{first} in the ten minutes before");
        assert_eq!((world.token("/token").await, world.mints()), (warm, 1), "{why}");
    }
}
