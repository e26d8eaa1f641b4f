//! GitHub's objects in JSON, with all the fields its OpenAPI description requires.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::definition::{Account, App, Installation, Repository};
use super::product::NEWEST_VERSION;
use super::store::Store;
use super::urls::Urls;

/// An organisation or user as a "simple user", or an enterprise, which has no `login`.
pub(crate) fn account(urls: &Urls, account: &Account) -> Value {
    let (api, web, id) = (&urls.api, &urls.web, account.id());
    let node_id = node_id(account.kind(), id);
    let Some(login) = account.login() else {
        let slug = account.name();
        return json!({
            "id": id, "node_id": node_id, "name": slug, "slug": slug, "description": null, "website_url": null,
            "html_url": format!("{web}/enterprises/{slug}"),
            "avatar_url": format!("{web}/avatars/b/{id}"),
            "created_at": CREATED_AT, "updated_at": CREATED_AT,
        });
    };
    let url = format!("{api}/users/{login}");
    json!({
        "login": login, "id": id, "node_id": node_id, "type": account.kind(), "site_admin": false,
        "avatar_url": format!("{web}/avatars/u/{id}"), "gravatar_id": "",
        "url": url, "html_url": format!("{web}/{login}"),
        "followers_url": format!("{url}/followers"),
        "following_url": format!("{url}/following{{/other_user}}"),
        "gists_url": format!("{url}/gists{{/gist_id}}"),
        "starred_url": format!("{url}/starred{{/owner}}{{/repo}}"),
        "subscriptions_url": format!("{url}/subscriptions"),
        "organizations_url": format!("{url}/orgs"),
        "repos_url": format!("{url}/repos"),
        "events_url": format!("{url}/events{{/privacy}}"),
        "received_events_url": format!("{url}/received_events"),
        "user_view_type": "public",
    })
}

/// An app, as by `GET /app`.
pub(crate) fn app(store: &Store, app: &App) -> Value {
    let web = &store.urls.web;
    let owner = match &app.owner {
        Some(login) => store.account(login),
        None => store.world.accounts.iter().find(|account| account.login().is_some()),
    };
    json!({
        "id": app.id, "client_id": app.client_id, "slug": app.slug, "node_id": node_id("App", app.id),
        "owner": owner.map(|owner| account(&store.urls, owner)),
        "name": app.name, "description": "", "external_url": web,
        "html_url": format!("{web}/apps/{}", app.slug),
        "created_at": CREATED_AT, "updated_at": CREATED_AT,
        "permissions": app.permissions, "events": app.events,
        "installations_count": store.world.installations.iter().filter(|own| own.app == app.name).count(),
    })
}

/// An installation.
pub(crate) fn installation(store: &Store, installation: &Installation) -> Value {
    let (api, id) = (&store.urls.api, installation.id);
    let app = store.app(&installation.app);
    let owner = store.account_of(installation);
    let suspended_by = installation.suspended_at.as_ref().and(owner.filter(|owner| owner.login().is_some()));
    json!({
        "id": id, "client_id": app.map(|app| &app.client_id),
        "account": owner.map(|owner| account(&store.urls, owner)),
        "repository_selection": installation.repository_selection,
        "access_tokens_url": format!("{api}/app/installations/{id}/access_tokens"),
        "repositories_url": format!("{api}/installation/repositories"),
        "html_url": settings_url(&store.urls, owner, id),
        "app_id": app.map(|app| app.id), "app_slug": app.map(|app| &app.slug),
        "target_id": owner.map_or(id, Account::id),
        "target_type": owner.map_or("Organization", Account::kind),
        "permissions": installation.permissions, "events": app.map(|app| &app.events),
        "created_at": CREATED_AT_MILLIS, "updated_at": CREATED_AT_MILLIS,
        "single_file_name": null, "has_multiple_single_files": false, "single_file_paths": [],
        "suspended_by": suspended_by.map(|owner| account(&store.urls, owner)),
        "suspended_at": installation.suspended_at,
    })
}

/// The settings page of installation `id` on `owner`.
pub(crate) fn settings_url(urls: &Urls, owner: Option<&Account>, id: u64) -> String {
    let web = &urls.web;
    let whose = match owner {
        Some(Account::Organization { login, .. }) => format!("{web}/organizations/{login}"),
        Some(Account::Enterprise { slug, .. }) => format!("{web}/enterprises/{slug}"),
        Some(Account::User { .. }) | None => web.clone(),
    };
    format!("{whose}/settings/installations/{id}")
}

