//! Reading URLs.

use url::{Host, Url};

use super::error::{Error, quote};
use super::types::{Proxy, has_userinfo};
use super::values::Item;

/// The base of an API or a web host: no trailing slash; plain HTTP on loopback only.
fn base(item: Item<'_>) -> Result<Url, Error> {
    let text = item.text()?;
    let mut url = http(text).ok_or_else(|| {
        item.error(format!("{} is not a URL such as https://github.example.com", quote(text)))
    })?;
    if has_userinfo(&url) {
        return Err(item.error("has a user or password in it: apps authenticate by their private key"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(item.error("has a query or fragment: a base URL ends with its path"));
    }
    if url.scheme() == "http" && !is_loopback(&url) {
        let problem =
            "is http://, which would send tokens in the clear: use https:// (http:// is for loopback)";
        return Err(item.error(problem));
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Ok(url)
}

/// The base of the API. Refuses the web host, which is easily taken for it.
pub(super) fn api(item: Item<'_>) -> Result<Url, Error> {
    let url = base(item)?;
    if url.host_str() == Some("github.com") {
        return Err(item.error("is the web host: the API of github.com is https://api.github.com"));
    }
    Ok(url)
}

/// An HTTP or HTTPS proxy. Its URL is never shown.
pub(super) fn proxy(item: Item<'_>) -> Result<Option<Proxy>, Error> {
    let Some(text) = item.non_empty()? else { return Ok(None) };
    let plain = |url: &Url| url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let url = http(text).filter(plain);
    let url = url.ok_or_else(|| item.error("is not a proxy's URL such as http://proxy.example.com:3128"))?;
    Ok(Some(Proxy::new(url)))
}

/// The base of the web host; if none is set, the one that belongs to the API.
pub(super) fn web(item: Item<'_>, api: &Url) -> Result<Url, Error> {
    match item.non_empty()? {
        Some(_) => base(item),
        None => Ok(web_of(api)),
    }
}

/// The web host that belongs to an API: `api.github.com` → `github.com`, `HOST/api/v3` → `HOST`,
/// `api.SUB.ghe.com` → `SUB.ghe.com`, else the API's own origin.
fn web_of(api: &Url) -> Url {
    let mut web = api.clone();
    web.set_path("");
    let host = api.host_str().unwrap_or_default();
    let without_api =
        host.strip_prefix("api.").filter(|rest| *rest == "github.com" || rest.ends_with(".ghe.com"));
    if without_api.is_some() {
        // Cannot fail: the rest of a valid name is one.
        let _ = web.set_host(without_api);
    }
    web
}

fn http(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let slashes = text.split_once(':').is_some_and(|(_, rest)| rest.starts_with("//"));
    (slashes && matches!(url.scheme(), "http" | "https") && url.host().is_some()).then_some(url)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}
