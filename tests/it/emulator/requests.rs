//! Credentials, versions, headers and paths of requests.

#![cfg(feature = "fake-github")]

use base64::Engine as _;
use ghtokend::fake_github::{FakeGithub, Mode, Options};
use serde_json::json;

use crate::emulator::client::{
    MINT, UNDECODABLE, as_app, bearer, claims, demo, key, mint, send, signed, start, token, with_token,
};

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
