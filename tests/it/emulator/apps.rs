//! The emulator, driven over loopback as any client would.

#![cfg(feature = "fake-github")]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, too")]

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use ghtokend::fake_github::{
    Account, App, Effect, FakeGithub, Fault, Installation, LagResponse, Mode, Options, RateLimits,
    Replication, Revocation, SuspendedWording, TokenFormat, WiderRepositories, World, permissions,
};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tokio::net::TcpStream;

/// What came back.
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

pub async fn send(method: &str, url: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    try_send(method, url, headers, body).await.unwrap()
}

pub async fn start(options: Options) -> FakeGithub {
    FakeGithub::start(Options { seed: Some(1), ..options }).await.unwrap()
}

pub async fn demo() -> FakeGithub {
    start(Options::default()).await
}

fn now() -> i64 {
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

pub const UNDECODABLE: &str = "A JSON web token could not be decoded";
const EXPIRED: &str = "'Expiration time' claim ('exp') must be a numeric value representing the future time at which the assertion expires";
const TOO_FAR: &str = "'Expiration time' claim ('exp') is too far in the future";
const ISSUED_LATER: &str =
    "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued";
const BAD_ISSUER: &str = "'Issuer' claim ('iss') must be an Integer";
/// Of the first key in the bundle.
const FINGERPRINT: &str = "rdHfeOR8NMG1DNecq81SdExNVWFtMdjvkMiK23Dp51M=";

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

// JWTs

#[tokio::test]
async fn iss_may_be_an_integer_a_numeric_string_or_the_client_id() {
    let github = demo().await;
    let key = key(&github);
    for iss in [json!(1001), json!("1001"), json!("Iv23liDemoApp0000001")] {
        assert_eq!(verdict(&github, &signed(&key, &claims(iss))).await, "");
    }
}

#[tokio::test]
async fn an_old_enterprise_server_refuses_a_client_id() {
    let github = start(Options { client_id_iss: false, ..Options::default() }).await;
    let key = key(&github);
    assert_eq!(verdict(&github, &signed(&key, &claims("Iv23liDemoApp0000001"))).await, BAD_ISSUER);
    assert_eq!(verdict(&github, &signed(&key, &claims("1001"))).await, "");
}

#[tokio::test]
async fn wrong_jwt_claim_has_its_own_message() {
    let github = demo().await;
    let key = key(&github);
    let check = async |change: fn(&mut Value), message: &str| {
        let mut claims = claims(1001);
        change(&mut claims);
        assert_eq!(verdict(&github, &signed(&key, &claims)).await, message, "{claims}");
    };
    check(|claims| claims["exp"] = json!(now()), EXPIRED).await;
    check(|claims| claims["exp"] = json!("soon"), EXPIRED).await;
    check(|claims| claims["exp"] = json!(now() + 660), TOO_FAR).await;
    check(|claims| claims["iat"] = json!(now() + 60), ISSUED_LATER).await;
    check(|claims| claims["iat"] = json!("now"), ISSUED_LATER).await;
    check(|claims| claims["iat"] = json!(1.5), ISSUED_LATER).await;
    check(
        |claims| drop(claims.as_object_mut().unwrap().remove("iss")),
        "Missing 'issuer' claim ('iss') in assertion",
    )
    .await;
    check(|claims| claims["iss"] = json!("nobody"), BAD_ISSUER).await;
    check(|claims| claims["iss"] = json!(1.5), BAD_ISSUER).await;
    check(|claims| claims["iss"] = json!(4711), "Integration not found").await;
    check(|claims| claims["iss"] = json!("4711"), "Integration not found").await;
    check(
        |claims| drop(claims.as_object_mut().unwrap().remove("exp")),
        "Missing 'expiration time' claim ('exp') in assertion",
    )
    .await;
    check(
        |claims| drop(claims.as_object_mut().unwrap().remove("iat")),
        "Missing 'issued at' claim ('iat') in assertion",
    )
    .await;
}

#[tokio::test]
async fn jwt_lifetime_limit_is_ten_minutes() {
    let github = demo().await;
    let key = key(&github);
    let claims = |life: i64| json!({"iss": 1001, "iat": now(), "exp": now() + life});
    assert_eq!(verdict(&github, &signed(&key, &claims(600))).await, "");
    assert_eq!(verdict(&github, &signed(&key, &claims(660))).await, TOO_FAR);
}

#[tokio::test]
async fn wrongs_are_told_in_the_order_parse_iss_key_signature_exp_iat() {
    let github = demo().await;
    let good = key(&github);
    let other = github.add_key("demo").unwrap();
    assert!(github.remove_key("demo", &other.fingerprint));
    // Each of these is wrong in everything that is checked after what it is refused for.
    let no_iss = json!({"iat": now() + 60, "exp": now()});
    let wrong_iss = json!({"iss": "nobody", "iat": now() + 60, "exp": now()});
    let late = json!({"iss": 1001, "iat": now() + 60, "exp": now()});
    let early = json!({"iss": 1001, "iat": now() + 60, "exp": now() + 540});
    let foreign = &other.private_key_pem;
    assert_eq!(verdict(&github, "not.a.jwt").await, UNDECODABLE);
    assert_eq!(
        verdict(&github, &signed(foreign, &no_iss)).await,
        "Missing 'issuer' claim ('iss') in assertion"
    );
    assert_eq!(verdict(&github, &signed(foreign, &wrong_iss)).await, BAD_ISSUER);
    assert_eq!(verdict(&github, &signed(foreign, &late)).await, UNDECODABLE);
    assert_eq!(verdict(&github, &signed(&good, &late)).await, EXPIRED);
    assert_eq!(verdict(&github, &signed(&good, &early)).await, ISSUED_LATER);
    let fingerprint = github.app("demo").unwrap().keys[0].fingerprint.clone();
    assert!(github.remove_key("demo", &fingerprint));
    assert_eq!(verdict(&github, &signed(&good, &late)).await, "Integration must generate a public key");
}

#[tokio::test]
async fn no_algorithm_but_rs256_is_taken() {
    let github = demo().await;
    let pem = key(&github);
    let der = pem::parse(&pem).unwrap();
    let rsa = EncodingKey::from_rsa_der(der.contents());
    for algorithm in [Algorithm::PS256, Algorithm::RS384, Algorithm::RS512] {
        let jwt = jsonwebtoken::encode(&Header::new(algorithm), &claims(1001), &rsa).unwrap();
        assert_eq!(verdict(&github, &jwt).await, UNDECODABLE, "{algorithm:?}");
    }
    // Signed by HMAC under whatever the public key may look like to a careless checker.
    let keyed = EncodingKey::from_secret(der.contents());
    let jwt = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims(1001), &keyed).unwrap();
    assert_eq!(verdict(&github, &jwt).await, UNDECODABLE);
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let unsigned = format!("{}.{}.", part(&json!({"alg": "none"})), part(&claims(1001)));
    assert_eq!(verdict(&github, &unsigned).await, UNDECODABLE);
    // A good signature under a header that claims another algorithm.
    let good = signed(&pem, &claims(1001));
    let rest = good.split_once('.').unwrap().1;
    assert_eq!(verdict(&github, &format!("{}.{rest}", part(&json!({"alg": "ES256"})))).await, UNDECODABLE);
    assert_eq!(verdict(&github, &good).await, "");
    // Signed as RS256 all over, but under another name.
    let signing = aws_lc_rs::rsa::KeyPair::from_der(der.contents()).unwrap();
    for (name, message) in [("RS256", ""), ("PS256", UNDECODABLE), ("rs256", UNDECODABLE)] {
        let message_part = format!("{}.{}", part(&json!({"alg": name})), part(&claims(1001)));
        let mut signature = vec![0; 256];
        let random = aws_lc_rs::rand::SystemRandom::new();
        let padding = &aws_lc_rs::signature::RSA_PKCS1_SHA256;
        signing.sign(padding, &random, message_part.as_bytes(), &mut signature).unwrap();
        let jwt = format!("{message_part}.{}", URL_SAFE_NO_PAD.encode(&signature));
        assert_eq!(verdict(&github, &jwt).await, message, "{name}");
    }
}

#[tokio::test]
async fn a_changed_claim_breaks_the_signature() {
    let github = demo().await;
    let jwt = signed(&key(&github), &claims(1001));
    let parts: Vec<&str> = jwt.split('.').collect();
    let other = URL_SAFE_NO_PAD.encode(json!({"iss": 1001, "iat": now(), "exp": now() + 500}).to_string());
    assert_eq!(verdict(&github, &format!("{}.{other}.{}", parts[0], parts[2])).await, UNDECODABLE);
}

#[tokio::test]
async fn every_key_of_an_app_signs_until_it_is_removed() {
    let github = demo().await;
    let first = key(&github);
    let second = github.add_key("demo").unwrap();
    assert_eq!(github.app("demo").unwrap().keys.len(), 2);
    for pem in [&first, &second.private_key_pem] {
        assert_eq!(verdict(&github, &signed(pem, &claims(1001))).await, "");
    }
    assert!(github.remove_key("demo", &second.fingerprint));
    assert_eq!(verdict(&github, &signed(&second.private_key_pem, &claims(1001))).await, UNDECODABLE);
    assert_eq!(verdict(&github, &signed(&first, &claims(1001))).await, "");
}

