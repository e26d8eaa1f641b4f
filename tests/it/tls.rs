//! A GitHub behind a private CA.

use std::path::Path;
use std::sync::Arc;

use ghtokend::fake_github::Options;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::world::{Setup, World};

/// Ends TLS before the emulator. Returns its `https://` address.
async fn behind_tls(github: &str, certificate: rcgen::CertifiedKey<rcgen::KeyPair>) -> String {
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(certificate.signing_key.serialize_der()));
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let github = github.strip_prefix("http://").unwrap().to_owned();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, github) = (acceptor.clone(), github.clone());
            tokio::spawn(async move {
                let Ok(mut outside) = acceptor.accept(stream).await else { return };
                let mut inside = TcpStream::connect(github).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
            });
        }
    });
    format!("https://localhost:{}", address.port())
}

/// A daemon whose GitHub is behind TLS for `name`, and which has been told of the CA in `ca_file`.
async fn world(name: &str, ca_file: Option<&Path>) -> World {
    let certificate = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    if let Some(path) = ca_file {
        std::fs::write(path, certificate.cert.pem()).unwrap();
    }
    let github = ghtokend::fake_github::FakeGithub::start(Options { seed: Some(1), ..Options::default() })
        .await
        .unwrap();
    let url = behind_tls(&github.api_url(), certificate).await;
    let mut environment = vec![("GITHUB_API_URL", url)];
    if let Some(path) = ca_file {
        environment.push(("GHTOKEND_GITHUB__CA_FILE", path.display().to_string()));
    }
    let mut world = World::with(Setup { environment, ..Setup::default() }).await;
    // The daemon talks to the one behind TLS; the world's own stays idle.
    world.github = github;
    world
}

#[tokio::test]
async fn a_server_behind_a_private_ca_is_trusted_once_its_ca_is_configured() {
    let dir = tempfile::tempdir().unwrap();
    let world = world("localhost", Some(&dir.path().join("ca.pem"))).await;
    let token = world.token("/token?repo=acme/widgets").await;
    assert!(world.is_accepted(&token).await);
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_or_of_another_name_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    for (name, ca_file) in [("localhost", None), ("elsewhere.example", Some(ca.as_path()))] {
        let world = world(name, ca_file).await;
        let reply = world.get("/token").await;
        assert_eq!((reply.status, reply.code().as_str()), (503, "github_unavailable"), "{}", reply.text());
        assert!(reply.message().contains("certificate"), "{}", reply.message());
        assert_eq!(world.mints(), 0);
    }
}
