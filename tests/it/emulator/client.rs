//! A client of the emulator.

#![cfg(feature = "fake-github")]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, too")]

use std::collections::BTreeMap;

use bytes::Bytes;
use ghtokend::fake_github::{FakeGithub, Options};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tokio::net::TcpStream;

/// A response, read whole.
pub struct Reply {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub text: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {}", self.text))
    }

    pub fn message(&self) -> String {
        self.json()["message"].as_str().unwrap_or_default().to_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(String::as_str).unwrap_or_default()
    }
}

/// One request on a connection of its own. `User-Agent` is added unless there is one; an empty one is left out.
pub async fn try_send(
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

pub async fn send(method: &str, url: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    try_send(method, url, headers, body).await.unwrap()
}

pub async fn start(options: Options) -> FakeGithub {
    FakeGithub::start(Options { seed: Some(1), ..options }).await.unwrap()
}

pub async fn demo() -> FakeGithub {
    start(Options::default()).await
}

pub fn now() -> i64 {
    #[expect(clippy::disallowed_methods, reason = "a client's clock")]
    jiff::Timestamp::now().as_second()
}

pub fn claims(iss: impl Into<Value>) -> Value {
    json!({"iss": iss.into(), "iat": now() - 60, "exp": now() + 540})
}

pub fn key(github: &FakeGithub) -> String {
    github.app("demo").unwrap().private_key_pem
}

/// RS256 by the key in `pem`.
pub fn signed(pem: &str, claims: &Value) -> String {
    let der = pem::parse(pem).unwrap();
    jsonwebtoken::encode(&Header::new(Algorithm::RS256), claims, &EncodingKey::from_rsa_der(der.contents()))
        .unwrap()
}

pub fn bearer(credential: &str) -> String {
    format!("Bearer {credential}")
}

/// A call with a good JWT of the app `demo`.
pub async fn as_app(github: &FakeGithub, method: &str, path: &str, body: &str) -> Reply {
    let jwt = bearer(&signed(&key(github), &claims(1001)));
    send(method, &format!("{}{path}", github.api_url()), &[("authorization", &jwt)], body).await
}

pub async fn with_token(github: &FakeGithub, token: &str, method: &str, path: &str) -> Reply {
    send(method, &format!("{}{path}", github.api_url()), &[("authorization", &bearer(token))], "").await
}

pub async fn mint(github: &FakeGithub, installation: u64, body: &str) -> Reply {
    as_app(github, "POST", &format!("/app/installations/{installation}/access_tokens"), body).await
}

pub async fn token(github: &FakeGithub, installation: u64) -> String {
    let minted = mint(github, installation, "").await;
    assert_eq!(minted.status, 201, "{}", minted.text);
    minted.json()["token"].as_str().unwrap().to_owned()
}

/// The error message of `GET /app` with `jwt`; empty if it was accepted.
pub async fn jwt_error(github: &FakeGithub, jwt: &str) -> String {
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

pub const UNDECODABLE: &str = "A JSON web token could not be decoded";

pub const EXPIRED: &str = "'Expiration time' claim ('exp') must be a numeric value representing the future time at which the assertion expires";

pub const MINT: &str = "/app/installations/1/access_tokens";

pub async fn control(github: &FakeGithub, method: &str, path: &str, body: &str) -> Reply {
    send(method, &format!("{}{path}", github.control_url()), &[], body).await
}
