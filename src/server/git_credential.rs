//! `POST /git-credential/get|store|erase`: git's credential helper protocol as an HTTP body, so that a container
//! needs no more than curl. The protocol: <https://git-scm.com/docs/git-credential#IOFMT>.

use bytes::Bytes;
use hyper::header::{CACHE_CONTROL, HeaderMap};
use hyper::http::request::Parts;
use url::Url;

use super::context::Context;
use super::reply::{ApiError, Format, NO_STORE, Reply, ok};
use super::route::GitOperation;
use super::token;
use super::token_service::TokenService;
use crate::broker::{TokenHash, TokenRequest, Vended};
use crate::model::{Capabilities, ErrorCode, Login, RepositoryName, Scope, Secret, Selector};

/// The credential that git asks for, or wants to erase.
#[derive(Debug, Default)]
struct Description {
    protocol: Option<String>,
    host: Option<String>,
    path: Option<String>,
    password: Option<Secret>,
}

/// Answers git. Another host, or no such installation, is an empty answer: git asks its next helper.
pub(super) async fn handle(
    tokens: &TokenService,
    web_url: &Url,
    (operation, head, body): (GitOperation, &Parts, Bytes),
    context: Context<'_>,
) -> Result<Reply, ApiError> {
    if operation == GitOperation::Other {
        return Ok(nothing());
    }
    let description = Description::read(body)?;
    if !description.is_for(web_url) {
        return Ok(nothing());
    }
    match operation {
        GitOperation::Get => {
            let query = head.uri.query().unwrap_or_default();
            let Some(request) = description.request(query, &head.headers, tokens.broker.capabilities())?
            else {
                return Ok(nothing());
            };
            match tokens.vend(request, context).await {
                Ok(vended) => Ok(answer(&vended)),
                Err(error) if error.code == ErrorCode::UnknownInstallation => {
                    context.record(&error);
                    Ok(nothing())
                }
                Err(error) => Err(error),
            }
        }
        GitOperation::Erase => {
            if let Some(password) = &description.password {
                tokens.broker.reject(TokenHash::of(password));
            }
            Ok(nothing())
        }
        GitOperation::Other => Ok(nothing()),
    }
}

impl Description {
    /// Reads git's lines. Attributes that are not known are ignored, as the protocol demands; a CR or a NUL, by which a
    /// host could be smuggled into another attribute, is refused.
    fn read(body: Bytes) -> Result<Self, ApiError> {
        let text = std::str::from_utf8(&body).ok().filter(|text| !text.contains(['\r', '\0']));
        let text = text.ok_or_else(|| ApiError::invalid("git's lines hold a CR, a NUL or no UTF-8"))?;
        let (lines, rest) = text.split_once("\n\n").unwrap_or((text, ""));
        if !rest.trim_start_matches('\n').is_empty() {
            return Err(ApiError::invalid("there is more after the empty line that ends git's lines"));
        }
        let mut description = Self::default();
        for line in lines.split('\n').filter(|line| !line.is_empty()) {
            let malformed = || {
                ApiError::invalid("a line is not of the form key=value, as git's credential protocol has it")
            };
            let (key, value) =
                line.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or_else(malformed)?;
            match key {
                "protocol" => once(key, value, &mut description.protocol),
                "host" => once(key, value, &mut description.host),
                "path" => once(key, value, &mut description.path),
                "password" => once(key, value, &mut description.password),
                _ => Ok(()),
            }?;
        }
        Ok(description)
    }

    /// Whether this is about the host of `web_url`: the same scheme, name and port.
    fn is_for(&self, web_url: &Url) -> bool {
        let (Some(protocol), Some(host)) = (&self.protocol, &self.host) else { return false };
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !port.contains(']') => match port.parse() {
                Ok(number) if port.bytes().all(|byte| byte.is_ascii_digit()) => (name, Some(number)),
                _ => return false,
            },
            _ => (host.as_str(), None),
        };
        let default_port = match protocol.as_str() {
            "https" => 443_u16,
            "http" => 80,
            _ => return false,
        };
        protocol == web_url.scheme()
            && web_url.host_str().is_some_and(|ours| ours.eq_ignore_ascii_case(name))
            && web_url.port_or_known_default() == Some(port.unwrap_or(default_port))
    }

    /// The token that git needs: as the query says, as in `GET /token`, narrowed to the repository of `path` unless the
    /// query names repositories itself. `None`: `path` is no repository, or not one of the owner that the query names.
    ///
    /// git cannot choose: where the dialect knows no narrowing, it is the plain token of the repository's owner.
    fn request(
        &self,
        query: &str,
        headers: &HeaderMap,
        can: Capabilities,
    ) -> Result<Option<TokenRequest>, ApiError> {
        let mut request = token::read(query, headers)?;
        let path = self.path.as_deref().filter(|path| !path.is_empty());
        let Some(path) = path.filter(|_| !request.scope.names_repositories()) else {
            return Ok(Some(request));
        };
        let Some((owner, name)) = repository(path) else { return Ok(None) };
        let (Ok(owner), Ok(name)) = (owner.parse::<Login>(), name.parse::<RepositoryName>()) else {
            return Ok(None);
        };
        request.selector = match request.selector {
            Selector::Owner(other) if other != owner => return Ok(None),
            Selector::Default if can.repository_lookup => Selector::Repository(owner, name.clone()),
            Selector::Default => Selector::Owner(owner),
            chosen => chosen,
        };
        if can.narrowing {
            let repositories = Some([name].into());
            request.scope = Scope { repositories, ..(*request.scope).clone() }.into();
        }
        Ok(Some(request))
    }
}