/// A repository in full, with the fields that API `version` has.
pub(crate) fn repository(store: &Store, repository: &Repository, version: &str) -> Value {
    let full_name = format!("{}/{}", repository.owner, repository.name);
    let url = format!("{}/repos/{full_name}", store.urls.api);
    let html_url = format!("{}/{full_name}", store.urls.web);
    let visibility = if repository.private { "private" } else { "public" };
    let mut body = json!({
        "id": repository.id, "node_id": node_id("Repository", repository.id),
        "name": repository.name, "full_name": full_name, "private": repository.private,
        "visibility": visibility, "owner": store.account(&repository.owner).map(|owner| account(&store.urls, owner)),
        "topics": [], "allow_forking": true, "default_branch": "main",
        "has_issues": true, "has_projects": true, "has_wiki": true,
        "created_at": CREATED_AT, "updated_at": CREATED_AT, "pushed_at": CREATED_AT,
        "url": url, "html_url": html_url,
        "clone_url": format!("{html_url}.git"), "svn_url": html_url,
        "git_url": format!("{}.git", html_url.replacen("http", "git", 1)),
        "ssh_url": format!("git@localhost:{full_name}.git"),
    });
    REPOSITORY_NULLS.iter().for_each(|name| body[*name] = Value::Null);
    REPOSITORY_FALSES.iter().for_each(|name| body[*name] = json!(false));
    REPOSITORY_ZEROES.iter().for_each(|name| body[*name] = json!(0));
    for (name, path) in REPOSITORY_URLS {
        body[*name] = json!(format!("{url}/{path}"));
    }
    if version < NEWEST_VERSION {
        body["has_downloads"] = json!(true);
        body["use_squash_pr_title_as_default"] = json!(false);
    }
    body
}

/// The old form of a node id.
pub(crate) fn node_id(kind: &str, id: u64) -> String {
    STANDARD.encode(format!("{:03}:{kind}{id}", kind.len()))
}

const CREATED_AT: &str = "2016-07-11T22:14:10Z";
/// Installations have been seen with milliseconds.
const CREATED_AT_MILLIS: &str = "2016-07-11T22:14:10.000Z";
/// In webhooks they have been seen in these two forms.
pub(crate) const CREATED_AT_UNIX: u64 = 1_468_275_250;
pub(crate) const CREATED_AT_OFFSET: &str = "2016-07-11T18:14:10.000-04:00";

const REPOSITORY_NULLS: &[&str] = &["description", "homepage", "language", "license", "mirror_url"];
const REPOSITORY_FALSES: &[&str] = &[
    "fork",
    "archived",
    "disabled",
    "is_template",
    "web_commit_signoff_required",
    "has_pages",
    "has_discussions",
];
const REPOSITORY_ZEROES: &[&str] = &[
    "forks",
    "forks_count",
    "stargazers_count",
    "watchers",
    "watchers_count",
    "open_issues",
    "open_issues_count",
    "size",
];
const REPOSITORY_URLS: &[(&str, &str)] = &[
    ("archive_url", "{archive_format}{/ref}"),
    ("assignees_url", "assignees{/user}"),
    ("blobs_url", "git/blobs{/sha}"),
    ("branches_url", "branches{/branch}"),
    ("collaborators_url", "collaborators{/collaborator}"),
    ("comments_url", "comments{/number}"),
    ("commits_url", "commits{/sha}"),
    ("compare_url", "compare/{base}...{head}"),
    ("contents_url", "contents/{+path}"),
    ("contributors_url", "contributors"),
    ("deployments_url", "deployments"),
    ("downloads_url", "downloads"),
    ("events_url", "events"),
    ("forks_url", "forks"),
    ("git_commits_url", "git/commits{/sha}"),
    ("git_refs_url", "git/refs{/sha}"),
    ("git_tags_url", "git/tags{/sha}"),
    ("hooks_url", "hooks"),
    ("issue_comment_url", "issues/comments{/number}"),
    ("issue_events_url", "issues/events{/number}"),
    ("issues_url", "issues{/number}"),
    ("keys_url", "keys{/key_id}"),
    ("labels_url", "labels{/name}"),
    ("languages_url", "languages"),
    ("merges_url", "merges"),
    ("milestones_url", "milestones{/number}"),
    ("notifications_url", "notifications{?since,all,participating}"),
    ("pulls_url", "pulls{/number}"),
    ("releases_url", "releases{/id}"),
    ("stargazers_url", "stargazers"),
    ("statuses_url", "statuses/{sha}"),
    ("subscribers_url", "subscribers"),
    ("subscription_url", "subscription"),
    ("tags_url", "tags"),
    ("teams_url", "teams"),
    ("trees_url", "git/trees{/sha}"),
];
