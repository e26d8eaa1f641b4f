//! Dialect `apps`: today's GitHub Apps REST API. Builds requests and reads answers; does no I/O.
//!
//! <https://docs.github.com/en/rest/apps/apps>

use std::collections::BTreeMap;

use jiff::Timestamp;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use url::Url;

use crate::github::dialect::token_response;
use crate::github::failure::{Failure, Kind};
use crate::github::http::answer::Answer;
use crate::github::http::classify::classify;
use crate::github::http::request::Request;
use crate::github::{InstallationPage, Page};
use crate::model::{
    App, Grant, Installation, InstallationId, InstallationToken, RepositoryId, Scope, SecretBytes, Selector,
    UserId,
};

/// The media type of every call.
pub(crate) const ACCEPT: &str = "application/vnd.github+json";

/// Tokens can be narrowed here in all ways there are; users have tokens of another kind.
pub(crate) fn check_supported(user: Option<UserId>) -> Result<(), Failure> {
    let message = "GitHub's Apps API mints no installation tokens on behalf of a user: leave the user out";
    user.map_or(Ok(()), |_| Err(Failure::new(Kind::UserTokensUnsupported, message)))
}

/// Users sign in by OAuth here.
pub(crate) fn cannot_identify() -> Failure {
    let message = "GitHub's Apps API knows no nonces: sign the user in with GitHub's web or device flow";
    Failure::new(Kind::Unsupported, message)
}

pub(crate) fn app(base: &Url) -> Request {
    Request::get("verifying the app", base, &["app"])
}

pub(crate) fn read_app(answer: &Answer) -> Result<App, Failure> {
    #[derive(Deserialize)]
    struct Wire {
        id: u64,
        #[serde(default)]
        name: String,
        slug: Option<String>,
        #[serde(default)]
        permissions: Value,
    }
    check_base_url(answer)?;
    let Wire { id, name, slug, permissions } = answer.expect(200)?.json()?;
    Ok(App { id, name, slug, permissions: levels(&permissions), json: answer.text()? })
}

fn check_base_url(answer: &Answer) -> Result<(), Failure> {
    if answer.status == 404 {
        let what = "every GitHub knows its apps: github.api_url is not the base of its API";
        return Err(answer.distrusted(what));
    }
    Ok(())
}

/// A page of the installations.
pub(crate) fn installations(base: &Url, page: Page) -> Request {
    let mut request = Request::get("listing the app's installations", base, &["app", "installations"]);
    request.url.set_query(Some(&format!("per_page={}&page={}", page.size, page.number)));
    request
}

pub(crate) fn read_page(answer: &Answer, base: &Url) -> Result<InstallationPage, Failure> {
    let more = answer.next_page(base)?.is_some();
    Ok(InstallationPage { installations: read_installations(answer)?, more, last: answer.last_page(base) })
}

pub(crate) fn read_installations(answer: &Answer) -> Result<Vec<Installation>, Failure> {
    check_base_url(answer)?;
    let page: Vec<&RawValue> = answer.expect(200)?.json()?;
    page.into_iter().map(|json| read_one(answer, json)).collect()
}

/// The look-up for `selector`; `None` for the default, which takes the list.
pub(crate) fn look_up(base: &Url, selector: &Selector) -> Option<Request> {
    let get = |segments: &[&str]| Some(Request::get("looking up the installation", base, segments));
    match selector {
        Selector::Default => None,
        Selector::Id(id) => get(&["app", "installations", &id.to_string()]),
        // Answers for organisations too: https://docs.github.com/en/rest/apps/apps#get-a-user-installation-for-the-authenticated-app
        Selector::Owner(login) => get(&["users", login.as_str(), "installation"]),
        Selector::Organization(login) => get(&["orgs", login.as_str(), "installation"]),
        Selector::Repository(owner, name) => get(&["repos", owner.as_str(), name.as_str(), "installation"]),
        Selector::Enterprise(slug) => get(&["enterprises", slug.as_str(), "installation"]),
    }
}

pub(crate) fn read_installation(answer: &Answer) -> Result<Installation, Failure> {
    read_one(answer, answer.expect(200)?.json()?)
}

pub(crate) fn mint(base: &Url, installation: InstallationId, scope: &Scope) -> Request {
    #[derive(Serialize)]
    struct Body<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        repositories: Option<Vec<&'a str>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        repository_ids: Option<Vec<u64>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        permissions: Option<BTreeMap<&'a str, &'a str>>,
    }
    let body = Body {
        repositories: scope
            .repositories
            .as_ref()
            .map(|names| names.iter().map(|name| name.as_str()).collect()),
        repository_ids: scope.repository_ids.as_ref().map(|ids| ids.iter().map(|id| id.get()).collect()),
        permissions: scope
            .permissions
            .as_ref()
            .map(|list| list.iter().map(|(name, level)| (name.as_str(), level.as_str())).collect()),
    };
    let path = ["app", "installations", &installation.to_string(), "access_tokens"];
    let body = serde_json::to_vec(&body).ok();
    Request { method: Method::POST, body, ..Request::get("minting a token", base, &path) }
}

/// Asks GitHub to end the life of the token that authorises this.
pub(crate) fn revoke(base: &Url) -> Request {
    let path = ["installation", "token"];
    Request { method: Method::DELETE, ..Request::get("revoking a token", base, &path) }
}

