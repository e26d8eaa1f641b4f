//! Installations, and looking them up.

#![cfg(feature = "fake-github")]

use ghtokend::fake_github::{App, Installation, Options, SuspendedWording, World};
use serde_json::{Value, json};

use crate::emulator::client::{
    UNDECODABLE, as_app, bearer, claims, demo, jwt_error, mint, send, signed, start, token, with_token,
};

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
    assert_eq!(jwt_error(&github, &signed(&other.private_key_pem, &claims(1001))).await, UNDECODABLE);
}
