//! `GET /app/installations`, `GET /integration/installations` and the look-ups: GitHub's objects, in which
//! `access_tokens_url` leads here.

use hyper::Uri;
use hyper::header::{HeaderValue, LINK};

use super::base_url::BaseUrl;
use super::object::Object;
use crate::broker::{self, InstallationPage, Page};
use crate::model::Installation;
use crate::server::reply::{ApiError, Reply, json};
use crate::server::route::ApiStyle;

/// The page that a query asks for. As at GitHub, what is no number counts as not there, and a page is no longer than
/// 100.
pub(super) fn page(query: &str) -> Page {
    Page {
        number: number(query, "page").unwrap_or(1),
        size: number(query, "per_page").unwrap_or(DEFAULT_PAGE_SIZE).min(MAX_PAGE_SIZE),
    }
}

/// A page of the list, for a caller that speaks in this style.
pub(super) fn list(
    base: &BaseUrl,
    uri: &Uri,
    found: &InstallationPage,
    style: ApiStyle,
) -> Result<Reply, ApiError> {
    let objects: Result<Vec<_>, _> =
        found.installations.iter().map(|installation| rewrite_urls(base, installation, style)).collect();
    let mut reply = json(hyper::StatusCode::OK, format!("[{}]", objects?.join(",")));
    let link = link(&base.of_path(uri.path()), uri.query().unwrap_or_default(), found);
    if let Some(link) = link.and_then(|link| HeaderValue::from_str(&link).ok()) {
        reply.headers_mut().insert(LINK, link);
    }
    Ok(reply)
}

/// One installation.
pub(super) fn one(base: &BaseUrl, installation: &Installation) -> Result<Reply, ApiError> {
    Ok(json(hyper::StatusCode::OK, rewrite_urls(base, installation, ApiStyle::Apps)?))
}

/// GitHub's object, with the place where its tokens are minted moved here.
fn rewrite_urls(base: &BaseUrl, installation: &Installation, style: ApiStyle) -> Result<String, ApiError> {
    let id = installation.id;
    let url = match style {
        ApiStyle::Apps => base.api(&format!("/app/installations/{id}/access_tokens")),
        ApiStyle::Preview => base.api(&format!("/installations/{id}/access_tokens")),
    };
    let rewritten = serde_json::value::to_raw_value(&url).and_then(|url| {
        let mut object: Object<'_> = serde_json::from_str(&installation.json)?;
        for (name, value) in object.members_mut() {
            if name == "access_tokens_url" {
                *value = &url;
            }
        }
        serde_json::to_string(&object)
    });
    // It was read as an object before.
    rewritten.map_err(|_| broker::Error::Internal.into())
}

/// `Link` in GitHub's order: prev, next, last, first. There is none if everything is on one page.
///
/// <https://docs.github.com/en/rest/using-the-rest-api/using-pagination-in-the-rest-api>
fn link(url: &str, query: &str, found: &InstallationPage) -> Option<String> {
    let Page { number: this, .. } = page(query);
    let mut links = Vec::new();
    if this > 1 {
        links.push(("prev", found.last.map_or(this - 1, |last| last.min(this - 1))));
    }
    if found.more {
        links.push(("next", this.saturating_add(1)));
        links.extend(found.last.map(|last| ("last", last)));
    }
    if this > 1 {
        links.push(("first", 1));
    }
    let size = number(query, "per_page")
        .map_or_else(String::new, |size| format!("per_page={}&", size.min(MAX_PAGE_SIZE)));
    let links: Vec<_> = links
        .iter()
        .map(|(relation, page)| format!("<{url}?{size}page={page}>; rel=\"{relation}\""))
        .collect();
    (!links.is_empty()).then(|| links.join(", "))
}

/// A parameter that is a number from 1 on.
fn number(query: &str, name: &str) -> Option<u64> {
    let (_, value) = url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name)?;
    value.parse().ok().filter(|number| *number > 0)
}

const DEFAULT_PAGE_SIZE: u64 = 30;
const MAX_PAGE_SIZE: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn linked(query: &str, more: bool, last: Option<u64>) -> Option<String> {
        link("http://h/l", query, &InstallationPage { installations: Vec::new(), more, last })
    }

    #[test]
    fn page_query_is_clamped() {
        for (query, number, size) in [
            ("", 1, 30),
            ("per_page=1&page=7", 7, 1),
            ("per_page=1000", 1, 100),
            ("per_page=0&page=0", 1, 30),
            ("page=-1&per_page=x", 1, 30),
            ("since=2016&page=2", 2, 30),
        ] {
            assert_eq!(page(query), Page { number, size }, "{query}");
        }
    }

    #[test]
    fn links_are_githubs() {
        assert_eq!(linked("", false, Some(1)), None);
        // As on the page of 2016.
        let first = "<http://h/l?page=2>; rel=\"next\", <http://h/l?page=5>; rel=\"last\"";
        assert_eq!(linked("", true, Some(5)).as_deref(), Some(first));
        let next = "<http://h/l?per_page=1&page=2>; rel=\"next\"";
        assert_eq!(linked("per_page=1&since=x", true, None).as_deref(), Some(next));
        // As recorded in 2024: https://github.com/octokit/octokit.rb/tree/main/spec/cassettes
        let last =
            "<http://h/l?per_page=1&page=1>; rel=\"prev\", <http://h/l?per_page=1&page=1>; rel=\"first\"";
        assert_eq!(linked("per_page=1&page=2", false, Some(2)).as_deref(), Some(last));
        let middle = linked("page=2", true, Some(3)).unwrap();
        let order: Vec<_> =
            middle.split("rel=").skip(1).map(|rest| rest.split('"').nth(1).unwrap()).collect();
        assert_eq!(order, ["prev", "next", "last", "first"]);
        assert!(linked("page=99", false, Some(3)).unwrap().starts_with("<http://h/l?page=3>; rel=\"prev\""));
    }

    #[test]
    fn object_is_unchanged_except_access_tokens_url() {
        let json = r#"{"z":1.50,"a":{"access_tokens_url":"x"},"big":12345678901234567890123,"access_tokens_url":"https://g/x","é":null}"#;
        let installation = Installation {
            id: "7".parse().unwrap(),
            account: None,
            permissions: [].into(),
            suspended: false,
            json: json.into(),
        };
        let base = BaseUrl { origin: "http://h".into(), prefix: "/api/v3" };
        for (style, path) in
            [(ApiStyle::Apps, "/app/installations/7"), (ApiStyle::Preview, "/installations/7")]
        {
            let url = format!("http://h/api/v3{path}/access_tokens");
            assert_eq!(rewrite_urls(&base, &installation, style).unwrap(), json.replace("https://g/x", &url));
        }
    }
}