pub(crate) fn read_revocation(answer: &Answer) -> Result<(), Failure> {
    match answer.status {
        // It was dead already, or never lived: what was wanted is so.
        401 => Ok(()),
        200..=299 => answer.expect(204).map(|_| ()),
        _ => {
            let failure = classify(answer);
            let kind = match failure.kind {
                kind @ (Kind::RateLimited | Kind::Unavailable) => kind,
                _ => Kind::BadAnswer,
            };
            // GitHub's own words are left out: they may quote the token.
            let message = format!(
                "GitHub returned {} when revoking a token: it may live on until its expires_at, so try again",
                answer.status
            );
            Err(Failure { kind, message, ..failure })
        }
    }
}

/// The token that was asked for with `scope`, and the moment of its expiry. One that may do more is refused.
pub(crate) fn read_mint(answer: &Answer, scope: &Scope) -> Result<(InstallationToken, Timestamp), Failure> {
    #[derive(Deserialize)]
    struct Wire {
        token: String,
        expires_at: String,
        permissions: Option<BTreeMap<String, String>>,
        repository_selection: Option<String>,
        repositories: Option<Vec<Repository>>,
    }
    #[derive(Deserialize)]
    struct Repository {
        id: u64,
        name: String,
    }
    let wire: Wire = answer.expect(201)?.json()?;
    let known = |repository: Repository| {
        let id = RepositoryId::new(repository.id);
        Ok((id.ok_or_else(|| answer.distrusted("a repository has the id 0"))?, repository.name))
    };
    let repositories = wire.repositories.map(|list| list.into_iter().map(known).collect()).transpose()?;
    let grant = Grant {
        permissions: wire.permissions,
        repository_selection: wire.repository_selection,
        repositories,
    };
    if let Some(excess) = scope.exceeded_by(&grant) {
        return Err(answer.distrusted(&format!("{excess}, which was not asked for")));
    }
    let expires = token_response::parse_expires_at(answer, &wire.expires_at)?;
    let secret = token_response::parse_token(answer, wire.token)?;
    let json = SecretBytes::from(answer.body.clone());
    Ok((InstallationToken { secret, expires_at: wire.expires_at, grant, on_behalf_of: None, json }, expires))
}

#[derive(Deserialize)]
struct WireInstallation {
    id: u64,
    /// A user, an organisation, an enterprise, which has a `slug` and no `login`; or null.
    account: Option<WireAccount>,
    #[serde(default)]
    permissions: Value,
    suspended_at: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct WireAccount {
    login: Option<String>,
    slug: Option<String>,
}

/// Permissions for people to read. The object itself is passed on unchanged.
fn levels(permissions: &Value) -> BTreeMap<String, String> {
    let pairs = permissions.as_object().into_iter().flatten();
    pairs.filter_map(|(name, level)| Some((name.clone(), level.as_str()?.to_owned()))).collect()
}

fn read_one(answer: &Answer, json: &RawValue) -> Result<Installation, Failure> {
    let wire: WireInstallation = answer.part(json)?;
    let id = InstallationId::new(wire.id);
    Ok(Installation {
        id: id.ok_or_else(|| answer.distrusted("an installation has the id 0"))?,
        account: wire.account.and_then(|account| account.login.or(account.slug)),
        permissions: levels(&wire.permissions),
        suspended: wire.suspended_at.is_some(),
        json: json.get().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status, body: body.to_owned().into(), ..Answer::empty("minting a token") }
    }

    #[test]
    fn a_scope_that_narrows_nothing_asks_for_everything() {
        let base = "https://ghe.example/api/v3".parse().unwrap();
        let request = mint(&base, InstallationId::new(7).unwrap(), &Scope::default());
        assert_eq!(request.url.as_str(), "https://ghe.example/api/v3/app/installations/7/access_tokens");
        assert_eq!(request.body.as_deref(), Some(&b"{}"[..]));
    }

    #[test]
    fn account_name_is_enterprise_slug_or_absent() {
        let read = |account: &str| {
            let body = format!("{{\"id\":1,\"account\":{account},\"suspended_at\":null}}");
            read_installation(&answer(200, &body)).unwrap().account
        };
        assert_eq!(read("{\"id\":9,\"slug\":\"megacorp\"}").as_deref(), Some("megacorp"));
        assert_eq!(read("{\"id\":9,\"login\":\"acme\"}").as_deref(), Some("acme"));
        assert_eq!(read("null"), None);
    }

    fn nearly_json() -> impl Strategy<Value = Vec<u8>> {
        let bytes = proptest::collection::vec(any::<u8>(), 0..200);
        let installation = ("[0-9]{0,20}", "\\PC{0,20}").prop_map(|(id, text)| {
            let one = format!("{{\"id\":{id},\"account\":{{\"login\":{text:?}}},\"permissions\":{text:?},\"name\":{text:?}}}");
            if id.len() % 2 == 0 { one.into() } else { format!("[{one}]").into() }
        });
        let token = ("[0-9]{0,20}", "\\PC{0,20}").prop_map(|(id, text)| {
            let repositories = format!("[{{\"id\":{id},\"name\":{text:?}}}]");
            format!("{{\"token\":{text:?},\"expires_at\":{text:?},\"repositories\":{repositories}}}").into()
        });
        prop_oneof![bytes, installation, token]
    }

    proptest! {
        #[test]
        fn readers_never_panic(status in 100u16..600, body in nearly_json(), link in "\\PC{0,30}") {
            for status in [status, 200, 201] {
                let link = Some(format!("<{link}>; rel=\"next\", <http://x/?page={link}>; rel=\"last\", {link}"));
                let answer = Answer { status, body: body.clone().into(), link, ..Answer::empty("x") };
                let base = "https://ghe.example/api/v3".parse().unwrap();
                let _ = (read_app(&answer), read_installation(&answer), read_page(&answer, &base));
                let _ = (read_mint(&answer, &Scope::default()), read_revocation(&answer));
            }
        }
    }
}
