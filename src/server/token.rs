//! `GET /token`: the query becomes a request to the broker, the broker's token an answer.

use std::sync::Arc;

use bytes::Bytes;
use hyper::header::{ACCEPT, CACHE_CONTROL, HeaderMap, HeaderName, HeaderValue};

use super::reply::{ApiError, Format, NO_STORE, Reply, ok};
use crate::api;
use crate::broker::{Bodies, Requirement, TokenRequest, Vended};
use crate::model::token_parameters::{Source, nearest};
use crate::model::{AppName, InstallationId, InstallationToken, ParameterError, TokenParameters};

/// Reads the query string and the headers of `GET /token`.
pub(super) fn read(query: &str, headers: &HeaderMap) -> Result<TokenRequest, ApiError> {
    let parameters = parameters(query)?;
    let app = match (parameters.app, header_app(headers)?) {
        (Some(query), Some(header)) if query != header => {
            return Err(ApiError::invalid(
                "app= and the header Ghtokend-App name different apps: send one of them",
            ));
        }
        (query, header) => query.or(header),
    };
    Ok(TokenRequest {
        app,
        selector: parameters.selector,
        scope: Arc::new(parameters.scope),
        user: parameters.user,
        requirement: parameters.min_ttl.map_or(Requirement::Any, Requirement::MinTtl),
    })
}

/// The format of the answer: `format=`, else what `Accept` prefers. Never fails, so that an error has a format.
pub(super) fn format(query: &str, headers: &HeaderMap) -> Format {
    let requested = url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == FORMAT);
    match requested.as_ref().map(|(_, value)| value.as_ref()) {
        Some("text") => Format::Text,
        Some(_) => Format::Json,
        None if prefers_text(headers) => Format::Text,
        None => Format::Json,
    }
}

/// The answer of `GET /token`.
pub(super) fn answer(vended: &Vended, format: Format) -> Reply {
    let bodies = &vended.entry.bodies;
    let body = match format {
        Format::Json => bodies.json.clone(),
        Format::Text => bodies.text.clone(),
    };
    with_token_headers(vended, ok(format, body))
}

/// An answer that carries a token, with the headers that say how long it is good.
pub(super) fn with_token_headers(vended: &Vended, mut reply: Reply) -> Reply {
    let headers = reply.headers_mut();
    headers.insert(CACHE_CONTROL, NO_STORE);
    headers.insert(STATE, HeaderValue::from_static(vended.state.as_str()));
    if let Ok(expires_at) = HeaderValue::from_str(&vended.entry.token.expires_at) {
        headers.insert(EXPIRES_AT, expires_at);
    }
    reply
}

/// How a token looks on the wire: rendered once, when it is minted.
pub fn render(installation: InstallationId, account: Option<&str>, token: &InstallationToken) -> Bodies {
    let grant = &token.grant;
    let secret = token.secret.expose();
    let names = |list: &'_ Vec<(_, String)>| list.iter().map(|(_, name)| name.clone()).collect::<Vec<_>>();
    let repositories = grant.repositories.as_ref().map(names);
    let body = api::Token {
        token: secret,
        expires_at: &token.expires_at,
        installation_id: installation.get(),
        account,
        permissions: grant.permissions.as_ref(),
        repository_selection: grant.repository_selection.as_deref(),
        repositories: repositories.as_ref().map(|names| names.iter().map(String::as_str).collect()),
        // GitHub's own object was read once: it is JSON.
        on_behalf_of: token.on_behalf_of.as_ref().and_then(|user| serde_json::from_str(&user.json).ok()),
    };
    let mut json = serde_json::to_vec(&body).unwrap_or_default();
    json.push(b'\n');
    Bodies { json: json.into(), text: Bytes::from(format!("{secret}\n")) }
}

/// The query, each parameter at most once and none empty.
fn parameters(query: &str) -> Result<TokenParameters, ApiError> {
    let mut parameters = TokenParameters::default();
    let mut format = None;
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match Source::Query.parameter(&name) {
            Some(parameter) => parameters.set(parameter, &value).map_err(in_query)?,
            None if name == FORMAT && format.is_none() => format = Some(value),
            None if name == FORMAT => {
                return Err(ApiError::invalid("parameter format is duplicated: send it once"));
            }
            None => return Err(unknown(&name)),
        }
    }
    match format.as_deref() {
        None | Some("json" | "text") => parameters.finish().map_err(in_query),
        Some(_) => Err(ApiError::invalid("parameter format: json and text are allowed")),
    }
}

fn in_query(error: ParameterError) -> ApiError {
    ApiError::invalid(match &error {
        ParameterError::Value { parameter, .. } => format!("parameter {}", error.about(parameter)),
        ParameterError::Conflict { .. } => format!("parameters {}", error.about("")),
    })
}

fn unknown(name: &str) -> ApiError {
    let names = || Source::Query.parameters().map(|parameter| parameter.name).chain([FORMAT]);
    let nearest = nearest(name, names()).map(|nearest| format!(" (did you mean {nearest:?}?)"));
    let name: String = name.chars().take(MAX_QUOTE_CHARS).collect();
    ApiError::invalid(format!(
        "unknown parameter {name:?}{}; expected one of {}",
        nearest.unwrap_or_default(),
        names().collect::<Vec<_>>().join(", ")
    ))
}

pub(super) fn header_app(headers: &HeaderMap) -> Result<Option<AppName>, ApiError> {
    let mut values = headers.get_all("ghtokend-app").iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(ApiError::invalid("header Ghtokend-App is duplicated: send it once"));
    }
    let name = value.to_str().unwrap_or_default().parse();
    name.map(Some).map_err(|error| ApiError::invalid(format!("header Ghtokend-App: {error}")))
}

