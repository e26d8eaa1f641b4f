//! The emulator, driven over loopback as any client would.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use ghtokend::fake_github::{
    Account, App, Effect, FakeGithub, Fault, Installation, Mode, Options, RateLimits, Revocation,
    SuspendedWording, TokenFormat, WiderRepositories, World, permissions,
};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tokio::net::TcpStream;

/// What came back.
struct Reply {
    status: u16,
    headers: BTreeMap<String, String>,
    text: String,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {}", self.text))
    }

    fn message(&self) -> String {
        self.json()["message"].as_str().unwrap_or_default().to_owned()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(String::as_str).unwrap_or_default()
    }
}

/// One request on a connection of its own. `User-Agent` is added unless there is one; an empty one is left out.
async fn try_send(
    method: &str,
    url: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Result<Reply, hyper::Error> {
    let rest = url.strip_prefix("http://").unwrap();
    let (host, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let stream = TcpStream::connect(host).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let mut request = hyper::Request::builder().method(method).uri(path).header("host", host);
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("user-agent")) {
        request = request.header("user-agent", "test");
    }
    for (name, value) in headers.iter().filter(|(_, value)| !value.is_empty()) {
        request = request.header(*name, *value);
    }
    let response =
        sender.send_request(request.body(Full::new(Bytes::from(body.to_owned()))).unwrap()).await?;
    let (head, body) = response.into_parts();
    let text = String::from_utf8(body.collect().await?.to_bytes().to_vec()).unwrap();
    connection.abort();
    let headers =
        head.headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
    Ok(Reply { status: head.status.as_u16(), headers: headers.collect(), text })
}

async fn send(method: &str, url: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    try_send(method, url, headers, body).await.unwrap()
}

async fn start(options: Options) -> FakeGithub {
    FakeGithub::start(Options { seed: Some(1), ..options }).await.unwrap()
}

async fn demo() -> FakeGithub {
    start(Options::default()).await
}

fn now() -> i64 {
    #[expect(clippy::disallowed_methods, reason = "a client's clock")]
    jiff::Timestamp::now().as_second()
}

fn claims(iss: impl Into<Value>) -> Value {
    json!({"iss": iss.into(), "iat": now() - 60, "exp": now() + 540})
}

fn key(github: &FakeGithub) -> String {
    github.app("demo").unwrap().private_key_pem
}

/// RS256 by the key in `pem`.
fn signed(pem: &str, claims: &Value) -> String {
    let der = pem::parse(pem).unwrap();
    jsonwebtoken::encode(&Header::new(Algorithm::RS256), claims, &EncodingKey::from_rsa_der(der.contents()))
        .unwrap()
}

fn bearer(credential: &str) -> String {
    format!("Bearer {credential}")
}

/// A call with a good JWT of the app `demo`.
async fn as_app(github: &FakeGithub, method: &str, path: &str, body: &str) -> Reply {
    let jwt = bearer(&signed(&key(github), &claims(1001)));
    send(method, &format!("{}{path}", github.api_url()), &[("authorization", &jwt)], body).await
}

async fn with_token(github: &FakeGithub, token: &str, method: &str, path: &str) -> Reply {
    send(method, &format!("{}{path}", github.api_url()), &[("authorization", &bearer(token))], "").await
}

async fn mint(github: &FakeGithub, installation: u64, body: &str) -> Reply {
    as_app(github, "POST", &format!("/app/installations/{installation}/access_tokens"), body).await
}

async fn token(github: &FakeGithub, installation: u64) -> String {
    let minted = mint(github, installation, "").await;
    assert_eq!(minted.status, 201, "{}", minted.text);
    minted.json()["token"].as_str().unwrap().to_owned()
}

/// Sends `jwt` to `GET /app`; the message, which is empty if it was accepted.
async fn verdict(github: &FakeGithub, jwt: &str) -> String {
    let reply =
        send("GET", &format!("{}/app", github.api_url()), &[("authorization", &bearer(jwt))], "").await;
    match reply.status {
        200 => String::new(),
        status => {
            assert_eq!(status, 401, "{}", reply.text);
            assert_eq!(reply.json()["documentation_url"], "https://docs.github.com/rest");
            assert_eq!(reply.json()["status"], "401");
            reply.message()
        }
    }
}

const UNDECODABLE: &str = "A JSON web token could not be decoded";
const EXPIRED: &str = "'Expiration time' claim ('exp') must be a numeric value representing the future time at which the assertion expires";
const TOO_FAR: &str = "'Expiration time' claim ('exp') is too far in the future";
const ISSUED_LATER: &str =
    "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued";
const BAD_ISSUER: &str = "'Issuer' claim ('iss') must be an Integer";

#[tokio::test]
async fn a_good_jwt_mints_a_token_that_works() {
    let github = demo().await;
    let minted = mint(&github, 1, "").await;
    assert_eq!(minted.status, 201, "{}", minted.text);
    assert_eq!(minted.json()["repository_selection"], "all");
    assert_eq!(minted.json()["permissions"]["contents"], "write");
    assert!(minted.json().get("repositories").is_none());
    let secret = minted.json()["token"].as_str().unwrap().to_owned();
    let listed = with_token(&github, &secret, "GET", "/installation/repositories").await;
    assert_eq!(listed.status, 200, "{}", listed.text);
    assert_eq!(listed.json()["total_count"], 3);
}