#[tokio::test]
async fn key_is_pkcs1_with_public_key_fingerprint() {
    let github = demo().await;
    let key = github.app("demo").unwrap().keys[0].clone();
    assert!(key.private_key_pem.starts_with("-----BEGIN RSA PRIVATE KEY-----\n"));
    // By: openssl rsa -in … -pubout -outform DER | openssl sha256 -binary | openssl base64
    assert_eq!(key.fingerprint, FINGERPRINT);
}

#[tokio::test]
async fn generated_pkcs1_key_signs() {
    let github = FakeGithub::start(Options::default()).await.unwrap();
    assert!(key(&github).starts_with("-----BEGIN RSA PRIVATE KEY-----\n"));
    assert_eq!(verdict(&github, &signed(&key(&github), &claims(1001))).await, "");
    assert_ne!(key(&github), key(&demo().await));
}

#[tokio::test]
async fn skewed_clock_affects_date_and_jwt_validation() {
    let github = demo().await;
    let key = key(&github);
    github.skew(-300);
    assert_eq!(verdict(&github, &signed(&key, &claims(1001))).await, TOO_FAR);
    let reply = as_app(&github, "GET", "/app", "").await;
    let date = jiff::fmt::rfc2822::parse(reply.header("date")).unwrap().timestamp().as_second();
    assert!((now() - date - 300).abs() < 5, "{}", reply.header("date"));
    assert_eq!(
        verdict(&github, &signed(&key, &json!({"iss": 1001, "iat": now() - 360, "exp": now()}))).await,
        ""
    );
    github.skew(900);
    assert_eq!(verdict(&github, &signed(&key, &claims(1001))).await, EXPIRED);
    github.skew(0);
    assert_eq!(verdict(&github, &signed(&key, &claims(1001))).await, "");
}

#[tokio::test]
async fn a_leeway_lets_iat_be_ahead() {
    let github = start(Options { iat_leeway: 30, ..Options::default() }).await;
    let ahead = |by: i64| json!({"iss": 1001, "iat": now() + by, "exp": now() + 300});
    assert_eq!(verdict(&github, &signed(&key(&github), &ahead(20))).await, "");
    assert_eq!(verdict(&github, &signed(&key(&github), &ahead(90))).await, ISSUED_LATER);
}

// Credentials and the frame

#[tokio::test]
async fn a_jwt_counts_only_by_the_scheme_bearer_in_any_case() {
    let github = demo().await;
    let url = format!("{}/app", github.api_url());
    let jwt = signed(&key(&github), &claims(1001));
    for (header, status) in [
        (format!("bearer {jwt}"), 200),
        (format!("BEARER {jwt}"), 200),
        (format!("token {jwt}"), 401),
        (String::new(), 401),
        (format!("Bearer {}", token(&github, 1).await), 401),
    ] {
        let reply = send("GET", &url, &[("authorization", &header)], "").await;
        assert_eq!(reply.status, status, "{}", &header[..10.min(header.len())]);
        if status == 401 {
            assert_eq!(reply.message(), UNDECODABLE);
        }
    }
}

#[tokio::test]
async fn token_authenticates_as_bearer_token_or_basic() {
    let github = demo().await;
    let url = format!("{}/installation/repositories", github.api_url());
    let token = token(&github, 1).await;
    let basic = |text: String| format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text));
    for header in [
        format!("Bearer {token}"),
        format!("token {token}"),
        basic(format!("x-access-token:{token}")),
        basic(format!("{token}:x-oauth-basic")),
    ] {
        assert_eq!(send("GET", &url, &[("authorization", &header)], "").await.status, 200);
    }
    for header in ["Bearer ghs_garbage", "Basic ???", "token "] {
        let reply = send("GET", &url, &[("authorization", header)], "").await;
        assert_eq!((reply.status, reply.message().as_str()), (401, "Bad credentials"), "{header}");
    }
    let nobody = send("GET", &url, &[], "").await;
    assert_eq!((nobody.status, nobody.message().as_str()), (401, "Requires authentication"));
}

#[tokio::test]
async fn a_jwt_on_a_route_for_tokens_is_refused_in_words() {
    let github = demo().await;
    let reply = as_app(&github, "GET", "/installation/repositories", "").await;
    assert_eq!(reply.status, 403);
    assert!(reply.message().starts_with("You must authenticate with an installation access token"));
}

#[tokio::test]
async fn a_token_on_the_routes_of_users_is_refused_in_words() {
    let github = demo().await;
    let token = token(&github, 1).await;
    let user = with_token(&github, &token, "GET", "/user").await;
    assert_eq!((user.status, user.message().as_str()), (403, "Resource not accessible by integration"));
    assert!(!user.header("x-accepted-github-permissions").is_empty());
    let installations = with_token(&github, &token, "GET", "/user/installations").await;
    assert_eq!(installations.status, 403);
    assert!(installations.message().ends_with("authorized to a GitHub App in order to list installations"));
}

#[tokio::test]
async fn without_a_user_agent_the_answer_is_text() {
    let github = demo().await;
    let reply = send("GET", &github.api_url(), &[("user-agent", "")], "").await;
    assert_eq!(reply.status, 403);
    assert!(reply.text.starts_with("Request forbidden by administrative rules."), "{}", reply.text);
    assert!(!reply.header("content-type").contains("json"));
}

#[tokio::test]
async fn unknown_route_is_not_found() {
    let github = demo().await;
    for (method, path) in
        [("GET", "/nothing"), ("POST", "/app"), ("GET", "/app/"), ("GET", "/app//installations")]
    {
        let reply = as_app(&github, method, path, "").await;
        assert_eq!(reply.status, 404, "{method} {path}");
        assert_eq!(
            reply.json(),
            json!({"message": "Not Found", "documentation_url": "https://docs.github.com/rest", "status": "404"})
        );
    }
}

#[tokio::test]
async fn head_is_answered_like_get_without_the_body() {
    let github = demo().await;
    let reply = as_app(&github, "HEAD", "/app", "").await;
    assert_eq!((reply.status, reply.text.as_str()), (200, ""));
    assert!(reply.header("content-length").parse::<usize>().unwrap() > 100);
}

#[tokio::test]
async fn the_name_of_the_old_preview_does_no_harm() {
    let github = demo().await;
    let jwt = bearer(&signed(&key(&github), &claims(1001)));
    let headers =
        [("authorization", jwt.as_str()), ("accept", "application/vnd.github.machine-man-preview+json")];
    let reply = send("POST", &format!("{}{MINT}", github.api_url()), &headers, "").await;
    assert_eq!(reply.status, 201);
    assert_eq!(reply.header("x-github-media-type"), "github.v3; param=machine-man-preview; format=json");
    assert!(reply.header("etag").starts_with("W/"));
}

#[tokio::test]
async fn rate_limit_headers_only_off_jwt_routes() {
    let github = demo().await;
    let minted = mint(&github, 1, "").await;
    assert_eq!(minted.header("cache-control"), "public, max-age=60, s-maxage=60");
    assert_eq!(minted.header("vary"), "Accept, Accept-Encoding, Accept, X-Requested-With");
    assert_eq!(minted.header("content-type"), "application/json; charset=utf-8");
    assert_eq!(minted.header("x-github-media-type"), "github.v3; format=json");
    assert_eq!(minted.header("x-github-api-version-selected"), "2022-11-28");
    assert_eq!(minted.header("x-github-request-id").len(), 32);
    assert!(!minted.headers.keys().any(|name| name.starts_with("x-ratelimit")));
    let secret = minted.json()["token"].as_str().unwrap().to_owned();
    let first = with_token(&github, &secret, "GET", "/installation/repositories").await;
    assert_eq!(first.header("x-ratelimit-limit"), "5000");
    assert_eq!(first.header("x-ratelimit-remaining"), "4999");
    assert_eq!(first.header("cache-control"), "private, max-age=60, s-maxage=60");
    let limit = with_token(&github, &secret, "GET", "/rate_limit").await;
    assert_eq!(limit.json()["resources"]["core"]["used"], 1);
    assert_eq!(limit.json()["rate"]["used"], 1);
    let unchanged = [("authorization", bearer(&secret)), ("if-none-match", first.header("etag").to_owned())];
    let unchanged = unchanged.each_ref().map(|(name, value)| (*name, value.as_str()));
    let url = format!("{}/installation/repositories", github.api_url());
    assert_eq!(send("GET", &url, &unchanged, "").await.status, 304);
}

#[tokio::test]
async fn newest_api_version_changes_as_documented() {
    let github = demo().await;
    let jwt = bearer(&signed(&key(&github), &claims(1001)));
    let url = |path: &str| format!("{}{path}", github.api_url());
    let call = async |method: &str, path: &str, credential: &str, version: &str, body: &str| {
        let headers = [("authorization", credential), ("x-github-api-version", version)];
        send(method, &url(path), &headers, body).await
    };
    let minted = call(
        "POST",
        "/app/installations/1/access_tokens",
        &jwt,
        "2026-03-10",
        r#"{"repositories":["widgets"]}"#,
    )
    .await;
    assert_eq!(minted.header("x-github-api-version-selected"), "2026-03-10");
    assert!(minted.json()["repositories"][0].get("has_downloads").is_none());
    let token = bearer(minted.json()["token"].as_str().unwrap());
    assert!(call("GET", "/rate_limit", &token, "2026-03-10", "").await.json().get("rate").is_none());
    assert_eq!(call("DELETE", "/app/installations/2", &jwt, "2026-03-10", "").await.status, 202);
    assert_eq!(call("DELETE", "/app/installations/3", &jwt, "2022-11-28", "").await.status, 204);
    let unknown = call("GET", "/versions", "", "v3", "").await;
    assert_eq!(unknown.status, 400);
    assert_eq!(
        unknown.message(),
        "The version you specified in the \"X-GitHub-API-Version\" request header, \"v3\", is not a supported version. \
         The following versions are currently supported: \"2026-03-10\" (most recent), \"2022-11-28\"."
    );
    assert_eq!(
        call("GET", "/versions", "", "2026-03-10", "").await.json(),
        json!(["2022-11-28", "2026-03-10"])
    );
    let retired = start(Options { retired_versions: vec!["2021-01-01".into()], ..Options::default() }).await;
    let gone = send("GET", &retired.api_url(), &[("x-github-api-version", "2021-01-01")], "").await;
    assert_eq!(gone.status, 410);
}

