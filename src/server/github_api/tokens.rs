//! The mint endpoints of both styles, and `DELETE /installation/token`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::{AUTHORIZATION, HeaderMap};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::super::reply::{ApiError, Reply, json, json_object};
use super::super::route::ApiStyle;
use super::super::token::{MAX_REPOSITORIES, with_token_headers};
use super::object::Object;
use crate::broker::{self, Requirement, TokenRequest, Vended};
use crate::model::{AppName, ErrorCode, Level, Permission, Scope, Secret, Selector};

/// What a body asks for. The members of both styles are understood in either: what the upstream
/// does not support, it refuses.
/// No body, `{}` and `{"permissions":{}}` ask for everything, an empty list asks for nothing and is refused.
///
/// <https://docs.github.com/en/rest/apps/apps#create-an-installation-access-token-for-an-app>
pub(super) fn read(app: Option<AppName>, selector: Selector, body: &[u8]) -> Result<TokenRequest, ApiError> {
    #[derive(Default, Deserialize)]
    struct Body<'a> {
        #[serde(borrow)]
        repositories: Option<&'a RawValue>,
        #[serde(borrow)]
        repository_ids: Option<&'a RawValue>,
        #[serde(borrow)]
        permissions: Option<&'a RawValue>,
        user_id: Option<Value>,
    }
    let body = match body.trim_ascii() {
        // Go clients without options send `null`.
        b"" | b"null" => Body::default(),
        body => {
            json_object(body).ok_or_else(|| invalid("the body is no JSON object with each member once"))?
        }
    };
    let names = member("repositories", body.repositories, "a list of names")?;
    let ids: Option<Vec<u64>> = member("repository_ids", body.repository_ids, "a list of numbers")?;
    let ids = ids.map(|ids| ids.into_iter().map(|id| id.to_string()).collect());
    let user = match body.user_id {
        None => None,
        Some(Value::String(id)) => Some(item("user_id", &id)?),
        Some(Value::Number(id)) => Some(item("user_id", &id.to_string())?),
        Some(_) => return Err(invalid("user_id is not the number of a user")),
    };
    let scope = Scope {
        repositories: items("repositories", names)?,
        repository_ids: items("repository_ids", ids)?,
        permissions: permissions(body.permissions)?,
    };
    Ok(TokenRequest { app, selector, scope: Arc::new(scope), user, age: Requirement::RecentlyMinted })
}

/// The token, in the style that the caller speaks.
pub(super) fn minted(vended: &Vended, style: ApiStyle) -> Result<Reply, ApiError> {
    #[derive(Serialize)]
    struct Preview<'a> {
        token: &'a str,
        expires_at: &'a str,
        on_behalf_of: Option<&'a RawValue>,
    }
    let token = &vended.entry.token;
    let body = match style {
        ApiStyle::Apps => token.json.expose().clone(),
        ApiStyle::Preview => {
            let user = token.on_behalf_of.as_ref().map(|user| serde_json::from_str(&user.json)).transpose();
            let preview = |on_behalf_of| Preview {
                token: token.secret.expose(),
                expires_at: &token.expires_at,
                on_behalf_of,
            };
            let body = user.and_then(|user| serde_json::to_vec(&preview(user)));
            body.map_err(|_| ApiError::from(broker::Error::Internal))?.into()
        }
    };
    Ok(with_token_headers(vended, json(StatusCode::CREATED, body)))
}

/// The token that `DELETE /installation/token` is about: it authorises the call itself.
pub(super) fn to_revoke(headers: &HeaderMap) -> Result<Secret, ApiError> {
    let credential = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.split_once(' '));
    let token = credential
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("token"));
    match token.map(|(_, token)| token.trim()) {
        Some(token) if !token.is_empty() => Ok(Secret::from(token.to_owned())),
        _ => Err(invalid("the token to revoke goes into the header Authorization, as Bearer TOKEN")),
    }
}

fn permissions(json: Option<&RawValue>) -> Result<Option<BTreeMap<Permission, Level>>, ApiError> {
    let shape = "an object such as {\"contents\":\"read\"}";
    let Some(asked) = member::<Object<'_>>("permissions", json, shape)? else { return Ok(None) };
    let mut permissions = BTreeMap::new();
    for (name, level) in asked.members() {
        let level: String = member("permissions", Some(level), shape)?.unwrap_or_default();
        let (name, level): (Permission, Level) = (item("permissions", name)?, item("permissions", &level)?);
        if permissions.insert(name.clone(), level).is_some() {
            return Err(invalid(&format!("permissions names {name} twice: send it once")));
        }
    }
    // GitHub takes an empty object for none.
    Ok(Some(permissions).filter(|permissions| !permissions.is_empty()))
}

fn member<'a, T: Deserialize<'a>>(
    name: &str,
    json: Option<&'a RawValue>,
    shape: &str,
) -> Result<Option<T>, ApiError> {
    let read = json.map(|json| serde_json::from_str(json.get())).transpose();
    read.map_err(|_| invalid(&format!("{name} is not {shape}")))
}

fn items<T: FromStr<Err: Display> + Ord>(
    name: &str,
    list: Option<Vec<String>>,
) -> Result<Option<BTreeSet<T>>, ApiError> {
    let Some(list) = list else { return Ok(None) };
    if list.is_empty() {
        return Err(invalid(&format!("{name} is an empty list: name some, or leave it out for everything")));
    }
    if list.len() > MAX_REPOSITORIES {
        return Err(invalid(&format!("{name} has over {MAX_REPOSITORIES} items, GitHub's limit")));
    }
    list.iter().map(|text| item(name, text)).collect::<Result<_, _>>().map(Some)
}