/// Takes an attribute that may occur once: with a line break in a URL, one host could pass for another (CVE-2020-5260).
fn once<T: From<String>>(key: &str, value: &str, slot: &mut Option<T>) -> Result<(), ApiError> {
    match slot.replace(T::from(value.to_owned())) {
        None => Ok(()),
        Some(_) => Err(ApiError::invalid(format!("duplicate attribute {key}"))),
    }
}

/// Owner and name of the repository whose URL has this path.
fn repository(path: &str) -> Option<(&str, &str)> {
    let path = path.trim_start_matches('/').trim_end_matches('/');
    let path = path.strip_suffix("/info/lfs").unwrap_or(path);
    let path = path.strip_suffix(".git").unwrap_or(path);
    let path = path.strip_suffix(".wiki").unwrap_or(path);
    path.split_once('/').filter(|(_, name)| !name.contains('/'))
}

/// The credential, in git's lines.
fn answer(vended: &Vended) -> Reply {
    let token = &vended.entry.token;
    let expiry = token.expires_at.parse::<jiff::Timestamp>();
    let expiry = expiry.map(|at| format!("password_expiry_utc={}\n", at.as_second())).unwrap_or_default();
    lines(format!("username=x-access-token\npassword={}\n{expiry}", token.secret.expose()))
}

/// No credential: git asks its next helper.
fn nothing() -> Reply {
    lines(String::new())
}

fn lines(text: String) -> Reply {
    let mut reply = ok(Format::Text, text.into());
    reply.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(lines: &str) -> Description {
        Description::read(lines.to_owned().into()).unwrap()
    }

    #[test]
    fn only_the_configured_host_matches() {
        let github: Url = "https://github.com".parse().unwrap();
        let local: Url = "http://127.0.0.1:8080".parse().unwrap();
        for (web_url, protocol, host, ours) in [
            (&github, "https", "github.com", true),
            (&github, "https", "GitHub.com", true),
            (&github, "https", "github.com:443", true),
            (&github, "https", "github.com:8443", false),
            (&github, "https", "github.com:", false),
            (&github, "https", "github.com:x", false),
            (&github, "https", "github.com:+443", false),
            (&github, "http", "github.com", false),
            (&github, "http", "github.com:443", false),
            (&github, "ssh", "github.com", false),
            (&github, "https", "github.com.evil", false),
            (&github, "https", "evil.github.com", false),
            (&github, "https", "github.com%0d", false),
            (&github, "https", "x@github.com", false),
            (&github, "https", "github.com/x", false),
            (&github, "https", "", false),
            (&local, "http", "127.0.0.1:8080", true),
            (&local, "http", "127.0.0.1", false),
        ] {
            let description = about(&format!("protocol={protocol}\nhost={host}\n"));
            assert_eq!(description.is_for(web_url), ours, "{protocol}://{host} for {web_url}");
        }
        assert!(!about("host=github.com\n").is_for(&github));
        assert!(!about("protocol=https\n").is_for(&github));
    }

    #[test]
    fn smuggling_attributes_are_refused() {
        for bad in [
            "protocol=https\nhost=evil\nhost=github.com\n",
            "protocol=https\nhost=github.com\n\n.evil\npath=acme/widgets\n",
            "host=github.com\r\n",
            "host=git\0hub.com\n",
            "nonsense\n",
            "=x\n",
            "host\n",
        ] {
            assert!(Description::read(bad.to_owned().into()).is_err(), "{bad:?}");
        }
        assert!(Description::read(Bytes::from_static(b"host=\xff\n")).is_err());
        let unknown = about("capability[]=authtype\nwwwauth[]=a\nwwwauth[]=b\nhost=a=b\n\n\n");
        assert_eq!(unknown.host.as_deref(), Some("a=b"));
    }

    #[test]
    fn every_form_of_path_names_its_repository() {
        for path in [
            "acme/widgets",
            "acme/widgets.git",
            "/acme/widgets.git/",
            "acme/widgets.git/info/lfs",
            "acme/widgets.wiki.git",
        ] {
            assert_eq!(repository(path), Some(("acme", "widgets")), "{path}");
        }
        for path in ["", "acme", "acme/a/b"] {
            assert_eq!(repository(path), None, "{path}");
        }
    }
}