#[tokio::test]
async fn enterprise_server_has_prefix_without_rate_limits() {
    let github = start(Options { mode: Mode::Ghes, ..Options::default() }).await;
    assert!(github.api_url().ends_with("/api/v3"));
    let minted = mint(&github, 1, "").await;
    let secret = minted.json()["token"].as_str().unwrap().to_owned();
    assert_eq!(secret.len(), 40, "no stateless tokens there");
    let listed = with_token(&github, &secret, "GET", "/installation/repositories").await;
    assert!(!listed.headers.keys().any(|name| name.starts_with("x-ratelimit")));
    let url = listed.json()["repositories"][0]["url"].as_str().unwrap().to_owned();
    assert_eq!(url, format!("{}/repos/acme/widgets", github.api_url()));
    let root = github.api_url().replace("/api/v3", "/app");
    assert_eq!(send("GET", &root, &[], "").await.status, 404);
    let gone = mint(&github, 99, "").await;
    assert!(
        gone.json()["documentation_url"]
            .as_str()
            .unwrap()
            .starts_with("https://docs.github.com/enterprise-server@3.21/rest/apps/apps#create")
    );
    assert_eq!(github.count("POST", "/api/v3/app/installations/1/access_tokens"), 1);
}

#[tokio::test]
async fn with_data_residency_nobody_is_answered_without_credentials() {
    let github = start(Options { mode: Mode::Ghe, ..Options::default() }).await;
    let reply = send("GET", &format!("{}/apps/demo-app", github.api_url()), &[], "").await;
    assert_eq!((reply.status, reply.message().as_str()), (401, "Requires authentication"));
    let token = token(&github, 1).await;
    assert_eq!(with_token(&github, &token, "GET", "/apps/demo-app").await.status, 200);
}

#[tokio::test]
async fn legacy_errors_have_old_documentation_urls() {
    let github = start(Options { legacy_errors: true, ..Options::default() }).await;
    assert_eq!(
        mint(&github, 99, "").await.json(),
        json!({
            "message": "Not Found",
            "documentation_url":
                "https://docs.github.com/rest/reference/apps#create-an-installation-access-token-for-an-app",
        })
    );
}

#[tokio::test]
async fn urls_in_bodies_begin_with_the_external_url() {
    let external = "https://127.0.0.1:8443".to_owned();
    let github =
        start(Options { external_url: Some(external), mode: Mode::Ghes, ..Options::default() }).await;
    let body = as_app(&github, "GET", "/app/installations?per_page=1", "").await;
    assert_eq!(
        body.json()[0]["access_tokens_url"],
        "https://127.0.0.1:8443/api/v3/app/installations/1/access_tokens"
    );
    assert!(
        body.header("link")
            .starts_with("<https://127.0.0.1:8443/api/v3/app/installations?per_page=1&page=2>")
    );
}

#[tokio::test]
async fn emulator_listens_on_loopback_only() {
    let error = FakeGithub::start(Options { listen: "0.0.0.0:0".parse().unwrap(), ..Options::default() });
    assert!(error.await.unwrap_err().to_string().contains("not a loopback address"));
}

#[tokio::test]
async fn after_shutdown_the_port_is_free() {
    let github = demo().await;
    let address = github.api_url().replace("http://", "").parse().unwrap();
    github.shutdown().await;
    start(Options { listen: address, ..Options::default() }).await;
}

// Installations

