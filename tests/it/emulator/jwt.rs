//! Authentication by JWT.

#![cfg(feature = "fake-github")]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ghtokend::fake_github::{FakeGithub, Options};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::emulator::client::{
    EXPIRED, UNDECODABLE, as_app, claims, demo, jwt_error, key, mint, now, signed, start, with_token,
};

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

#[tokio::test]
async fn iss_may_be_an_integer_a_numeric_string_or_the_client_id() {
    let github = demo().await;
    let key = key(&github);
    for iss in [json!(1001), json!("1001"), json!("Iv23liDemoApp0000001")] {
        assert_eq!(jwt_error(&github, &signed(&key, &claims(iss))).await, "");
    }
}

#[tokio::test]
async fn an_old_enterprise_server_refuses_a_client_id() {
    let github = start(Options { client_id_iss: false, ..Options::default() }).await;
    let key = key(&github);
    assert_eq!(jwt_error(&github, &signed(&key, &claims("Iv23liDemoApp0000001"))).await, BAD_ISSUER);
    assert_eq!(jwt_error(&github, &signed(&key, &claims("1001"))).await, "");
}

#[tokio::test]
async fn wrong_jwt_claim_has_its_own_message() {
    let github = demo().await;
    let key = key(&github);
    let check = async |change: fn(&mut Value), message: &str| {
        let mut claims = claims(1001);
        change(&mut claims);
        assert_eq!(jwt_error(&github, &signed(&key, &claims)).await, message, "{claims}");
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
    assert_eq!(jwt_error(&github, &signed(&key, &claims(600))).await, "");
    assert_eq!(jwt_error(&github, &signed(&key, &claims(660))).await, TOO_FAR);
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
    assert_eq!(jwt_error(&github, "not.a.jwt").await, UNDECODABLE);
    assert_eq!(
        jwt_error(&github, &signed(foreign, &no_iss)).await,
        "Missing 'issuer' claim ('iss') in assertion"
    );
    assert_eq!(jwt_error(&github, &signed(foreign, &wrong_iss)).await, BAD_ISSUER);
    assert_eq!(jwt_error(&github, &signed(foreign, &late)).await, UNDECODABLE);
    assert_eq!(jwt_error(&github, &signed(&good, &late)).await, EXPIRED);
    assert_eq!(jwt_error(&github, &signed(&good, &early)).await, ISSUED_LATER);
    let fingerprint = github.app("demo").unwrap().keys[0].fingerprint.clone();
    assert!(github.remove_key("demo", &fingerprint));
    assert_eq!(jwt_error(&github, &signed(&good, &late)).await, "Integration must generate a public key");
}

#[tokio::test]
async fn no_algorithm_but_rs256_is_taken() {
    let github = demo().await;
    let pem = key(&github);
    let der = pem::parse(&pem).unwrap();
    let rsa = EncodingKey::from_rsa_der(der.contents());
    for algorithm in [Algorithm::PS256, Algorithm::RS384, Algorithm::RS512] {
        let jwt = jsonwebtoken::encode(&Header::new(algorithm), &claims(1001), &rsa).unwrap();
        assert_eq!(jwt_error(&github, &jwt).await, UNDECODABLE, "{algorithm:?}");
    }
    // Signed by HMAC under whatever the public key may look like to a careless checker.
    let keyed = EncodingKey::from_secret(der.contents());
    let jwt = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims(1001), &keyed).unwrap();
    assert_eq!(jwt_error(&github, &jwt).await, UNDECODABLE);
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let unsigned = format!("{}.{}.", part(&json!({"alg": "none"})), part(&claims(1001)));
    assert_eq!(jwt_error(&github, &unsigned).await, UNDECODABLE);
    // A good signature under a header that claims another algorithm.
    let good = signed(&pem, &claims(1001));
    let rest = good.split_once('.').unwrap().1;
    assert_eq!(jwt_error(&github, &format!("{}.{rest}", part(&json!({"alg": "ES256"})))).await, UNDECODABLE);
    assert_eq!(jwt_error(&github, &good).await, "");
    // Signed as RS256 all over, but under another name.
    let signing = aws_lc_rs::rsa::KeyPair::from_der(der.contents()).unwrap();
    for (name, message) in [("RS256", ""), ("PS256", UNDECODABLE), ("rs256", UNDECODABLE)] {
        let message_part = format!("{}.{}", part(&json!({"alg": name})), part(&claims(1001)));
        let mut signature = vec![0; 256];
        let random = aws_lc_rs::rand::SystemRandom::new();
        let padding = &aws_lc_rs::signature::RSA_PKCS1_SHA256;
        signing.sign(padding, &random, message_part.as_bytes(), &mut signature).unwrap();
        let jwt = format!("{message_part}.{}", URL_SAFE_NO_PAD.encode(&signature));
        assert_eq!(jwt_error(&github, &jwt).await, message, "{name}");
    }
}

#[tokio::test]
async fn a_changed_claim_breaks_the_signature() {
    let github = demo().await;
    let jwt = signed(&key(&github), &claims(1001));
    let parts: Vec<&str> = jwt.split('.').collect();
    let other = URL_SAFE_NO_PAD.encode(json!({"iss": 1001, "iat": now(), "exp": now() + 500}).to_string());
    assert_eq!(jwt_error(&github, &format!("{}.{other}.{}", parts[0], parts[2])).await, UNDECODABLE);
}

#[tokio::test]
async fn every_key_of_an_app_signs_until_it_is_removed() {
    let github = demo().await;
    let first = key(&github);
    let second = github.add_key("demo").unwrap();
    assert_eq!(github.app("demo").unwrap().keys.len(), 2);
    for pem in [&first, &second.private_key_pem] {
        assert_eq!(jwt_error(&github, &signed(pem, &claims(1001))).await, "");
    }
    assert!(github.remove_key("demo", &second.fingerprint));
    assert_eq!(jwt_error(&github, &signed(&second.private_key_pem, &claims(1001))).await, UNDECODABLE);
    assert_eq!(jwt_error(&github, &signed(&first, &claims(1001))).await, "");
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
    assert_eq!(jwt_error(&github, &signed(&key(&github), &claims(1001))).await, "");
    assert_ne!(key(&github), key(&demo().await));
}

#[tokio::test]
async fn skewed_clock_affects_date_and_jwt_validation() {
    let github = demo().await;
    let key = key(&github);
    github.skew(-300);
    assert_eq!(jwt_error(&github, &signed(&key, &claims(1001))).await, TOO_FAR);
    let reply = as_app(&github, "GET", "/app", "").await;
    let date = jiff::fmt::rfc2822::parse(reply.header("date")).unwrap().timestamp().as_second();
    assert!((now() - date - 300).abs() < 5, "{}", reply.header("date"));
    assert_eq!(
        jwt_error(&github, &signed(&key, &json!({"iss": 1001, "iat": now() - 360, "exp": now()}))).await,
        ""
    );
    github.skew(900);
    assert_eq!(jwt_error(&github, &signed(&key, &claims(1001))).await, EXPIRED);
    github.skew(0);
    assert_eq!(jwt_error(&github, &signed(&key, &claims(1001))).await, "");
}

#[tokio::test]
async fn a_leeway_lets_iat_be_ahead() {
    let github = start(Options { iat_leeway: 30, ..Options::default() }).await;
    let ahead = |by: i64| json!({"iss": 1001, "iat": now() + by, "exp": now() + 300});
    assert_eq!(jwt_error(&github, &signed(&key(&github), &ahead(20))).await, "");
    assert_eq!(jwt_error(&github, &signed(&key(&github), &ahead(90))).await, ISSUED_LATER);
}
