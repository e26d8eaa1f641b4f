//! Request guards against CSRF, SSRF and DNS rebinding. Pure: a request's head goes in, an error comes out.
//!
//! Loopback is no boundary: a web page, an SSRF in an app, a forwarding proxy reach it too. Such a request cannot have
//! the client header, or it has a header by which it is recognised.

use hyper::header::{
    CONNECTION, COOKIE, FORWARDED, HOST, HeaderMap, HeaderName, ORIGIN, REFERER, UPGRADE, VIA,
};
use hyper::{Method, StatusCode, Uri};

use super::reply::ApiError;
use super::route::Endpoint;
use crate::caller::{self, Peer};
use crate::model::ErrorCode;

/// What is accepted beyond the defaults.
#[derive(Debug, Clone)]
pub struct Guard {
    /// Further values of `Host`, in lower case, with or without port.
    pub allowed_hosts: Vec<String>,
    /// Whether a TCP request must carry a client header.
    pub require_client_header: bool,
}

/// Refuses what no honest HTTP/1.1 client sends, on any listener.
pub(super) fn check_well_formed(method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
    let head = uri.to_string().len()
        + headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>();
    if head > MAX_HEAD_BYTES || headers.len() > MAX_HEADERS {
        let message =
            "the request's head is over 16 KiB or 100 headers: send fewer headers and a shorter query";
        return Err(ApiError::with_status(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            ErrorCode::TooLarge,
            message,
        ));
    }
    if *method == Method::CONNECT {
        let message = "this is no proxy: send GET /token";
        let error = ApiError::new(ErrorCode::MethodNotAllowed, message);
        return Err(ApiError { allow: Some("GET, HEAD"), ..error });
    }
    if uri.authority().is_some() || !uri.path().starts_with('/') {
        return Err(ApiError::invalid(
            "the request's target is not a path: is a proxy configured for localhost?",
        ));
    }
    if headers.contains_key(UPGRADE) && headers.contains_key(CONNECTION) {
        return Err(ApiError::invalid("only HTTP/1.1 is spoken here: leave Upgrade out"));
    }
    Ok(())
}

impl Guard {
    /// Refuses web pages, forwarded requests, and clients without a client header.
    /// `endpoint` is `None` for an unknown path: the guards hold there too.
    pub(super) fn admit(
        &self,
        peer: Peer,
        endpoint: Option<Endpoint<'_>>,
        headers: &HeaderMap,
    ) -> Result<(), ApiError> {
        if endpoint.is_some_and(Endpoint::is_signed) {
            return Ok(());
        }
        if let Some(name) = browser_or_proxy_header(endpoint, headers) {
            let message =
                format!("requests with {name} come from a browser or through a proxy, and get nothing here");
            return Err(ApiError::forbidden(message));
        }
        match peer {
            Peer::Unix { .. } => Ok(()),
            Peer::Tcp => {
                self.host(headers)?;
                self.client(endpoint, headers)
            }
        }
    }

    fn host(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let mut hosts = headers.get_all(HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else {
            return Err(ApiError::invalid("exactly one Host header is needed"));
        };
        let host = host.to_str().unwrap_or_default().to_ascii_lowercase();
        let bare = without_port(&host);
        let allowed = |known: &String| *known == host || bare == Some(known);
        if bare.is_some_and(|bare| LOOPBACK_HOSTS.contains(&bare)) || self.allowed_hosts.iter().any(allowed) {
            return Ok(());
        }
        Err(ApiError::forbidden(
            "this Host is not served: use localhost, 127.0.0.1 or [::1], or add it to listen.allowed_hosts",
        ))
    }

    fn client(&self, endpoint: Option<Endpoint<'_>>, headers: &HeaderMap) -> Result<(), ApiError> {
        if caller::is_named(headers)
            || !self.require_client_header
            || !endpoint.is_some_and(Endpoint::needs_client)
        {
            return Ok(());
        }
        Err(ApiError::forbidden(
            "missing Ghtokend-Client header (protects against CSRF and SSRF): add one, as in curl -H 'Ghtokend-Client: me'",
        ))
    }
}

/// A header that only a browser or a forwarding proxy sends.
fn browser_or_proxy_header<'h>(
    endpoint: Option<Endpoint<'_>>,
    headers: &'h HeaderMap,
) -> Option<&'h HeaderName> {
    let for_people = endpoint == Some(Endpoint::Status);
    headers.iter().find_map(|(name, value)| {
        let is_sent_by_one = match name.as_str() {
            // Node's own fetch sends this one.
            "sec-fetch-mode" => value != "cors" && !for_people,
            // A person may open the status in a browser.
            "sec-fetch-site" => !for_people || (value != "none" && value != "same-origin"),
            "sec-fetch-dest" | "sec-fetch-user" => !for_people,
            "x-real-ip" | "proxy-connection" => true,
            other if other.starts_with("x-forwarded-") => true,
            _ => [ORIGIN, REFERER, COOKIE, FORWARDED, VIA].contains(name),
        };
        is_sent_by_one.then_some(name)
    })
}