#[tokio::test]
async fn accounts_of_every_kind_are_found_by_name() {
    let github = demo().await;
    for (path, id, kind) in [
        ("/orgs/acme/installation", 1, "Organization"),
        ("/orgs/ACME/installation", 1, "Organization"),
        ("/users/acme/installation", 1, "Organization"),
        ("/users/octocat/installation", 2, "User"),
        ("/enterprises/acme-enterprise/installation", 3, "Enterprise"),
        ("/repos/acme/Secrets/installation", 1, "Organization"),
    ] {
        let reply = as_app(&github, "GET", path, "").await;
        assert_eq!(reply.status, 200, "{path}");
        assert_eq!(reply.json()["id"], id, "{path}");
        assert_eq!(reply.json()["target_type"], kind, "{path}");
    }
    for path in [
        "/orgs/octocat/installation",
        "/orgs/nobody/installation",
        "/users/acme-enterprise/installation",
        "/enterprises/acme/installation",
        "/repos/acme/nothing/installation",
    ] {
        assert_eq!(as_app(&github, "GET", path, "").await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn an_installation_has_every_required_field() {
    let github = demo().await;
    let required = [
        "id",
        "app_id",
        "app_slug",
        "client_id",
        "target_id",
        "target_type",
        "single_file_name",
        "repository_selection",
        "access_tokens_url",
        "html_url",
        "repositories_url",
        "events",
        "account",
        "permissions",
        "created_at",
        "updated_at",
        "suspended_by",
        "suspended_at",
    ];
    for id in 1..=3 {
        let installation = as_app(&github, "GET", &format!("/app/installations/{id}"), "").await.json();
        for field in required {
            assert!(installation.get(field).is_some(), "{field} in {installation}");
        }
    }
    let enterprise = as_app(&github, "GET", "/app/installations/3", "").await.json();
    assert_eq!(enterprise["account"]["slug"], "acme-enterprise");
    assert!(enterprise["account"].get("login").is_none());
    let app = as_app(&github, "GET", "/app", "").await.json();
    assert_eq!((&app["id"], &app["installations_count"]), (&json!(1001), &json!(3)));
    let by_slug = send("GET", &format!("{}/apps/demo-app", github.api_url()), &[], "").await;
    assert_eq!(by_slug.json()["client_id"], "Iv23liDemoApp0000001");
}

#[tokio::test]
async fn an_account_may_be_null() {
    let mut world = World::demo();
    world.installations.push(Installation { account: None, ..Installation::new(4, "demo", "") });
    let github = start(Options { world, ..Options::default() }).await;
    let reply = as_app(&github, "GET", "/app/installations/4", "").await;
    assert_eq!(reply.json()["account"], Value::Null);
    assert_eq!(mint(&github, 4, "").await.status, 201);
}

#[tokio::test]
async fn installations_250_fill_three_pages() {
    let github = start(Options { world: World::with_installations(250), ..Options::default() }).await;
    let base = format!("{}/app/installations", github.api_url());
    let first = as_app(&github, "GET", "/app/installations?per_page=100", "").await;
    assert_eq!(first.json().as_array().unwrap().len(), 100);
    assert_eq!(
        first.header("link"),
        format!("<{base}?per_page=100&page=2>; rel=\"next\", <{base}?per_page=100&page=3>; rel=\"last\"")
    );
    let middle = as_app(&github, "GET", "/app/installations?outdated=x&page=2&per_page=500", "").await;
    assert_eq!(middle.json()[0]["id"], 101);
    let url = |page: u8| format!("<{base}?outdated=x&per_page=500&page={page}>");
    assert_eq!(
        middle.header("link"),
        format!(
            "{}; rel=\"prev\", {}; rel=\"next\", {}; rel=\"last\", {}; rel=\"first\"",
            url(1),
            url(3),
            url(3),
            url(1)
        )
    );
    let last = as_app(&github, "GET", "/app/installations?per_page=100&page=3", "").await;
    assert_eq!(last.json().as_array().unwrap().len(), 50);
    assert_eq!(
        last.header("link"),
        format!("<{base}?per_page=100&page=2>; rel=\"prev\", <{base}?per_page=100&page=1>; rel=\"first\"")
    );
    assert_eq!(as_app(&github, "GET", "/app/installations", "").await.json().as_array().unwrap().len(), 30);
    assert_eq!(as_app(&github, "GET", "/app/installations?per_page=0&page=0", "").await.json()[0]["id"], 1);
    assert_eq!(as_app(&github, "GET", "/app/installations?page=10", "").await.json(), json!([]));
    github.delete_installation(1);
    let shifted = as_app(&github, "GET", "/app/installations?per_page=100&page=2", "").await;
    assert_eq!(shifted.json()[0]["id"], 102, "the list moves under whoever walks it");
}

#[tokio::test]
async fn link_header_is_absent_on_a_single_page() {
    let github = demo().await;
    assert_eq!(as_app(&github, "GET", "/app/installations", "").await.header("link"), "");
    let github = start(Options { drop_last_link: true, ..Options::default() }).await;
    let link = as_app(&github, "GET", "/app/installations?per_page=1&page=2", "").await;
    assert!(!link.header("link").contains("last"), "{}", link.header("link"));
    assert!(link.header("link").contains("next"));
}

#[tokio::test]
async fn suspended_installation_is_listed_but_mints_nothing() {
    let github = demo().await;
    let old = token(&github, 1).await;
    assert!(github.suspend(1));
    assert!(as_app(&github, "GET", "/app/installations", "").await.json()[0]["suspended_at"].is_string());
    let refused = mint(&github, 1, "").await;
    assert_eq!((refused.status, refused.message().as_str()), (403, "This installation has been suspended"));
    let used = with_token(&github, &old, "GET", "/installation/repositories").await;
    assert_eq!(used.status, 403);
    assert!(used.message().starts_with("This installation owned by acme suspended your access at 20"));
    assert!(github.unsuspend(1));
    assert_eq!(with_token(&github, &old, "GET", "/installation/repositories").await.status, 200);
    assert!(!github.suspend(99));
    let wording = SuspendedWording::Currently;
    let github = start(Options { suspended_wording: wording, ..Options::default() }).await;
    let old = token(&github, 1).await;
    assert_eq!(as_app(&github, "PUT", "/app/installations/1/suspended", "").await.status, 204);
    let used = with_token(&github, &old, "GET", "/installation/repositories").await;
    assert!(used.message().starts_with("This installation is currently suspended."));
    assert_eq!(as_app(&github, "DELETE", "/app/installations/1/suspended", "").await.status, 204);
    assert_eq!(mint(&github, 1, "").await.status, 201);
}

#[tokio::test]
async fn deleting_an_installation_revokes_its_tokens() {
    let github = demo().await;
    let old = token(&github, 1).await;
    assert_eq!(as_app(&github, "DELETE", "/app/installations/1", "").await.status, 204);
    let gone = mint(&github, 1, "").await;
    assert_eq!(
        gone.json(),
        json!({
            "message": "Not Found",
            "documentation_url":
                "https://docs.github.com/rest/apps/apps#create-an-installation-access-token-for-an-app",
            "status": "404",
        })
    );
    assert_eq!(
        with_token(&github, &old, "GET", "/installation/repositories").await.message(),
        "Bad credentials"
    );
    assert_eq!(as_app(&github, "GET", "/orgs/acme/installation", "").await.status, 404);
    assert!(!github.delete_installation(1));
}

#[tokio::test]
async fn a_renamed_repository_redirects_to_where_it_can_be_found() {
    let github = demo().await;
    assert!(github.rename_repository("acme", "widgets", "gizmos"));
    let moved = as_app(&github, "GET", "/repos/acme/widgets/installation", "").await;
    assert_eq!(moved.status, 301);
    let location = moved.header("location").to_owned();
    assert_eq!(moved.json()["url"], location.as_str());
    let path = location.strip_prefix(&github.api_url()).unwrap();
    assert_eq!(as_app(&github, "GET", path, "").await.json()["id"], 1);
    assert_eq!(as_app(&github, "GET", "/repos/acme/gizmos/installation", "").await.status, 200);
    assert!(github.rename_account("acme", "acme-inc"));
    assert_eq!(as_app(&github, "GET", "/orgs/acme/installation", "").await.status, 404);
    assert_eq!(as_app(&github, "GET", "/orgs/acme-inc/installation", "").await.status, 200);
    assert_eq!(as_app(&github, "GET", "/repos/acme/gizmos/installation", "").await.status, 301);
    assert_eq!(as_app(&github, "GET", "/repos/acme-inc/gizmos/installation", "").await.status, 200);
    assert!(!github.rename_repository("acme", "widgets", "x"));
}

#[tokio::test]
async fn apps_do_not_see_each_others_installations() {
    let mut world = World::demo();
    world.apps.push(App::new("other", 2002));
    world.installations.push(Installation::new(9, "other", "octocat"));
    let github = start(Options { world, ..Options::default() }).await;
    let other = github.app("other").unwrap();
    assert_eq!(other.installations, [9]);
    assert_eq!(mint(&github, 9, "").await.status, 404);
    let jwt = bearer(&signed(&other.private_key_pem, &claims(2002)));
    let url = |id: u8| format!("{}/app/installations/{id}/access_tokens", github.api_url());
    assert_eq!(send("POST", &url(9), &[("authorization", &jwt)], "").await.status, 201);
    assert_eq!(send("POST", &url(1), &[("authorization", &jwt)], "").await.status, 404);
    assert_eq!(verdict(&github, &signed(&other.private_key_pem, &claims(1001))).await, UNDECODABLE);
}

// Tokens

#[tokio::test]
async fn restricted_token_reaches_only_its_scope() {
    let github = demo().await;
    let body = r#"{"repositories": ["WIDGETS"], "repository_ids": [3], "permissions": {"contents": "read"}}"#;
    let minted = mint(&github, 1, body).await;
    assert_eq!(minted.status, 201, "{}", minted.text);
    let minted = minted.json();
    assert_eq!(minted["permissions"], json!({"contents": "read", "metadata": "read"}));
    assert_eq!(minted["repository_selection"], "selected");
    let names: Vec<&str> = minted["repositories"]
        .as_array()
        .unwrap()
        .iter()
        .map(|own| own["full_name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["acme/widgets", "acme/secrets"]);
    assert_eq!(minted["repositories"][0]["owner"]["login"], "acme");
    assert_eq!(minted["repositories"][0]["has_downloads"], true);
    let token = minted["token"].as_str().unwrap();
    let listed = with_token(&github, token, "GET", "/installation/repositories").await.json();
    assert_eq!((&listed["total_count"], &listed["repository_selection"]), (&json!(2), &json!("selected")));
    for (path, status) in [
        ("/repos/acme/widgets", 200),
        ("/repositories/3", 200),
        ("/repos/acme/gadgets", 404),
        ("/repos/acme/nothing", 404),
        ("/repos/octocat/hello-world", 404),
        ("/repos/acme/widgets/branches", 200),
        ("/repos/acme/gadgets/branches", 404),
    ] {
        assert_eq!(with_token(&github, token, "GET", path).await.status, status, "{path}");
    }
    let issues = with_token(&github, token, "GET", "/repos/acme/widgets/issues").await;
    assert_eq!((issues.status, issues.message().as_str()), (403, "Resource not accessible by integration"));
    assert_eq!(issues.header("x-accepted-github-permissions"), "issues=read");
}

#[tokio::test]
async fn a_private_repository_is_not_there_for_strangers() {
    let github = demo().await;
    for (name, status) in [("widgets", 200), ("secrets", 404)] {
        let url = format!("{}/repos/acme/{name}", github.api_url());
        assert_eq!(send("GET", &url, &[], "").await.status, status, "{name}");
    }
}

#[tokio::test]
async fn too_wide_a_wish_is_refused_in_githubs_words() {
    let github = demo().await;
    let check = async |body: &str, status: u16, message: &str| {
        let refused = mint(&github, 2, body).await;
        assert_eq!((refused.status, refused.message().as_str()), (status, message), "{body}");
        let docs = refused.json()["documentation_url"].as_str().unwrap().to_owned();
        assert!(docs.ends_with("#create-an-installation-access-token-for-an-app"), "{docs}");
    };
    let not_granted = "The permissions requested are not granted to this installation.";
    let level = "The level of access for permissions requested are not granted to this installation.";
    let repository = "There is at least one repository that does not exist or is not accessible to the parent installation.";
    check(r#"{"permissions": {"issues": "read"}}"#, 422, not_granted).await;
    check(r#"{"permissions": {"no_such_thing": "read"}}"#, 422, not_granted).await;
    check(r#"{"permissions": {"contents": "write"}}"#, 422, level).await;
    check(r#"{"permissions": {"contents": "all"}}"#, 422, level).await;
    check(r#"{"repositories": ["widgets"]}"#, 422, repository).await;
    check(r#"{"repositories": ["hello-world", "nothing"]}"#, 422, repository).await;
    check(r#"{"repository_ids": [1]}"#, 422, repository).await;
    check(r#"{"permissions": "read"}"#, 400, "Problems parsing JSON").await;
    check("{", 400, "Problems parsing JSON").await;
    check("[]", 400, "Body should be a JSON object").await;
    let names: Vec<String> = (0..501).map(|n| format!("r{n}")).collect();
    let many = mint(&github, 2, &json!({ "repositories": names }).to_string()).await;
    assert_eq!(many.status, 422);
    assert!(many.message().starts_with("Too many repositories for installation"));
    let wrong = mint(&github, 2, r#"{"repositories": "hello-world"}"#).await;
    assert_eq!(wrong.status, 422);
    assert!(wrong.message().starts_with("Invalid request."));
    assert_eq!(github.counters().mints, 0);
    for body in ["", "{}", r#"{"repositories": ["hello-world"], "permissions": {"metadata": "read"}}"#] {
        assert_eq!(mint(&github, 2, body).await.status, 201, "{body}");
    }
}

#[tokio::test]
async fn a_token_lives_for_an_hour_by_githubs_clock() {
    let github = demo().await;
    let minted = mint(&github, 1, "").await;
    let date = jiff::fmt::rfc2822::parse(minted.header("date")).unwrap().timestamp();
    let minted = minted.json();
    let expires_at = minted["expires_at"].as_str().unwrap();
    assert_eq!(expires_at.parse::<jiff::Timestamp>().unwrap().as_second() - date.as_second(), 3600);
    assert_eq!(expires_at.len(), "2016-07-11T22:14:10Z".len());
    let token = minted["token"].as_str().unwrap();
    github.advance(Duration::from_secs(3590));
    assert_eq!(with_token(&github, token, "GET", "/installation/repositories").await.status, 200);
    github.advance(Duration::from_secs(10));
    let expired = with_token(&github, token, "GET", "/installation/repositories").await;
    assert_eq!(
        (expired.status, expired.json()),
        (
            401,
            json!({
                "message": "Bad credentials", "documentation_url": "https://docs.github.com/rest", "status": "401",
            })
        )
    );
}

#[tokio::test]
async fn revoked_token_cannot_be_revoked_again() {
    let github = demo().await;
    let token = token(&github, 1).await;
    assert_eq!(with_token(&github, &token, "DELETE", "/installation/token").await.status, 204);
    let again = with_token(&github, &token, "DELETE", "/installation/token").await;
    assert_eq!((again.status, again.message().as_str()), (401, "Bad credentials"));
    let other = self::token(&github, 1).await;
    assert!(github.revoke_token(&other));
    assert!(!github.revoke_token(&other));
    assert_eq!(with_token(&github, &other, "GET", "/installation/repositories").await.status, 401);
}

#[tokio::test]
async fn revoking_a_stateless_token_may_do_nothing() {
    let github = start(Options { stateless_revocation: Revocation::Ineffective, ..Options::default() }).await;
    let token = token(&github, 1).await;
    assert_eq!(with_token(&github, &token, "DELETE", "/installation/token").await.status, 204);
    assert_eq!(with_token(&github, &token, "GET", "/installation/repositories").await.status, 200);
}

fn check_stateless(token: &str) {
    let rest = token.strip_prefix("ghs_1001_").unwrap();
    assert_eq!(rest.split('.').count(), 3, "{token}");
    assert!(rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)), "{token}");
    assert!(rest.contains('-') && rest.contains('_') && token.len() > 520, "{} {token}", token.len());
}

#[tokio::test]
async fn tokens_come_in_every_format() {
    let with = async |format| start(Options { token_format: format, ..Options::default() }).await;
    let opaque = token(&with(TokenFormat::Opaque).await, 1).await;
    assert!(opaque.len() == 40 && opaque[4..].bytes().all(|byte| byte.is_ascii_alphanumeric()), "{opaque}");
    let legacy = token(&with(TokenFormat::LegacyV1).await, 1).await;
    assert!(legacy.len() == 43 && legacy[3..].bytes().all(|byte| byte.is_ascii_hexdigit()), "{legacy}");
    let github = with(TokenFormat::Stateless).await;
    let mut lengths = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let token = token(&github, 1).await;
        check_stateless(&token);
        lengths.insert(token.len());
    }
    assert!(lengths.len() > 5, "{lengths:?}");
    let github = with(TokenFormat::Rollout).await;
    let mut dots = std::collections::BTreeSet::new();
    for _ in 0..30 {
        dots.insert(token(&github, 1).await.matches('.').count());
    }
    assert_eq!(Vec::from_iter(dots), [0, 2]);
}

#[tokio::test]
async fn an_app_may_have_a_format_of_its_own() {
    let mut world = World::demo();
    world.apps[0].token_format = Some(TokenFormat::LegacyV1);
    let github = start(Options { world, ..Options::default() }).await;
    assert!(token(&github, 1).await.starts_with("v1."));
}

#[tokio::test]
async fn a_header_overrides_the_format_except_on_an_enterprise_server() {
    for (mode, wish, dots) in [
        (Mode::Dotcom, "enabled", 2),
        (Mode::Dotcom, "disabled", 0),
        (Mode::Dotcom, "Disabled", 2),
        (Mode::Ghes, "enabled", 0),
    ] {
        let github = start(Options { mode, ..Options::default() }).await;
        let jwt = bearer(&signed(&key(&github), &claims(1001)));
        let url = format!("{}/app/installations/1/access_tokens", github.api_url());
        let headers = [("authorization", jwt.as_str()), ("x-github-stateless-s2s-token", wish)];
        let minted = send("POST", &url, &headers, "").await.json();
        assert_eq!(minted["token"].as_str().unwrap().matches('.').count(), dots, "{mode:?} {wish}");
    }
    let github =
        start(Options { mode: Mode::Ghes, token_format: TokenFormat::Opaque, ..Options::default() }).await;
    let jwt = bearer(&signed(&key(&github), &claims(1001)));
    let url = format!("{}/app/installations/1/access_tokens", github.api_url());
    let headers = [("authorization", jwt.as_str()), ("x-github-stateless-s2s-token", "enabled")];
    assert_eq!(send("POST", &url, &headers, "").await.json()["token"].as_str().unwrap().len(), 40);
}

#[tokio::test]
async fn a_token_of_four_kibibytes_works() {
    for format in [TokenFormat::Opaque, TokenFormat::Stateless, TokenFormat::LegacyV1] {
        let options = Options { token_format: format, token_length: Some(4096), ..Options::default() };
        let github = start(options).await;
        let token = token(&github, 1).await;
        assert_eq!(token.len(), 4096, "{format:?}");
        assert_eq!(with_token(&github, &token, "GET", "/installation/repositories").await.status, 200);
    }
}

#[tokio::test]
async fn same_seed_gives_same_keys_and_tokens() {
    let (one, two) = (demo().await, demo().await);
    assert_eq!(key(&one), key(&two));
    assert_eq!(token(&one, 1).await, token(&two, 1).await);
    let other = FakeGithub::start(Options { seed: Some(2), ..Options::default() }).await.unwrap();
    assert_ne!(token(&one, 1).await, token(&other, 1).await);
}

#[tokio::test]
async fn permission_change_affects_new_tokens_only() {
    let github = demo().await;
    let old = token(&github, 2).await;
    assert!(github.set_permissions(2, permissions("contents:read issues:read metadata:read")));
    assert_eq!(with_token(&github, &old, "GET", "/repos/octocat/hello-world/issues").await.status, 403);
    let new = token(&github, 2).await;
    assert_eq!(with_token(&github, &new, "GET", "/repos/octocat/hello-world/issues").await.status, 200);
    assert!(github.add_repository(2, "spoon-knife"));
    let count = async || {
        with_token(&github, &old, "GET", "/installation/repositories").await.json()["total_count"].clone()
    };
    assert_eq!(count().await, 2);
    assert_eq!(as_app(&github, "GET", "/repos/octocat/spoon-knife/installation", "").await.status, 200);
    assert!(github.remove_repository(2, "hello-world"));
    assert_eq!(count().await, 1);
    assert!(github.remove_repository(1, "gadgets"));
    assert_eq!(as_app(&github, "GET", "/repos/acme/gadgets/installation", "").await.status, 404);
    assert!(!github.remove_repository(1, "gadgets"));
    assert!(!github.add_repository(3, "an-enterprise-has-none"));
}

#[tokio::test]
async fn an_installation_can_be_added_while_it_runs() {
    let github = demo().await;
    assert!(github.delete_installation(2));
    github.add_installation(Installation::new(7, "demo", "octocat")).unwrap();
    assert_eq!(as_app(&github, "GET", "/users/octocat/installation", "").await.json()["id"], 7);
    let twice = github.add_installation(Installation::new(7, "demo", "octocat")).unwrap_err();
    assert!(twice.to_string().contains("`7` appears twice"), "{twice}");
}

// Faults

const MINT: &str = "/app/installations/1/access_tokens";

#[tokio::test]
async fn fault_hits_only_its_count_of_matching_requests() {
    let github = demo().await;
    let fault = Effect::Status {
        status: 418,
        body: r#"{"message": "tea"}"#.into(),
        headers: BTreeMap::from([("X-Pot".to_owned(), "short".to_owned())]),
    };
    github.fault(Fault::new(fault).on("POST", "/app/installations").times(2));
    assert_eq!(as_app(&github, "GET", "/app/installations", "").await.status, 200);
    for _ in 0..2 {
        let reply = mint(&github, 1, "").await;
        assert_eq!((reply.status, reply.message().as_str(), reply.header("x-pot")), (418, "tea", "short"));
    }
    assert_eq!(mint(&github, 1, "").await.status, 201);
    assert_eq!(github.counters().mints, 1, "nothing was minted under the fault");
    github.fault(Fault::new(Effect::Html { status: 503 }));
    github.clear_faults();
    assert_eq!(mint(&github, 1, "").await.status, 201);
}

#[tokio::test]
async fn faults_of_a_kind_happen_one_after_the_other() {
    let github = demo().await;
    github.fault(Fault::new(Effect::Html { status: 502 }).times(1));
    github.fault(Fault::new(Effect::LoginLockout).times(1));
    github.fault(Fault::new(Effect::MissingDate).times(1));
    let first = mint(&github, 1, "").await;
    assert_eq!((first.status, first.header("date")), (502, ""), "different kinds go together");
    assert!(first.text.starts_with("<!DOCTYPE html>"));
    let second = mint(&github, 1, "").await;
    assert!(second.status == 403 && second.message().contains("Maximum number of login attempts exceeded"));
    assert_eq!(mint(&github, 1, "").await.status, 201);
}

#[tokio::test]
async fn a_fault_may_be_a_matter_of_luck() {
    let github = demo().await;
    github.fault(Fault::new(Effect::Html { status: 500 }).with_probability(0.5));
    let mut failed = 0;
    for _ in 0..40 {
        failed += usize::from(mint(&github, 1, "").await.status == 500);
    }
    assert!((5..36).contains(&failed), "{failed}");
    github.clear_faults();
    github.fault(Fault::new(Effect::Html { status: 500 }).with_probability(0.0));
    assert_eq!(mint(&github, 1, "").await.status, 201);
}

#[tokio::test]
async fn rate_limit_responses_match_github() {
    let github = demo().await;
    let limited = async |effect: Effect| {
        github.fault(Fault::new(effect).times(1));
        mint(&github, 1, "").await
    };
    for status in [403, 429] {
        let primary = limited(Effect::PrimaryLimit { status, reset_seconds: 90 }).await;
        assert_eq!((primary.status, primary.header("x-ratelimit-remaining")), (status, "0"));
        assert_eq!(primary.message(), "API rate limit exceeded for installation ID 1.");
        let reset: i64 = primary.header("x-ratelimit-reset").parse().unwrap();
        assert!((reset - now() - 90).abs() < 5);
        let secondary = limited(Effect::SecondaryLimit { status, retry_after: Some(7) }).await;
        assert_eq!((secondary.status, secondary.header("retry-after")), (status, "7"));
        assert!(secondary.message().starts_with("You have exceeded a secondary rate limit."));
        assert_ne!(secondary.header("x-ratelimit-remaining"), "0");
    }
    assert_eq!(
        limited(Effect::SecondaryLimit { status: 403, retry_after: None }).await.header("retry-after"),
        ""
    );
}

#[tokio::test]
async fn enforced_limits_refuse_excess_requests() {
    let options =
        || Options { rate_limits: RateLimits::Enforced, installation_rate_limit: 3, ..Options::default() };
    let github = start(options()).await;
    let secret = token(&github, 1).await;
    for expected in [200, 200, 200, 403, 403] {
        let reply = with_token(&github, &secret, "GET", "/installation/repositories").await;
        assert_eq!(reply.status, expected);
    }
    github.advance(Duration::from_secs(3000));
    assert_eq!(with_token(&github, &secret, "GET", "/installation/repositories").await.status, 403);
    github.advance(Duration::from_secs(601));
    let secret = fresh_after(&github, 3601).await;
    assert_eq!(with_token(&github, &secret, "GET", "/installation/repositories").await.status, 200);

    let github = start(options()).await;
    for _ in 0..20 {
        assert_eq!(with_token(&github, "ghs_wrong", "GET", "/installation/repositories").await.status, 401);
    }
    let locked = with_token(&github, "ghs_wrong", "GET", "/installation/repositories").await;
    assert!(locked.message().starts_with("Maximum number of login attempts exceeded"), "{}", locked.text);
    assert_eq!(mint(&github, 1, "").await.status, 403, "even a good credential");

    let github = std::sync::Arc::new(start(options()).await);
    let hold = github.hold("GET", "/app");
    let jwt = bearer(&signed(&key(&github), &claims(1001)));
    let ask = |github: std::sync::Arc<FakeGithub>, jwt: String| async move {
        send("GET", &format!("{}/app", github.api_url()), &[("authorization", &jwt)], "").await.status
    };
    let waiting: Vec<_> = (0..101).map(|_| tokio::spawn(ask(github.clone(), jwt.clone()))).collect();
    hold.reached(101).await;
    hold.release();
    let mut refused = 0;
    for task in waiting {
        refused += usize::from(task.await.unwrap() == 403);
    }
    assert_eq!(refused, 1, "of a hundred and one at once");

    let github = start(options()).await;
    for _ in 0..180 {
        assert_eq!(mint(&github, 1, "").await.status, 201);
    }
    let secondary = mint(&github, 1, "").await;
    assert_eq!((secondary.status, secondary.header("retry-after")), (403, "60"));
}

/// A token for installation 1 by a JWT for a GitHub whose clock is `ahead` of the machine's.
async fn fresh_after(github: &FakeGithub, ahead: i64) -> String {
    let at = now() + ahead;
    let jwt = bearer(&signed(&key(github), &json!({"iss": 1001, "iat": at - 60, "exp": at + 500})));
    let minted = send("POST", &format!("{}{MINT}", github.api_url()), &[("authorization", &jwt)], "").await;
    minted.json()["token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_reset_comes_before_or_after_the_deed() {
    let github = demo().await;
    let jwt = bearer(&signed(&key(&github), &claims(1001)));
    let url = format!("{}{MINT}", github.api_url());
    for (effect, mints) in [(Effect::ResetBefore, 0), (Effect::ResetAfter, 1), (Effect::CutBody, 2)] {
        github.fault(Fault::new(effect.clone()).times(1));
        assert!(try_send("POST", &url, &[("authorization", &jwt)], "").await.is_err(), "{effect:?}");
        assert_eq!(github.counters().mints, mints, "{effect:?}");
    }
    let statuses: Vec<Option<u16>> = github.journal().iter().map(|entry| entry.status).collect();
    assert_eq!(statuses, [None, None, Some(201)]);
}

#[tokio::test]
async fn cut_connection_fault_resets_the_socket() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let github = demo().await;
    github.fault(Fault::new(Effect::ResetBefore).times(1));
    let mut stream = TcpStream::connect(github.api_url().strip_prefix("http://").unwrap()).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nuser-agent: x\r\n\r\n").await.unwrap();
    let error = stream.read(&mut [0; 64]).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn answers_can_be_spoilt() {
    let github = demo().await;
    let spoilt = async |effect: Effect| {
        github.fault(Fault::new(effect).times(1));
        mint(&github, 1, "").await
    };
    let half = spoilt(Effect::TruncatedBody).await;
    assert!(half.status == 201 && serde_json::from_str::<Value>(&half.text).is_err());
    assert_eq!(
        spoilt(Effect::ContentType { value: "text/html".into() }).await.header("content-type"),
        "text/html"
    );
    assert_eq!(spoilt(Effect::MissingDate).await.header("date"), "");
    let huge = spoilt(Effect::HugeBody { bytes: 9_000_000 }).await;
    assert_eq!((huge.status, huge.text.len()), (201, 9_000_000));
    assert!(huge.json()["token"].is_string());
    let elsewhere = spoilt(Effect::Redirect { location: "http://127.0.0.1:1/".into(), status: 302 }).await;
    assert_eq!((elsewhere.status, elsewhere.header("location")), (302, "http://127.0.0.1:1/"));
    let never = spoilt(Effect::ExpiresAt { value: None }).await;
    assert!(never.status == 201 && never.json().get("expires_at").is_none());
    assert_eq!(spoilt(Effect::ExpiresAt { value: Some("soon".into()) }).await.json()["expires_at"], "soon");
    let text = spoilt(Effect::Token { value: "any text\n".into() }).await;
    assert_eq!(text.json()["token"], "any text\n");
}

#[tokio::test]
async fn a_scripted_token_works() {
    let github = demo().await;
    github.fault(Fault::new(Effect::Token { value: "ghs_scripted".into() }).times(1));
    assert_eq!(token(&github, 1).await, "ghs_scripted");
    assert_eq!(with_token(&github, "ghs_scripted", "GET", "/installation/repositories").await.status, 200);
}

#[tokio::test]
async fn a_scripted_lifetime_is_the_real_one() {
    let github = demo().await;
    for (seconds, status) in [(120, 200), (0, 401), (-60, 401)] {
        github.fault(Fault::new(Effect::Lifetime { seconds }).times(1));
        let minted = mint(&github, 1, "").await;
        let date = jiff::fmt::rfc2822::parse(minted.header("date")).unwrap().timestamp().as_second();
        let minted = minted.json();
        let expires_at: jiff::Timestamp = minted["expires_at"].as_str().unwrap().parse().unwrap();
        assert!((expires_at.as_second() - date - seconds).abs() <= 1);
        let used =
            with_token(&github, minted["token"].as_str().unwrap(), "GET", "/installation/repositories").await;
        assert_eq!(used.status, status, "{seconds}");
    }
}

#[tokio::test]
async fn wider_grant_fault_exceeds_the_request() {
    let github = demo().await;
    let effect = Effect::WiderGrant {
        permissions: permissions("contents:write administration:write"),
        repositories: WiderRepositories::All,
    };
    github.fault(Fault::new(effect).times(1));
    let minted = mint(&github, 1, r#"{"repositories": ["widgets"], "permissions": {"contents": "read"}}"#)
        .await
        .json();
    assert_eq!(
        minted["permissions"],
        json!({"contents": "write", "administration": "write", "metadata": "read"})
    );
    assert_eq!(minted["repositories"].as_array().unwrap().len(), 3);
    let token = minted["token"].as_str().unwrap();
    assert_eq!(with_token(&github, token, "GET", "/repos/acme/gadgets").await.status, 200);
}

#[tokio::test]
async fn slow_response_fault_delays_the_client() {
    let github = std::sync::Arc::new(demo().await);
    let hour = 3_600_000;
    for effect in [Effect::SlowHeaders { millis: hour }, Effect::SlowBody { millis: hour }, Effect::Stall] {
        let earlier = github.journal().len();
        github.fault(Fault::new(effect.clone()).times(1));
        let slow = {
            let github = github.clone();
            tokio::spawn(async move { mint(&github, 1, "").await })
        };
        while github.journal().len() == earlier {
            tokio::task::yield_now().await;
        }
        assert_eq!(mint(&github, 2, "").await.status, 201, "other requests pass: {effect:?}");
        assert!(!slow.is_finished(), "{effect:?}");
        slow.abort();
    }
    assert_eq!(github.counters().mints_by_installation[&1], 2, "a stalled request is not carried out");
}

#[tokio::test]
async fn slow_response_fault_loses_nothing() {
    let github = demo().await;
    for effect in [Effect::SlowHeaders { millis: 1 }, Effect::SlowBody { millis: 1 }] {
        github.fault(Fault::new(effect).times(1));
        assert!(mint(&github, 1, "").await.json()["token"].is_string());
    }
}

// Holds, journal, counters

#[tokio::test]
async fn held_response_waits_after_its_effect() {
    let github = std::sync::Arc::new(demo().await);
    let hold = github.hold("POST", "/app/installations/1");
    let waiting: Vec<_> = (0..5)
        .map(|_| {
            let github = github.clone();
            tokio::spawn(async move { mint(&github, 1, "").await.status })
        })
        .collect();
    hold.reached(5).await;
    assert_eq!(github.counters().mints, 5);
    assert!(github.journal().iter().all(|entry| entry.status.is_none()));
    assert_eq!(mint(&github, 2, "").await.status, 201, "other requests pass");
    assert!(waiting.iter().all(|task| !task.is_finished()));
    hold.release();
    for task in waiting {
        assert_eq!(task.await.unwrap(), 201);
    }
    drop(github.hold("POST", "/"));
    assert_eq!(mint(&github, 1, "").await.status, 201, "a dropped hold holds nothing");
}

#[tokio::test]
async fn counters_are_exact() {
    let github = demo().await;
    let hold = github.hold("POST", "/");
    let jwt = bearer(&signed(&key(&github), &claims(1001)));
    let url = |id: u8| format!("{}/app/installations/{id}/access_tokens", github.api_url());
    let auth = [("authorization", jwt.as_str())];
    let (one, two, three) = (url(1), url(1), url(9));
    let narrow = r#"{"repositories": ["widgets"], "permissions": {"contents": "read"}}"#;
    let release = async {
        hold.reached(3).await;
        hold.release();
    };
    tokio::join!(
        send("POST", &one, &auth, ""),
        send("POST", &two, &auth, narrow),
        send("POST", &three, &auth, ""),
        release
    );
    send("GET", &format!("{}/app?x=1", github.api_url()), &auth, "").await;
    as_app(&github, "GET", "/app", "").await;
    send("GET", &format!("{}/nothing", github.api_url()), &[], "").await;
    let counters = github.counters();
    assert_eq!((counters.requests, counters.mint_requests, counters.mints), (6, 3, 2));
    assert_eq!(counters.mints_in_flight_max, 3);
    assert_eq!(counters.mints_by_installation, BTreeMap::from([(1, 2)]));
    assert_eq!(
        counters.mints_by_scope,
        BTreeMap::from([("1".into(), 1), ("1 permissions=contents:read repositories=widgets".into(), 1)])
    );
    assert_eq!(
        counters.by_route,
        BTreeMap::from([
            ("GET /app".into(), 2),
            ("POST /app/installations/{installation_id}/access_tokens".into(), 3)
        ])
    );
    assert!((1..=2).contains(&counters.distinct_jwts), "both may be signed within one second");
    assert!((60..70).contains(&counters.jwt_age_max), "{}", counters.jwt_age_max);
    assert_eq!(github.count("POST", MINT), 2);
    assert_eq!(github.count("GET", "/app"), 2, "the query does not count");
    assert_eq!(github.count("GET", "/ap"), 0);
    github.reset();
    assert_eq!((github.counters().requests, github.journal().len()), (0, 0));
}

#[tokio::test]
async fn mints_one_after_the_other_are_never_two_at_once() {
    let github = demo().await;
    github.fault(Fault::new(Effect::ResetBefore).times(1));
    let jwt = bearer(&signed(&key(&github), &claims(1001)));
    let url = format!("{}{MINT}", github.api_url());
    assert!(try_send("POST", &url, &[("authorization", &jwt)], "").await.is_err());
    for _ in 0..3 {
        token(&github, 1).await;
    }
    assert_eq!(github.counters().mints_in_flight_max, 1);
}

#[tokio::test]
async fn journal_holds_hashes_not_secrets() {
    let github = demo().await;
    let token = token(&github, 1).await;
    with_token(&github, &token, "GET", &format!("/installation/repositories?access_token={token}")).await;
    let journal = github.journal();
    let entry = journal.last().unwrap();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
    let hash = base64::engine::general_purpose::STANDARD.encode(digest);
    assert_eq!(entry.credential_sha256.as_deref(), Some(hash.as_str()));
    assert_eq!((entry.method.as_str(), entry.status), ("GET", Some(200)));
    assert_eq!(entry.path, "/installation/repositories?access_token=[redacted]");
    assert!(entry.header_names.contains(&"user-agent".to_owned()));
    assert!(!format!("{journal:?}{:?}", github.counters()).contains(&token[..30]));
}

// Worlds

#[tokio::test]
async fn a_world_can_be_read_from_json() {
    let world = r#"{
        "apps": [{"name": "bot", "id": 5, "client_id": "Iv1.5", "slug": "bot", "token_format": "opaque"}],
        "accounts": [{"type": "Organization", "login": "acme", "id": 1}, {"type": "Enterprise", "slug": "big", "id": 2}],
        "repositories": [{"id": 1, "owner": "acme", "name": "one", "private": true}],
        "installations": [
            {"id": 1, "app": "bot", "account": "acme", "repository_selection": "selected", "repositories": ["one"],
             "permissions": {"contents": "read"}, "suspended_at": "2020-08-28T16:32:59Z"},
            {"id": 2, "app": "bot"}
        ]
    }"#;
    let world: World = serde_json::from_str(world).unwrap();
    let github = start(Options { world, ..Options::default() }).await;
    let bot = github.app("bot").unwrap();
    let jwt = bearer(&signed(&bot.private_key_pem, &claims("Iv1.5")));
    let list =
        send("GET", &format!("{}/app/installations", github.api_url()), &[("authorization", &jwt)], "").await;
    assert_eq!(list.json()[0]["suspended_at"], "2020-08-28T16:32:59Z");
    assert_eq!(list.json()[1]["account"], Value::Null);
    let demo = serde_json::to_string(&World::demo()).unwrap();
    assert_eq!(serde_json::from_str::<World>(&demo).unwrap(), World::demo());
}

#[tokio::test]
async fn a_world_that_does_not_fit_together_is_refused_in_words() {
    let check = async |change: fn(&mut World), words: &str| {
        let mut world = World::demo();
        change(&mut world);
        let error =
            FakeGithub::start(Options { world, seed: Some(1), ..Options::default() }).await.unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    };
    check(|world| world.installations[0].app = "x".into(), "no app has the name `x`").await;
    check(|world| world.installations[0].account = Some("x".into()), "no account has the login or slug `x`")
        .await;
    check(|world| world.installations[1].repositories = ["x".to_owned()].into(), "no repository `x`").await;
    check(|world| world.repositories[0].owner = "x".into(), "no account has the login `x`").await;
    check(|world| world.installations[1].id = 1, "the id `1` appears twice").await;
    check(|world| world.accounts.push(Account::User { login: "acme".into(), id: 9 }), "`acme` appears twice")
        .await;
    check(|world| world.installations[0].permissions = permissions("contents:all"), "`all` is not a level")
        .await;
    check(
        |world| world.apps[0].private_keys = Some("-----BEGIN X-----\nAA==\n-----END X-----\n".into()),
        "RSA",
    )
    .await;
}

#[tokio::test]
async fn an_app_may_have_no_key() {
    let mut world = World::demo();
    world.apps[0].private_keys = Some(String::new());
    let (other, github) = (demo().await, start(Options { world, ..Options::default() }).await);
    assert_eq!(key(&github), "");
    assert_eq!(
        verdict(&github, &signed(&key(&other), &claims(1001))).await,
        "Integration must generate a public key"
    );
}

// The control endpoint

pub async fn control(github: &FakeGithub, method: &str, path: &str, body: &str) -> Reply {
    send(method, &format!("{}{path}", github.control_url()), &[], body).await
}

#[tokio::test]
async fn control_endpoint_matches_the_rust_interface() {
    let github = demo().await;
    let ok = async |method: &str, path: &str, body: &str| {
        let reply = control(&github, method, path, body).await;
        assert_eq!(reply.status, 200, "{method} {path}: {}", reply.text);
        reply.json()
    };
    let apps = ok("GET", "/apps", "").await;
    assert_eq!(apps[0]["private_key_pem"], key(&github).as_str());
    let old = token(&github, 1).await;

    ok("POST", "/installations/1/suspend", "").await;
    assert_eq!(mint(&github, 1, "").await.status, 403);
    ok("POST", "/installations/1/unsuspend", "").await;
    ok("PUT", "/installations/1/permissions", r#"{"contents": "read"}"#).await;
    assert_eq!(
        mint(&github, 1, "").await.json()["permissions"],
        json!({"contents": "read", "metadata": "read"})
    );
    ok("POST", "/installations/1/repositories", r#"{"name": "new"}"#).await;
    assert_eq!(with_token(&github, &old, "GET", "/repos/acme/new").await.status, 200);
    ok("DELETE", "/installations/1/repositories", r#"{"name": "new"}"#).await;
    assert_eq!(with_token(&github, &old, "GET", "/repos/acme/new").await.status, 404);
    ok("POST", "/repositories/acme/widgets/rename", r#"{"to": "gizmos"}"#).await;
    assert_eq!(as_app(&github, "GET", "/repos/acme/widgets/installation", "").await.status, 301);
    ok("POST", "/accounts/acme/rename", r#"{"to": "acme-inc"}"#).await;
    assert_eq!(as_app(&github, "GET", "/orgs/acme-inc/installation", "").await.status, 200);
    ok("POST", "/tokens/revoke", &json!({ "token": old }).to_string()).await;
    assert_eq!(with_token(&github, &old, "GET", "/installation/repositories").await.status, 401);
    ok("DELETE", "/installations/2", "").await;
    assert_eq!(mint(&github, 2, "").await.status, 404);
    ok("POST", "/installations", r#"{"id": 9, "app": "demo", "account": "octocat"}"#).await;
    assert_eq!(mint(&github, 9, "").await.status, 201);

    let added = ok("POST", "/apps/demo/keys", "").await;
    assert_eq!(
        verdict(&github, &signed(added["private_key_pem"].as_str().unwrap(), &claims(1001))).await,
        ""
    );
    ok("DELETE", "/apps/demo/keys", &json!({ "fingerprint": added["fingerprint"] }).to_string()).await;
    assert_eq!(
        verdict(&github, &signed(added["private_key_pem"].as_str().unwrap(), &claims(1001))).await,
        UNDECODABLE
    );

    ok("POST", "/faults", r#"{"times": 1, "effect": {"kind": "status", "status": 503}}"#).await;
    assert_eq!(ok("GET", "/faults", "").await[0]["effect"]["kind"], "status");
    assert_eq!(mint(&github, 1, "").await.status, 503);
    ok("POST", "/faults", r#"{"method": "GET", "path": "/app", "effect": {"kind": "stall"}}"#).await;
    ok("DELETE", "/faults", "").await;
    ok("POST", "/clock", r#"{"skew_seconds": 900}"#).await;
    assert_eq!(verdict(&github, &signed(&key(&github), &claims(1001))).await, EXPIRED);
    ok("POST", "/clock", r#"{"advance_seconds": 10, "skew_seconds": -10}"#).await;
    assert_eq!(verdict(&github, &signed(&key(&github), &claims(1001))).await, "");
    assert!(ok("GET", "/clock", "").await["now"].is_string());

    let counters = ok("GET", "/counters", "").await;
    assert_eq!(counters["mints"], github.counters().mints);
    assert_eq!(ok("GET", "/journal", "").await.as_array().unwrap().len(), github.journal().len());
    ok("POST", "/reset", "").await;
    assert_eq!(github.counters().requests, 0);
    assert_eq!(as_app(&github, "GET", "/repos/acme/widgets/installation", "").await.status, 200);
}

#[tokio::test]
async fn control_endpoint_releases_a_hold_by_id() {
    let github = std::sync::Arc::new(demo().await);
    let id = control(&github, "POST", "/holds", r#"{"method": "POST"}"#).await.json()["id"].clone();
    let waiting = tokio::spawn({
        let github = github.clone();
        async move { mint(&github, 1, "").await.status }
    });
    while github.counters().mints == 0 && !waiting.is_finished() {
        tokio::task::yield_now().await;
    }
    assert_eq!(control(&github, "GET", "/holds", "").await.json(), json!([{"id": id, "held": 1}]));
    assert!(!waiting.is_finished());
    assert_eq!(control(&github, "POST", &format!("/holds/{id}/release"), "").await.status, 200);
    assert_eq!(waiting.await.unwrap(), 201);
    assert_eq!(control(&github, "POST", &format!("/holds/{id}/release"), "").await.status, 404);
}

#[tokio::test]
async fn control_error_names_fault_and_allowed_values() {
    let github = demo().await;
    let check = async |method: &str, path: &str, body: &str, status: u16, words: &[&str]| {
        let reply = control(&github, method, path, body).await;
        assert_eq!(reply.status, status, "{method} {path}: {}", reply.text);
        let error = reply.json()["error"].as_str().unwrap().to_owned();
        for word in words {
            assert!(error.contains(word), "{error}");
        }
    };
    check(
        "POST",
        "/faults",
        r#"{"effect": {"kind": "boom"}}"#,
        400,
        &["`boom`", "`slow_headers`", "`stall`"],
    )
    .await;
    check("POST", "/faults", r#"{"efect": {}}"#, 400, &["`efect`", "`effect`"]).await;
    check("POST", "/faults", "{}", 400, &["missing field `effect`"]).await;
    check(
        "POST",
        "/faults",
        r#"{"effect": {"kind": "html", "status": 503, "x": 1}}"#,
        400,
        &["`x`", "`status`"],
    )
    .await;
    check(
        "POST",
        "/faults",
        r#"{"effect": {"kind": "html", "status": 42}}"#,
        400,
        &["`status`", "200 to 599"],
    )
    .await;
    check("POST", "/faults", r#"{"effect": {"kind": "primary_limit", "status": 500}}"#, 400, &["403 or 429"])
        .await;
    check(
        "POST",
        "/faults",
        r#"{"probability": 2, "effect": {"kind": "stall"}}"#,
        400,
        &["`probability`", "0 to 1"],
    )
    .await;
    check("POST", "/clock", "{}", 400, &["`advance_seconds`", "`skew_seconds`"]).await;
    check(
        "POST",
        "/clock",
        r#"{"advance_seconds": -1}"#,
        400,
        &["`advance_seconds`", "`-1`", "not negative"],
    )
    .await;
    check(
        "PUT",
        "/installations/1/permissions",
        r#"{"contents": "all"}"#,
        400,
        &["`contents`", "read, write, admin"],
    )
    .await;
    check("POST", "/installations", r#"{"id": 1, "app": "demo"}"#, 400, &["`1` appears twice"]).await;
    check("POST", "/installations/x/suspend", "", 400, &["`x`", "number"]).await;
    check("POST", "/installations/99/suspend", "", 404, &["no such installation"]).await;
    check("POST", "/tokens/revoke", "{", 400, &["EOF"]).await;
    check("POST", "/tokens/revoke", r#"{"token": "x"}"#, 404, &["no such token"]).await;
    check("GET", "/reset", "", 405, &["POST"]).await;
    check("GET", "/nothing", "", 404, &["GET /"]).await;
}

/// How a use of `token` is answered, with and without its being asked for.
async fn uses(github: &FakeGithub, token: &str) -> [u16; 2] {
    let listed = with_token(github, token, "GET", "/installation/repositories").await;
    let open = with_token(github, token, "GET", "/rate_limit").await;
    [listed.status, open.status]
}

#[tokio::test]
async fn new_token_is_unknown_until_replication() {
    for (status, text) in [
        (LagResponse::Unauthorized, "Bad credentials"),
        (LagResponse::Forbidden, "Resource not accessible by integration"),
        (LagResponse::NotFound, "Not Found"),
    ] {
        let replication = Replication { lag_ms: 60_000, status };
        let github = start(Options { replication, ..Options::default() }).await;
        let token = token(&github, 1).await;
        let status = u16::from(status);
        assert_eq!(uses(&github, &token).await, [status; 2]);
        let refused = with_token(&github, &token, "GET", "/installation/repositories").await;
        assert_eq!(
            (refused.message().as_str(), refused.json()["status"].as_str()),
            (text, Some(&*status.to_string()))
        );
        // Its maker is not affected, and neither are tokens that have been there for long.
        assert_eq!(mint(&github, 1, "").await.status, 201);
        github.advance(Duration::from_secs(59));
        assert_eq!(uses(&github, &token).await, [status; 2]);
        github.advance(Duration::from_secs(1));
        assert_eq!(uses(&github, &token).await, [200; 2]);
    }
}

#[tokio::test]
async fn control_endpoint_sets_replication_lag() {
    let github = demo().await;
    let token = token(&github, 1).await;
    assert_eq!(control(&github, "POST", "/replication", r#"{"lag_ms": 60000}"#).await.status, 200);
    assert_eq!(uses(&github, &token).await, [401; 2]);
    let set = control(&github, "POST", "/replication", r#"{"lag_ms": 60000, "status": 404}"#).await;
    assert_eq!((set.status, uses(&github, &token).await), (200, [404; 2]));
    assert_eq!(
        control(&github, "GET", "/replication", "").await.json(),
        json!({"lag_ms": 60000, "status": 404})
    );
    for (body, expected) in [
        (r#"{"lag_ms": 1, "status": 500}"#, "allowed: 401, 403, 404"),
        (r#"{"lag_ms": -1}"#, "not negative"),
        ("{}", "missing field `lag_ms`"),
    ] {
        let refused = control(&github, "POST", "/replication", body).await;
        assert_eq!(refused.status, 400, "{body}");
        assert!(refused.text.contains(expected), "{body}: {}", refused.text);
    }
    github.set_replication(Replication::default());
    assert_eq!(uses(&github, &token).await, [200; 2]);
    github.set_replication(Replication { lag_ms: 60_000, ..Replication::default() });
    github.reset();
    assert_eq!(control(&github, "GET", "/replication", "").await.json()["lag_ms"], 0);
}

#[tokio::test]
async fn control_help_lists_working_calls() {
    let github = demo().await;
    let help = control(&github, "GET", "/", "").await.text;
    let examples: Vec<&str> = help.lines().filter_map(|line| line.trim().strip_prefix("curl -s ")).collect();
    assert!(examples.len() > 20, "{help}");
    for example in examples {
        let (call, body) = example.split_once(" -d ").unwrap_or((example, "''"));
        let (method, url) = match call.strip_prefix("-X ") {
            Some(rest) => rest.split_once(' ').unwrap(),
            None => ("GET", call),
        };
        let reply = send(method, url, &[], body.trim_matches('\'')).await;
        assert!(matches!(reply.status, 200 | 404), "{example}: {}", reply.text);
        assert!(!reply.text.contains("no such call"), "{example}");
    }
}
