//! The preview's objects, with exactly the fields of its page, in their order.

use serde::Serialize;
use serde_json::{Value, json};

use crate::fake_github::options::preview::Flavour;
use crate::fake_github::state::State;
use crate::fake_github::world::definition::{Account, Installation as Installed, Repository};
use crate::fake_github::world::render as modern;
use crate::fake_github::world::store::Store;

/// An installation.
#[derive(Serialize)]
pub(super) struct Installation {
    id: u64,
    account: Option<Owner>,
    access_tokens_url: String,
    repositories_url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    html_url: Option<String>,
}

/// A token that was just minted.
#[derive(Serialize)]
pub(super) struct Token<'a> {
    token: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    /// `Some(None)` is null.
    #[serde(skip_serializing_if = "Option::is_none")]
    on_behalf_of: Option<Option<User>>,
}

/// A user, or another account with a login.
#[derive(Serialize)]
pub(super) struct User {
    login: String,
    id: u64,
    avatar_url: String,
    gravatar_id: &'static str,
    url: String,
    html_url: String,
    followers_url: String,
    following_url: String,
    gists_url: String,
    starred_url: String,
    subscriptions_url: String,
    organizations_url: String,
    repos_url: String,
    events_url: String,
    received_events_url: String,
    #[serde(rename = "type")]
    kind: &'static str,
    site_admin: bool,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Owner {
    Organization(Organization),
    User(User),
}

#[derive(Serialize)]
struct Organization {
    login: String,
    id: u64,
    url: String,
    repos_url: String,
    events_url: String,
    hooks_url: String,
    issues_url: String,
    members_url: String,
    public_members_url: String,
    avatar_url: String,
    description: &'static str,
}

pub(super) fn installation(state: &State, store: &Store, installation: &Installed) -> Installation {
    let (api, id) = (&state.urls.api, installation.id);
    let owner = store.account_of(installation);
    let flavour = state.options.preview.flavour;
    Installation {
        id,
        account: owner.map(|owner| match (owner, flavour) {
            (Account::Organization { .. }, Flavour::Y2016) => Owner::Organization(organization(state, owner)),
            // Of installations on users the page shows nothing; this is its only other account.
            _ => Owner::User(user(state, owner)),
        }),
        access_tokens_url: format!("{api}/installations/{id}/access_tokens"),
        repositories_url: format!("{api}/installation/repositories"),
        html_url: (flavour == Flavour::Y2017).then(|| modern::settings_url(&state.urls, owner, id)),
    }
}

pub(super) fn token<'a>(
    state: &State,
    token: &'a str,
    expires_at: Option<String>,
    on_behalf_of: Option<&Account>,
) -> Token<'a> {
    let on_behalf_of = on_behalf_of.map(|account| user(state, account));
    let on_behalf_of = match state.options.preview.flavour {
        Flavour::Y2016 => Some(on_behalf_of),
        Flavour::Y2017 => on_behalf_of.map(Some),
    };
    Token { token, expires_at, on_behalf_of }
}

pub(super) fn user(state: &State, account: &Account) -> User {
    let login = account.name();
    let url = format!("{}/users/{login}", state.urls.api);
    User {
        login: login.to_owned(),
        id: account.id(),
        avatar_url: avatar(state),
        gravatar_id: "",
        html_url: format!("{}/{login}", state.urls.web),
        followers_url: format!("{url}/followers"),
        following_url: format!("{url}/following{{/other_user}}"),
        gists_url: format!("{url}/gists{{/gist_id}}"),
        starred_url: format!("{url}/starred{{/owner}}{{/repo}}"),
        subscriptions_url: format!("{url}/subscriptions"),
        organizations_url: format!("{url}/orgs"),
        repos_url: format!("{url}/repos"),
        events_url: format!("{url}/events{{/privacy}}"),
        received_events_url: format!("{url}/received_events"),
        kind: account.kind(),
        site_admin: false,
        url,
    }
}

/// A repository, without the fields of later years.
pub(super) fn repository(state: &State, store: &Store, repository: &Repository) -> Value {
    let mut body = modern::repository(store, repository, BEFORE_VERSIONS);
    if let Some(fields) = body.as_object_mut() {
        LATER_FIELDS.iter().for_each(|name| drop(fields.remove(*name)));
    }
    body["owner"] = json!(store.account(&repository.owner).map(|owner| user(state, owner)));
    body
}

fn organization(state: &State, account: &Account) -> Organization {
    let login = account.name();
    let url = format!("{}/orgs/{login}", state.urls.api);
    Organization {
        login: login.to_owned(),
        id: account.id(),
        repos_url: format!("{url}/repos"),
        events_url: format!("{url}/events"),
        hooks_url: format!("{url}/hooks"),
        issues_url: format!("{url}/issues"),
        members_url: format!("{url}/members{{/member}}"),
        public_members_url: format!("{url}/public_members{{/member}}"),
        avatar_url: avatar(state),
        description: "A great organization",
        url,
    }
}

/// All accounts have the picture of the page.
fn avatar(state: &State) -> String {
    format!("{}/images/error/octocat_happy.gif", state.urls.web)
}

/// Sorts before every version.
const BEFORE_VERSIONS: &str = "";
const LATER_FIELDS: &[&str] = &[
    "node_id",
    "visibility",
    "topics",
    "allow_forking",
    "archived",
    "disabled",
    "is_template",
    "license",
    "web_commit_signoff_required",
    "has_discussions",
    "use_squash_pr_title_as_default",
];
