//! Dialect `integrations`: the preview of 2016, for servers that speak it. Builds requests and reads answers; does no
//! I/O.
//!
//! <https://web.archive.org/web/20161114184934/https://developer.github.com/v3/integrations/>

use jiff::Timestamp;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use url::Url;

use crate::github::dialect::token_response;
use crate::github::failure::{Failure, Kind, Origin};
use crate::github::http::answer::Answer;
use crate::github::http::classify::{classify, failure_of_kind};
use crate::github::http::request::{Request, on_origin_of};
use crate::github::{InstallationPage, Page};
use crate::model::{
    Grant, Identity, Installation, InstallationId, InstallationToken, Scope, Secret, SecretBytes, Selector,
    User, UserId,
};

/// The media type of every call: without it the preview is not there.
pub(crate) const ACCEPT: &str = "application/vnd.github.machine-man-preview+json";

/// An installation as the list has it, with the place where its tokens are made.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    pub installation: Installation,
    /// As GitHub wrote it.
    access_tokens_url: Option<String>,
}

impl Listed {
    pub(crate) fn is(&self, selector: &Selector) -> bool {
        match selector {
            Selector::Id(id) => self.installation.id == *id,
            Selector::Owner(login) | Selector::Organization(login) => {
                let account = self.installation.account.as_deref();
                account.is_some_and(|account| account.eq_ignore_ascii_case(login.as_str()))
            }
            Selector::Default | Selector::Repository(..) | Selector::Enterprise(_) => false,
        }
    }
}

/// What cannot be said in this dialect is refused: another token than the one that was asked for would be a guess, or
/// wider.
pub(crate) fn check_supported(selector: &Selector, scope: &Scope) -> Result<(), Failure> {
    let what = match selector {
        Selector::Default | Selector::Id(_) | Selector::Owner(_) | Selector::Organization(_)
            if *scope == Scope::default() =>
        {
            return Ok(());
        }
        Selector::Default | Selector::Id(_) | Selector::Owner(_) | Selector::Organization(_) => {
            "narrows no tokens: leave repositories, repository_ids and permissions out, for all that the app may do".into()
        }
        Selector::Repository(..) => {
            "neither finds an installation by a repository nor narrows a token to one: ask by the owner, as with \
             owner=LOGIN or /orgs/LOGIN/installation, for all that the app may do there"
                .into()
        }
        other => {
            let (name, _) = other.parameter().unwrap_or_default();
            format!("has no look-up by {name}: ask by the owner or the installation's id, as with owner=LOGIN")
        }
    };
    Err(Failure::new(Kind::Unsupported, format!("GitHub's Integrations API {what}")))
}

/// One page of the installations, the first of as many as there are.
pub(crate) fn installations(base: &Url) -> Request {
    let mut request =
        Request::get("listing the app's installations", base, &["integration", "installations"]);
    // Not on the page, but clients of the time sent it. Who does not know it is asked for more pages.
    request.url.set_query(Some("per_page=100"));
    request
}

pub(crate) fn read_installations(answer: &Answer) -> Result<Vec<Listed>, Failure> {
    #[derive(Deserialize)]
    struct Wire {
        id: Id,
        account: Option<Account>,
        access_tokens_url: Option<String>,
    }
    #[derive(Deserialize)]
    struct Account {
        login: Option<String>,
    }
    if answer.status == 404 {
        // Not "no installations", which would throw out the tokens of all of them.
        let what =
            "this GitHub does not speak the preview: check github.api_url, and that github.dialect is meant";
        return Err(answer.distrusted(what));
    }
    let read = |json: &RawValue| {
        let wire: Wire = answer.part(json)?;
        let id = wire.id.number().and_then(InstallationId::new);
        let installation = Installation {
            id: id.ok_or_else(|| answer.distrusted("an installation's id is not a number above 0"))?,
            account: wire.account.and_then(|account| account.login),
            // Nothing is said about either.
            permissions: [].into(),
            suspended: false,
            json: json.get().to_owned(),
        };
        Ok(Listed { installation, access_tokens_url: wire.access_tokens_url })
    };
    answer.expect(200)?.json::<Vec<&RawValue>>()?.into_iter().map(read).collect()
}