fn item<T: FromStr<Err: Display>>(name: &str, text: &str) -> Result<T, ApiError> {
    text.parse().map_err(|error| invalid(&format!("{name}: {error}")))
}

fn invalid(what: &str) -> ApiError {
    ApiError::with_status(
        StatusCode::UNPROCESSABLE_ENTITY,
        ErrorCode::InvalidRequest,
        format!("Validation Failed: {what}"),
    )
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderMap;
    use proptest::prelude::*;

    use super::*;
    use crate::server::token;

    /// What a caller means, whichever way it says it.
    #[derive(Debug, Clone, PartialEq, Eq)]
    struct Asked {
        app: Option<&'static str>,
        installation: u64,
        repositories: BTreeSet<String>,
        ids: BTreeSet<u64>,
        permissions: BTreeMap<String, &'static str>,
        user: Option<u64>,
    }

    fn asked() -> impl Strategy<Value = Asked> {
        let names = proptest::collection::btree_set("[ab.]{2,3}", 0..3);
        let names = names.prop_filter("names that mean a directory", |names| !names.contains(".."));
        let ids = proptest::collection::btree_set(1..4_u64, 0..3);
        let levels = prop_oneof![Just("read"), Just("write"), Just("admin")];
        let permissions = proptest::collection::btree_map("[ab]{1,2}", levels, 0..3);
        let app = proptest::option::of(prop_oneof![Just("a"), Just("b")]);
        let parts = (app, 1..3_u64, names, ids, permissions, proptest::option::of(1..4_u64));
        parts.prop_map(|(app, installation, repositories, ids, permissions, user)| Asked {
            app,
            installation,
            repositories,
            ids,
            permissions,
            user,
        })
    }

    fn cased(text: &str, upper: bool) -> String {
        if upper { text.to_ascii_uppercase() } else { text.to_owned() }
    }

    fn ordered<T>(items: impl DoubleEndedIterator<Item = T>, reversed: bool) -> Vec<T> {
        if reversed { items.rev().collect() } else { items.collect() }
    }

    impl Asked {
        fn in_a_query(&self, upper: bool, reversed: bool) -> TokenRequest {
            let join = |items: Vec<String>| items.join(",");
            let mut parts = vec![format!("installation={}", self.installation)];
            parts.extend(self.app.map(|app| format!("app={app}")));
            let names = ordered(self.repositories.iter().map(|name| cased(name, upper)), reversed);
            let ids = ordered(self.ids.iter().map(u64::to_string), reversed);
            let permission = |(name, level): (&String, &&str)| cased(&format!("{name}:{level}"), upper);
            let permissions = ordered(self.permissions.iter().map(permission), reversed);
            for (name, items) in
                [("repositories", names), ("repository_ids", ids), ("permissions", permissions)]
            {
                parts.extend((!items.is_empty()).then(|| format!("{name}={}", join(items))));
            }
            parts.extend(self.user.map(|user| format!("user={user}")));
            let query = ordered(parts.into_iter(), reversed).join("&");
            token::read(&query, &HeaderMap::new()).unwrap()
        }

        fn in_a_body(&self, upper: bool, reversed: bool) -> TokenRequest {
            let names = ordered(self.repositories.iter().map(|name| cased(name, upper)), reversed);
            let ids = ordered(self.ids.iter().copied(), reversed);
            let permission =
                |(name, level): (&String, &&str)| (cased(name, upper), Value::from(cased(level, upper)));
            let permissions = ordered(self.permissions.iter().map(permission), reversed);
            let mut members = serde_json::Map::new();
            if !names.is_empty() {
                members.insert("repositories".into(), names.into());
            }
            if !ids.is_empty() {
                members.insert("repository_ids".into(), ids.into());
            }
            members.insert("permissions".into(), Value::Object(permissions.into_iter().collect()));
            if let Some(user) = self.user {
                let user = if upper { Value::from(user) } else { Value::from(user.to_string()) };
                members.insert("user_id".into(), user);
            }
            let selector = Selector::Id(self.installation.to_string().parse().unwrap());
            read(
                self.app.map(|app| app.parse().unwrap()),
                selector,
                Value::Object(members).to_string().as_bytes(),
            )
            .unwrap()
        }
    }

    proptest! {
        #[test]
        fn body_order_or_case_does_not_change_the_key(
            one in asked(), other in asked(), upper: bool, reversed: bool,
        ) {
            let plain = one.in_a_query(false, false);
            prop_assert_eq!(&plain, &one.in_a_query(upper, reversed));
            let of_any_age = TokenRequest { age: Requirement::Any, ..one.in_a_body(upper, reversed) };
            prop_assert_eq!(&plain, &of_any_age);
            prop_assert_eq!(plain == other.in_a_query(upper, reversed), one == other);
        }

        #[test]
        fn no_body_makes_the_reader_panic(body in proptest::collection::vec(any::<u8>(), 0..60), text in "[\\[\\]{}\":,a-z0-9]{0,40}") {
            for body in [body, text.clone().into_bytes(), format!("{{\"permissions\":{text}}}").into_bytes()] {
                let _ = read(None, Selector::Default, &body);
            }
        }
    }
}
