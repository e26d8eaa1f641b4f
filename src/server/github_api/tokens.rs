//! The mint endpoints of both dialects, and `DELETE /installation/token`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::{AUTHORIZATION, HeaderMap};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::super::reply::{Refusal, Reply, json_object};
use super::super::token::{MOST_REPOSITORIES, described};
use super::json;
use crate::broker::{self, Age, TokenRequest, Vended};
use crate::model::{AppName, Dialect, Scope, Secret, Selector};

/// What a body asks for. Both dialects' members are understood in either: what the upstream has no words for, it refuses.
/// No body, `{}` and `{"permissions":{}}` ask for everything, an empty list asks for nothing and is refused.
///
/// <https://docs.github.com/en/rest/apps/apps#create-an-installation-access-token-for-an-app>
pub(super) fn read(app: Option<AppName>, selector: Selector, body: &[u8]) -> Result<TokenRequest, Refusal> {
    #[derive(Default, Deserialize)]
    struct Body {
        repositories: Option<Value>,
        repository_ids: Option<Value>,
        permissions: Option<Value>,
        user_id: Option<Value>,
    }
    let body = match body.trim_ascii() {
        // Go clients without options send `null`.
        b"" | b"null" => Body::default(),
        body => json_object(body).ok_or_else(|| invalid("the body is no JSON object"))?,
    };
    let permissions: Option<BTreeMap<String, String>> =
        member("permissions", body.permissions, "an object such as {\"contents\":\"read\"}")?;
    let permission =
        |(name, level): (String, String)| Ok((item("permissions", &name)?, item("permissions", &level)?));
    let permissions = permissions.filter(|permissions| !permissions.is_empty());
    let permissions =
        permissions.map(|list| list.into_iter().map(permission).collect::<Result<_, Refusal>>());
    let ids: Option<Vec<u64>> = member("repository_ids", body.repository_ids, "a list of numbers")?;
    let ids = ids.map(|ids| ids.into_iter().map(|id| id.to_string()).collect());
    let user = match body.user_id {
        None => None,
        Some(Value::String(id)) => Some(item("user_id", &id)?),
        Some(Value::Number(id)) => Some(item("user_id", &id.to_string())?),
        Some(_) => return Err(invalid("user_id is not the number of a user")),
    };
    let scope = Scope {
        repositories: items("repositories", member("repositories", body.repositories, "a list of names")?)?,
        repository_ids: items("repository_ids", ids)?,
        permissions: permissions.transpose()?,
    };
    Ok(TokenRequest { app, selector, scope: Arc::new(scope), user, age: Age::JustMinted })
}

/// The token, in the words of the dialect that the caller speaks.
pub(super) fn minted(vended: &Vended, dialect: Dialect) -> Result<Reply, Refusal> {
    #[derive(Serialize)]
    struct Preview<'a> {
        token: &'a str,
        expires_at: &'a str,
        on_behalf_of: Option<&'a RawValue>,
    }
    let token = &vended.entry.token;
    let body = match dialect {
        Dialect::Apps => token.json.expose().to_owned(),
        Dialect::Integrations => {
            let user = token.on_behalf_of.as_ref().map(|user| serde_json::from_str(&user.json)).transpose();
            let preview = |on_behalf_of| Preview {
                token: token.secret.expose(),
                expires_at: &token.expires_at,
                on_behalf_of,
            };
            let body = user.and_then(|user| serde_json::to_string(&preview(user)));
            body.map_err(|_| Refusal::from(broker::Error::Crashed))?
        }
    };
    Ok(described(vended, json(StatusCode::CREATED, body)))
}

/// The token that `DELETE /installation/token` is about: it authorises the call itself.
pub(super) fn to_revoke(headers: &HeaderMap) -> Result<Secret, Refusal> {
    let credential = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.split_once(' '));
    let token = credential
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("token"));
    match token.map(|(_, token)| token.trim()) {
        Some(token) if !token.is_empty() => Ok(Secret::from(token.to_owned())),
        _ => Err(invalid("the token to revoke goes into the header Authorization, as Bearer TOKEN")),
    }
}

fn member<T: DeserializeOwned>(name: &str, value: Option<Value>, shape: &str) -> Result<Option<T>, Refusal> {
    let read = value.map(serde_json::from_value).transpose();
    read.map_err(|_| invalid(&format!("{name} is not {shape}")))
}

fn items<T: FromStr<Err: Display> + Ord>(
    name: &str,
    list: Option<Vec<String>>,
) -> Result<Option<BTreeSet<T>>, Refusal> {
    let Some(list) = list else { return Ok(None) };
    if list.is_empty() {
        return Err(invalid(&format!("{name} is an empty list: name some, or leave it out for everything")));
    }
    if list.len() > MOST_REPOSITORIES {
        return Err(invalid(&format!("{name} has over {MOST_REPOSITORIES} items, GitHub's limit")));
    }
    list.iter().map(|text| item(name, text)).collect::<Result<_, _>>().map(Some)
}

fn item<T: FromStr<Err: Display>>(name: &str, text: &str) -> Result<T, Refusal> {
    text.parse().map_err(|error| invalid(&format!("{name}: {error}")))
}

fn invalid(what: &str) -> Refusal {
    Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_request", format!("Validation Failed: {what}"))
}