/// A page of the whole list.
pub(crate) fn page(list: &[Listed], page: Page) -> InstallationPage {
    let size = usize::try_from(page.size).unwrap_or(usize::MAX).max(1);
    let before = usize::try_from(page.number.saturating_sub(1)).unwrap_or(usize::MAX).saturating_mul(size);
    let on_page = list.iter().skip(before).take(size);
    InstallationPage {
        installations: on_page.map(|listed| listed.installation.clone()).collect(),
        more: list.len() > before.saturating_add(size),
        last: Some(list.len().div_ceil(size).max(1) as u64),
    }
}

/// The request for a token goes where GitHub says, unless that is elsewhere: it carries the app JWT.
pub(crate) fn mint(base: &Url, listed: &Listed, user: Option<UserId>) -> Result<Request, Failure> {
    #[derive(Serialize)]
    struct Body {
        #[serde(skip_serializing_if = "Option::is_none")]
        user_id: Option<String>,
    }
    let url = listed.access_tokens_url.as_deref().and_then(|link| on_origin_of(base, link));
    let url = url.ok_or_else(|| {
        let id = listed.installation.id;
        let message = format!(
            "the access_tokens_url of installation {id} is missing or not on the host of github.api_url, and the \
             app JWT is sent nowhere else: check github.api_url"
        );
        Failure::new(Kind::BadAnswer, message)
    })?;
    let body = Body { user_id: user.map(|user| user.to_string()) };
    let body = serde_json::to_vec(&body).ok();
    Ok(Request { method: Method::POST, body, ..Request::to(url, "minting a token") })
}

/// The token that was asked for on behalf of `user`, or of nobody, and the moment of its expiry. One that is somebody
/// else's is refused.
pub(crate) fn read_mint(
    answer: &Answer,
    user: Option<UserId>,
) -> Result<(InstallationToken, Timestamp), Failure> {
    #[derive(Deserialize)]
    struct Wire<'a> {
        token: String,
        expires_at: String,
        /// Null without a user, and absent since 2017.
        #[serde(borrow)]
        on_behalf_of: Option<&'a RawValue>,
    }
    if answer.status == 422 && user.is_some() {
        // Nothing else was asked for that could be refused.
        return Err(failure_of_kind(Kind::UserRefused, answer));
    }
    let wire: Wire<'_> = answer.expect(201)?.json()?;
    let on_behalf_of = wire.on_behalf_of.map(|json| read_user(answer, "on_behalf_of", json)).transpose()?;
    if on_behalf_of.as_ref().map(|who| who.id) != user {
        let what = match user {
            Some(_) => "its token is not on behalf of the user that was asked for",
            None => "its token is on behalf of a user, and none was asked for",
        };
        return Err(answer.distrusted(what));
    }
    let expires = token_response::parse_expires_at(answer, &wire.expires_at)?;
    let secret = token_response::parse_token(answer, wire.token)?;
    let grant = Grant::default();
    let json = SecretBytes::from(answer.body.clone());
    Ok((InstallationToken { secret, expires_at: wire.expires_at, grant, on_behalf_of, json }, expires))
}

/// Nothing here ends a token's life before its time.
pub(crate) fn cannot_revoke() -> Failure {
    let message = "GitHub's Integrations API revokes no tokens: this one lives until its expires_at";
    Failure::new(Kind::Unsupported, message)
}

/// Nothing here says who the app is.
pub(crate) fn cannot_describe_app() -> Failure {
    let message = "GitHub's Integrations API describes no apps: list the installations instead";
    Failure::new(Kind::Unsupported, message)
}