/// Whether `text/plain` is preferred to JSON and to anything.
fn prefers_text(headers: &HeaderMap) -> bool {
    let (mut text, mut json, mut anything) = (0.0, None, 0.0);
    for range in headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
    {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default().to_ascii_lowercase();
        let quality = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f32>().ok()).unwrap_or(1.0);
        match media.as_str() {
            "text/plain" | "text/*" => text = f32::max(text, quality),
            "application/json" => json = Some(quality),
            "application/*" => json = json.or(Some(quality)),
            "*/*" => anything = quality,
            _ => {}
        }
    }
    text > json.unwrap_or(anything) && text > anything
}

/// The parameter for the format of the answer: it says nothing of the token.
const FORMAT: &str = "format";
const MAX_QUOTE_CHARS: usize = 60;
const STATE: HeaderName = HeaderName::from_static("ghtokend-token-state");
const EXPIRES_AT: HeaderName = HeaderName::from_static("ghtokend-token-expires-at");

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn request(query: &str) -> Result<TokenRequest, String> {
        read(query, &HeaderMap::new()).map_err(|error| error.message)
    }

    #[test]
    fn query_order_or_case_does_not_change_the_request() {
        let one = request("owner=Acme&repositories=b,A&permissions=contents:read,issues:WRITE").unwrap();
        let other = request("permissions=Issues:write,contents:read&repositories=a,B,b&owner=acme").unwrap();
        assert_eq!(one, other);
        let repo = request("repo=Acme%2FWidgets").unwrap();
        assert_eq!(repo.scope.repositories, Some([("widgets".parse()).unwrap()].into()));
    }

    #[test]
    fn bad_query_error_names_the_fault() {
        for (query, expected) in [
            ("x=1", "unknown parameter \"x\"; expected one of installation, owner, repo"),
            (
                "ownr=1",
                "unknown parameter \"ownr\" (did you mean \"owner\"?); expected one of installation, owner",
            ),
            ("owner=", "parameter owner is empty"),
            ("owner=a&owner=b", "parameter owner is duplicated"),
            ("owner=a&installation=1", "parameters owner and installation each name an installation"),
            ("owner=a/b", "parameter owner: \"a/b\" is not a GitHub login"),
            ("owner=..%2f..", "parameter owner: \"../..\" is not a GitHub login"),
            ("installation=one", "parameter installation: \"one\" is not an installation id"),
            ("installation=0", "parameter installation: \"0\" is not an installation id"),
            ("repo=acme", "parameter repo: \"acme\" is not a repository: use OWNER/NAME, as acme/widgets"),
            ("repo=acme/x/y", "parameter repo: \"x/y\" is not a repository name"),
            ("repo=acme/x&repositories=y", "parameter repo already narrows the token"),
            ("repositories=a,,b", "parameter repositories: an item is empty"),
            ("repositories=a,", "parameter repositories: an item is empty"),
            ("repository_ids=x", "parameter repository_ids: \"x\" is not a repository id"),
            (
                "permissions=contents",
                "parameter permissions: \"contents\" is not a permission with its level: use NAME:LEVEL",
            ),
            (
                "permissions=contents:own",
                "parameter permissions: \"own\" is not a permission level: use read, write",
            ),
            ("permissions=a-b:read", "parameter permissions: \"a-b\" is not a permission"),
            ("permissions=a:read,a:write", "parameter permissions: a is named twice"),
            ("permissions=", "parameter permissions is empty"),
            ("user=octocat", "parameter user: \"octocat\" is not a user id"),
            ("min_ttl=soon", "parameter min_ttl: \"soon\" is not a duration: use a number of seconds"),
            ("min_ttl=-5", "parameter min_ttl: \"-5\" is not a duration"),
            ("min_ttl=-5m", "parameter min_ttl: \"-5m\" is not a duration"),
            ("min_ttl=1.5", "parameter min_ttl: \"1.5\" is not a duration"),
            ("min_ttl=99999999999999999999", "parameter min_ttl: \"99999999999999999999\" is not a duration"),
            ("app=No", "parameter app: \"No\" is not an app's name"),
            ("format=xml", "parameter format: json and text are allowed"),
        ] {
            let message = request(query).unwrap_err();
            assert!(message.starts_with(expected), "{query}: {message}");
        }
        let many = |n| request(&format!("repository_ids={}", vec!["7"; n].join(",")));
        assert!(many(500).is_ok());
        assert!(many(501).unwrap_err().contains("over 500 items"));
    }

    #[test]
    fn min_ttl_is_seconds_or_a_duration() {
        for (value, seconds) in [("0", 0), ("1800", 1800), ("30m", 1800), ("1h30m", 5400), ("90s", 90)] {
            let requirement = request(&format!("min_ttl={value}")).map(|request| request.requirement);
            assert_eq!(requirement, Ok(Requirement::MinTtl(Duration::from_secs(seconds))), "{value}");
        }
        assert_eq!(request("").map(|request| request.requirement), Ok(Requirement::Any));
    }

    #[test]
    fn text_is_served_when_accept_prefers_it() {
        let format_of = |accept: &str| {
            let accept = HeaderValue::from_str(accept).unwrap();
            format("", &HeaderMap::from_iter([(ACCEPT, accept)]))
        };
        for accept in ["text/plain", "text/plain, */*;q=0.1", "application/json;q=0.5, text/plain"] {
            assert_eq!(format_of(accept), Format::Text, "{accept}");
        }
        for accept in ["*/*", "application/json, text/plain, */*", "text/html", "text/plain;q=0.5, */*", ""] {
            assert_eq!(format_of(accept), Format::Json, "{accept}");
        }
        assert_eq!(format("format=text", &HeaderMap::new()), Format::Text);
    }
}
