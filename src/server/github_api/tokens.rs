//! The mint endpoints of both styles, and `DELETE /installation/token`.

use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::{AUTHORIZATION, HeaderMap};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::object::Object;
use crate::broker::{self, Requirement, TokenRequest, Vended};
use crate::model::token_parameters::{Kind, PARAMETERS, Parameter};
use crate::model::{AppName, ErrorCode, Secret, Selector, TokenParameters};
use crate::server::reply::{ApiError, Reply, json, json_object};
use crate::server::route::ApiStyle;
use crate::server::token::with_token_headers;

/// The token that a body asks for. The members of both styles are understood in either: what the upstream does not
/// support, it refuses. No body, `{}` and `{"permissions":{}}` ask for everything, an empty list asks for nothing and is
/// refused. Members that are not known are ignored, as GitHub does.
///
/// <https://docs.github.com/en/rest/apps/apps#create-an-installation-access-token-for-an-app>
pub(super) fn read(app: Option<AppName>, selector: Selector, body: &[u8]) -> Result<TokenRequest, ApiError> {
    let mut parameters = TokenParameters::default();
    if let Some(body) = object(body)? {
        for (name, value) in body.members() {
            let Some(parameter) = PARAMETERS.iter().find(|parameter| parameter.member == Some(name)) else {
                continue;
            };
            if body.members().filter(|(other, _)| *other == name).count() > 1 {
                return Err(invalid("the body is no JSON object with each member once"));
            }
            if value.get() != "null" {
                set(&mut parameters, parameter, (name, value))?;
            }
        }
    }
    let TokenParameters { scope, user, .. } = parameters;
    Ok(TokenRequest { app, selector, scope: Arc::new(scope), user, requirement: Requirement::RecentlyMinted })
}

fn object(body: &[u8]) -> Result<Option<Object<'_>>, ApiError> {
    match body.trim_ascii() {
        // Go clients without options send `null`.
        b"" | b"null" => Ok(None),
        body => json_object(body).map(Some).ok_or_else(|| invalid("the body is no JSON object")),
    }
}

fn set(
    parameters: &mut TokenParameters,
    parameter: &'static Parameter,
    (name, value): (&str, &RawValue),
) -> Result<(), ApiError> {
    let not = |shape: &str| invalid(&format!("{name} is not {shape}"));
    let numbers = |numbers: Vec<u64>| numbers.into_iter().map(|number| number.to_string()).collect();
    let items: Vec<String> = match parameter.kind {
        Kind::Names(_) => read_as(value).ok_or_else(|| not("a list of names"))?,
        Kind::Numbers(_) => read_as(value).map(numbers).ok_or_else(|| not("a list of numbers"))?,
        Kind::Pairs(_) => pairs(value).ok_or_else(|| not("an object such as {\"contents\":\"read\"}"))?,
        Kind::Selector(_) | Kind::Single(_) => match read_as(value) {
            Some(Value::String(text)) => vec![text],
            Some(Value::Number(number)) => vec![number.to_string()],
            _ => return Err(not("a number")),
        },
    };
    // GitHub takes an empty object for none.
    if items.is_empty() && matches!(parameter.kind, Kind::Pairs(_)) {
        return Ok(());
    }
    let items = items.iter().map(String::as_str);
    parameters.set_items(parameter, items).map_err(|error| invalid(&error.about(name)))
}

fn pairs(json: &RawValue) -> Option<Vec<String>> {
    let object: Object<'_> = read_as(json)?;
    let pair = |(name, level)| Some(format!("{name}:{}", read_as::<String>(level)?));
    object.members().map(pair).collect()
}

fn read_as<'a, T: Deserialize<'a>>(json: &'a RawValue) -> Option<T> {
    serde_json::from_str(json.get()).ok()
}

/// The token, in the style that the caller speaks.
pub(super) fn reply(vended: &Vended, style: ApiStyle) -> Result<Reply, ApiError> {
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

/// The token that `DELETE /installation/token` ends: the one that authorises the call.
pub(super) fn revoked_token(headers: &HeaderMap) -> Result<Secret, ApiError> {
    let credential = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.split_once(' '));
    let token = credential
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("token"));
    match token.map(|(_, token)| token.trim()) {
        Some(token) if !token.is_empty() => Ok(Secret::from(token.to_owned())),
        _ => Err(invalid("the token to revoke goes into the header Authorization, as Bearer TOKEN")),
    }
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
    use std::collections::{BTreeMap, BTreeSet};

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
            let of_any_age = TokenRequest { requirement: Requirement::Any, ..one.in_a_body(upper, reversed) };
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