/// `host` without its port; `None` if what follows the colon is no port.
fn without_port(host: &str) -> Option<&str> {
    let colon = match host.rfind(']') {
        Some(end) => host[end..].find(':').map(|at| end + at),
        None => host.find(':'),
    };
    match colon {
        None => Some(host),
        Some(at) => host[at + 1..].bytes().all(|byte| byte.is_ascii_digit()).then_some(&host[..at]),
    }
}

const LOOPBACK_HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];
const MAX_HEAD_BYTES: usize = 16 * 1024;
const MAX_HEADERS: usize = 100;

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn headers(list: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in list {
            map.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        }
        map
    }

    fn status(endpoint: Endpoint<'_>, list: &[(&str, &str)]) -> u16 {
        let guard =
            Guard { allowed_hosts: ["tokens.internal".to_owned()].into(), require_client_header: true };
        let admitted = guard.admit(Peer::Tcp, Some(endpoint), &headers(list));
        admitted.map_or_else(|error| error.status.as_u16(), |()| 200)
    }

    #[test]
    fn one_loopback_host_is_needed() {
        for (host, expected) in [
            ("localhost", 200),
            ("LOCALHOST:7171", 200),
            ("127.0.0.1:1", 200),
            ("[::1]", 200),
            ("[::1]:80", 200),
            ("tokens.internal", 200),
            ("tokens.internal:99", 200),
            ("evil.example", 403),
            ("127.0.0.1.evil", 403),
            ("localhost.", 403),
            ("me@localhost", 403),
            ("0.0.0.0", 403),
            ("localhost:", 200),
            ("localhost:x", 403),
            ("localhost:+80", 403),
            ("localhost:80:80", 403),
            ("", 403),
        ] {
            assert_eq!(status(Endpoint::Healthz, &[("host", host)]), expected, "{host:?}");
        }
        assert_eq!(status(Endpoint::Healthz, &[]), 400);
        assert_eq!(status(Endpoint::Healthz, &[("host", "localhost"), ("host", "localhost")]), 400);
    }

    #[test]
    fn token_request_needs_a_client_header() {
        let ask = |name: &str, value: &str| status(Endpoint::Token, &[("host", "localhost"), (name, value)]);
        for (name, value, expected) in [
            ("accept", "*/*", 403),
            ("ghtokend-client", "bot", 200),
            ("ghtokend-client", "", 403),
            ("ghtokend-client", " ", 403),
            ("ghtokend-secret", "s", 200),
            ("authorization", "Bearer x", 200),
            ("authorization", "TOKEN x", 200),
            ("authorization", "Bearer", 403),
            ("authorization", "Basic eDp5", 403),
        ] {
            assert_eq!(ask(name, value), expected, "{name}: {value}");
        }
    }

    #[test]
    fn browser_or_proxy_header_is_refused() {
        let with = |endpoint, name: &str, value: &str| {
            status(endpoint, &[("host", "localhost"), ("ghtokend-client", "x"), (name, value)])
        };
        for name in [
            "origin",
            "referer",
            "cookie",
            "sec-fetch-site",
            "sec-fetch-dest",
            "sec-fetch-user",
            "x-forwarded-for",
            "x-forwarded-anything",
            "x-real-ip",
            "forwarded",
            "via",
            "proxy-connection",
        ] {
            assert_eq!(with(Endpoint::Token, name, ""), 403, "{name}");
            assert_eq!(with(Endpoint::Metrics, name, "x"), 403, "{name}");
        }
        assert_eq!(with(Endpoint::Token, "sec-fetch-mode", "cors"), 200);
        assert_eq!(with(Endpoint::Token, "sec-fetch-mode", "navigate"), 403);
        assert_eq!(with(Endpoint::Status, "sec-fetch-site", "none"), 200);
        assert_eq!(with(Endpoint::Status, "sec-fetch-site", "cross-site"), 403);
    }

    #[test]
    fn malformed_request_is_refused_first() {
        let check = |method: Method, target: &str, list: &[(&str, &str)]| {
            check_well_formed(&method, &target.parse().unwrap(), &headers(list))
                .map_err(|error| error.status.as_u16())
        };
        assert_eq!(check(Method::GET, "/token?x=y", &[]), Ok(()));
        assert_eq!(check(Method::GET, "http://evil/token", &[]), Err(400));
        assert_eq!(check(Method::OPTIONS, "*", &[]), Err(400));
        assert_eq!(check(Method::CONNECT, "evil:443", &[]), Err(405));
        assert_eq!(check(Method::GET, "/token", &[("x", &"y".repeat(17_000))]), Err(431));
    }
}