/// Asks who the user is that came by with `nonce`.
pub(crate) fn identify(base: &Url, nonce: &Secret) -> Request {
    #[derive(Serialize)]
    struct Body<'a> {
        nonce: &'a str,
    }
    let body = serde_json::to_vec(&Body { nonce: nonce.expose() }).ok();
    let path = ["integration", "identity", "user"];
    Request { method: Method::POST, body, ..Request::get("asking who the user is", base, &path) }
}

pub(crate) fn read_identity(answer: &Answer) -> Result<Identity, Failure> {
    #[derive(Deserialize)]
    struct Wire<'a> {
        #[serde(borrow)]
        user: &'a RawValue,
        repositories_url: String,
    }
    match answer.status {
        // The page leaves the status of success blank.
        200..=299 => {
            let Wire { user, repositories_url } = answer.json()?;
            Ok(Identity { user: read_user(answer, "user", user)?, repositories_url })
        }
        404 | 422 => {
            let what = "the nonce is unknown, used or expired, or this GitHub does not speak the preview";
            let kind = classify(answer).kind;
            Err(Failure::new(kind, format!("GitHub returned {} when {}: {what}", answer.status, answer.what)))
        }
        _ => Err(classify_unquoted(answer)),
    }
}

/// The failure of an answer that may quote the nonce. One that speaks for the app is remembered, and returned to other callers.
fn classify_unquoted(answer: &Answer) -> Failure {
    let failure = classify(answer);
    let silent = Answer { body: [].as_slice().into(), ..answer.clone() };
    Failure { message: failure_of_kind(failure.kind, &silent).message, ..failure }
}

/// The failure of an identity call: whatever else may be done about it, the same call cannot be made again.
pub(crate) fn with_spent_nonce(failure: &Failure) -> Failure {
    if failure.origin == Origin::Local {
        return failure.clone();
    }
    // None of GitHub's words are quoted: they may quote the nonce, and their advice is to try again.
    let what = match failure.kind {
        Kind::NotFound | Kind::ScopeRefused => "says that the nonce is unknown, used or expired",
        Kind::RateLimited => "limits the app",
        Kind::AppRejected | Kind::Forbidden => "does not accept the app (see `ghtokend check`)",
        Kind::TimedOut => "did not answer in time",
        Kind::Unavailable => "is not there, or broke off",
        _ => "gave an answer that is not trusted",
    };
    let message =
        format!("GitHub {what}; the nonce may be spent: send the user to GitHub again for a new one");
    Failure { retry_after: failure.retry_after, ..Failure::new(failure.kind, message) }
}

fn read_user(answer: &Answer, member: &str, json: &RawValue) -> Result<User, Failure> {
    #[derive(Deserialize)]
    struct Wire {
        id: Id,
    }
    // A list with one item would pass for it.
    let object = json.get().starts_with('{').then(|| serde_json::from_str::<Wire>(json.get()).ok()).flatten();
    let id = object.and_then(|wire| wire.id.number()).and_then(UserId::new);
    let id = id.ok_or_else(|| answer.distrusted(&format!("its {member} is no user with an id")))?;
    Ok(User { id, json: json.get().to_owned() })
}

/// The preview writes ids as numbers where it answers and as strings where it is asked: either is understood.
#[derive(Deserialize)]
#[serde(untagged)]
enum Id {
    Number(u64),
    Text(String),
}

impl Id {
    fn number(&self) -> Option<u64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(text) => {
                text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status, body: body.to_owned().into(), ..Answer::empty("x") }
    }

    fn base() -> Url {
        "https://ghe.example/api/v3".parse().unwrap()
    }

    fn listed(id: &str, login: &str, url: &str) -> Vec<Listed> {
        let body = format!(
            "[{{\"id\":{id},\"account\":{{\"login\":{login:?},\"id\":1}},\"access_tokens_url\":{url:?},\"x\":[]}}]"
        );
        read_installations(&answer(200, &body)).unwrap()
    }

    /// The two answers of the preview's page, shortened.
    const PLAIN: &str =
        r#"{"token":"v1.1f699f1069f60xxx","expires_at":"2016-07-11T22:14:10Z","on_behalf_of":null}"#;
    const OF_2017: &str = r#"{"token":"v1.1f699f1069f60xxx","expires_at":"2017-03-06T23:17:47Z"}"#;

    fn on_behalf_of(json: &str) -> String {
        PLAIN.replace("null", json)
    }

    fn user(id: u64) -> Option<UserId> {
        UserId::new(id)
    }

    #[test]
    fn a_token_is_asked_for_where_the_list_says() {
        let [listed] = &listed("1", "github", "https://ghe.example/api/v3/installations/1/access_tokens")[..]
        else {
            panic!("one installation");
        };
        let body = |user| {
            let request = mint(&base(), listed, user).unwrap();
            assert_eq!(request.url.as_str(), "https://ghe.example/api/v3/installations/1/access_tokens");
            String::from_utf8(request.body.unwrap()).unwrap()
        };
        assert_eq!((body(None), body(user(42))), ("{}".into(), "{\"user_id\":\"42\"}".into()));
    }

    #[test]
    fn the_app_jwt_is_sent_to_no_other_origin() {
        for foreign in [
            "https://evil.example/installations/1/access_tokens",
            "http://ghe.example/installations/1/access_tokens",
            "https://ghe.example:8443/installations/1/access_tokens",
            "//evil.example/x",
            "https://name@ghe.example/x",
            "https://name:word@ghe.example/x",
            "https://ghe.example@evil.example/x",
            "javascript:x",
            "https://",
        ] {
            let failure = mint(&base(), &listed("1", "github", foreign)[0], None).err().unwrap();
            assert_eq!(failure.kind, Kind::BadAnswer, "{foreign}");
        }
        let silent = read_installations(&answer(200, "[{\"id\":1}]")).unwrap();
        assert!(mint(&base(), &silent[0], None).is_err());
    }

    #[test]
    fn installation_found_by_id_or_owner_in_any_case() {
        for id in ["7", "\"7\""] {
            let list = listed(id, "OctoCat", "x");
            let owner = Selector::Owner("octocat".parse().unwrap());
            let by_id = |id| Selector::Id(InstallationId::new(id).unwrap());
            assert!(list[0].is(&owner) && list[0].is(&by_id(7)) && !list[0].is(&by_id(8)), "{id}");
        }
        for id in ["0", "\"\"", "\"+7\"", "-1", "1.5", "null", "\"18446744073709551616\""] {
            let body = format!("[{{\"id\":{id}}}]");
            assert!(read_installations(&answer(200, &body)).is_err(), "{id}");
        }
    }

    #[test]
    fn a_list_that_is_not_there_is_no_empty_list() {
        let failure = read_installations(&answer(404, "{\"message\":\"Not Found\"}")).unwrap_err();
        assert_eq!(failure.kind, Kind::BadAnswer, "{failure}");
    }

    #[test]
    fn a_plain_token_says_so_or_says_nothing() {
        for body in [PLAIN, OF_2017] {
            let (token, _) = read_mint(&answer(201, body), None).unwrap();
            assert_eq!(token.on_behalf_of, None);
            // A plain token may do more than one on behalf of a user.
            let failure = read_mint(&answer(201, body), user(42)).unwrap_err();
            assert_eq!(failure.kind, Kind::BadAnswer, "{failure}");
        }
    }

    #[test]
    fn a_users_token_has_the_user_as_github_wrote_it() {
        for json in
            [r#"{"login":"octocat","id":42,  "x":{"id":7}}"#, r#"{"id":"42","site_admin":false,"big":1e400}"#]
        {
            let body = on_behalf_of(json);
            let (token, _) = read_mint(&answer(201, &body), user(42)).unwrap();
            assert_eq!(token.on_behalf_of.unwrap().json, json);
            for other in [user(7), None] {
                let failure = read_mint(&answer(201, &body), other).unwrap_err();
                assert_eq!(failure.kind, Kind::BadAnswer, "{failure}");
            }
        }
        for json in ["42", "[42]", "{}", "{\"id\":null}", "{\"id\":0}", "{\"id\":\"x\"}", "\"octocat\"", "{"]
        {
            assert!(read_mint(&answer(201, &on_behalf_of(json)), user(42)).is_err(), "{json}");
        }
    }

    #[test]
    fn a_422_is_the_users_only_if_one_was_asked_for() {
        let refused = answer(422, "{\"message\":\"Validation Failed\"}");
        assert_eq!(read_mint(&refused, user(42)).unwrap_err().kind, Kind::UserRefused);
        assert_eq!(read_mint(&refused, None).unwrap_err().kind, Kind::ScopeRefused);
    }

    #[test]
    fn unsupported_requests_are_refused() {
        let narrowed = Scope { permissions: Some([].into()), ..Scope::default() };
        let repository = Selector::Repository("acme".parse().unwrap(), "widgets".parse().unwrap());
        let enterprise = Selector::Enterprise("acme".parse().unwrap());
        for (selector, scope) in [
            (&Selector::Default, &narrowed),
            (&repository, &Scope::default()),
            (&enterprise, &Scope::default()),
        ] {
            assert_eq!(check_supported(selector, scope).unwrap_err().kind, Kind::Unsupported, "{selector:?}");
        }
        assert!(check_supported(&Selector::Default, &Scope::default()).is_ok());
    }

    #[test]
    fn nonce_never_appears_in_an_error() {
        let nonce = Secret::from("abc\"123".to_owned());
        let request = identify(&base(), &nonce);
        assert_eq!(request.url.as_str(), "https://ghe.example/api/v3/integration/identity/user");
        assert_eq!(request.body.as_deref(), Some(&b"{\"nonce\":\"abc\\\"123\"}"[..]));
        for status in [200, 401, 403, 404, 422, 429, 500] {
            let said = format!("{{\"message\":{:?}}}", "no nonce abc\"123 here");
            let failure = with_spent_nonce(&read_identity(&answer(status, &said)).unwrap_err());
            assert!(!failure.message.contains("abc"), "{failure}");
            assert!(
                failure.message.contains("the nonce may be spent: send the user to GitHub again"),
                "{failure}"
            );
        }
    }

    #[test]
    fn an_identity_is_read_whatever_success_is_called() {
        let body = r#"{"user":{"login":"octocat","id":1},"repositories_url":"https://x/r?user_id=1"}"#;
        for status in [200, 201, 203] {
            let identity = read_identity(&answer(status, body)).unwrap();
            assert_eq!(identity.user.json, r#"{"login":"octocat","id":1}"#);
            assert_eq!(
                (Some(identity.user.id), &*identity.repositories_url),
                (user(1), "https://x/r?user_id=1")
            );
        }
        for body in
            ["{}", r#"{"user":null,"repositories_url":""}"#, r#"{"user":{"id":0},"repositories_url":""}"#]
        {
            assert_eq!(read_identity(&answer(200, body)).unwrap_err().kind, Kind::BadAnswer, "{body}");
        }
    }

    fn nearly_json() -> impl Strategy<Value = Vec<u8>> {
        let bytes = proptest::collection::vec(any::<u8>(), 0..200);
        let token = "\\PC{0,20}".prop_map(|text| {
            format!("{{\"token\":{text:?},\"expires_at\":{text:?},\"on_behalf_of\":{{\"id\":{text:?}}}}}")
                .into()
        });
        let list = "[0-9a-z\":{},]{0,40}".prop_map(|text| format!("[{{\"id\":{text}}}]").into());
        prop_oneof![bytes, token, list]
    }

    proptest! {
        #[test]
        fn readers_never_panic(status in 100u16..600, body in nearly_json(), id in any::<u64>()) {
            for status in [status, 200, 201] {
                let answer = Answer { status, body: body.clone().into(), ..Answer::empty("x") };
                let _ = (read_mint(&answer, user(id)), read_mint(&answer, None), read_identity(&answer));
                for listed in read_installations(&answer).unwrap_or_default() {
                    let _ = mint(&base(), &listed, None);
                }
            }
        }
    }
}
