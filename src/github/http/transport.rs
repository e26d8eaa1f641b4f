//! The transport below admission: one request in, one answer out. No retries, no redirects, no credentials of its own.

use std::path::Path;
use std::sync::Arc;

use bytes::BytesMut;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use reqwest::{Certificate, Proxy, redirect};

use super::answer::Answer;
use super::classify::from_transport_error;
use super::config::{BuildError, UpstreamConfig};
use super::dns::Resolver;
use super::request::Request;
use crate::clock::Clock;
use crate::github::Reply;
use crate::github::failure::{Failure, Kind};
use crate::model::Secret;
use crate::secret_file::{self, Accept};

/// Sends requests to GitHub. The seam for tests that simulate GitHub without sockets: everything above it is what ships.
pub trait Transport: Send + Sync + 'static {
    /// Sends `request` once, authorised by `credential`, and reads the whole answer.
    fn send<'a>(&'a self, request: &'a Request, credential: &'a Secret) -> Reply<'a, Answer>;
}

/// What every request to one GitHub carries.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CommonHeaders<'a> {
    /// The media type of the API.
    pub(crate) accept: &'static str,
    /// `X-GitHub-Api-Version`, where the API has versions.
    pub(crate) api_version: Option<&'a str>,
}

/// HTTP over TLS, by reqwest: bounded in time and size.
pub struct HttpTransport {
    http: reqwest::Client,
    clock: Arc<dyn Clock>,
}

impl HttpTransport {
    /// A transport to the GitHub of `config`, whose requests all carry what the dialect demands.
    pub(crate) fn new(
        config: &UpstreamConfig,
        headers: CommonHeaders<'_>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, BuildError> {
        Ok(Self { http: http(config, headers)?, clock })
    }

    async fn exchange(&self, request: &Request, credential: &Secret) -> Result<Answer, Failure> {
        let what = request.what;
        let sending = self.http.request(request.method.clone(), request.url.clone());
        let mut sending = sending.header(AUTHORIZATION, bearer(credential));
        if let Some(body) = &request.body {
            sending = sending.header(CONTENT_TYPE, "application/json").body(body.clone());
        }
        let mut response = sending.send().await.map_err(|error| from_transport_error(what, &error))?;
        // Noted now: `Date` tells the time at which the head was sent, and the body may be slow.
        let head_at = self.clock.boot();
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| from_transport_error(what, &error))? {
            if body.len() + chunk.len() > MAX_RESPONSE_BYTES {
                let message = format!("{what} brought more than 8 MiB: check github.api_url");
                return Err(Failure::new(Kind::BadAnswer, message));
            }
            body.extend_from_slice(&chunk);
        }
        let status = response.status().as_u16();
        Ok(Answer { head_at: Some(head_at), ..Answer::read(what, status, response.headers(), body.freeze()) })
    }
}

impl Transport for HttpTransport {
    fn send<'a>(&'a self, request: &'a Request, credential: &'a Secret) -> Reply<'a, Answer> {
        Box::pin(self.exchange(request, credential))
    }
}

fn http(config: &UpstreamConfig, common: CommonHeaders<'_>) -> Result<reqwest::Client, BuildError> {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static(common.accept));
    headers.insert(USER_AGENT, HeaderValue::from_static(OUR_USER_AGENT));
    if let Some(version) = common.api_version {
        let version = HeaderValue::from_str(version).map_err(|_| BuildError::Version)?;
        headers.insert("x-github-api-version", version);
    }
    let mut builder = reqwest::Client::builder()
        .default_headers(headers)
        .redirect(redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .no_proxy()
        .dns_resolver(Arc::new(Resolver::new(config.connect_timeout)))
        .connect_timeout(config.connect_timeout)
        .timeout(config.request_timeout)
        .pool_idle_timeout(IDLE_CONNECTION_TIMEOUT);
    if let Some(proxy) = &config.proxy {
        let proxy = Proxy::all(proxy.as_str());
        builder = builder.proxy(proxy.map_err(|_| BuildError::Http("the proxy's URL was refused".into()))?);
    }
    if let Some(path) = &config.ca_file {
        builder = builder.tls_certs_merge(certificates(path)?);
    }
    builder.build().map_err(|error| BuildError::Http(error.to_string()))
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, BuildError> {
    // Bounded: a pipe without a writer would hold up the start.
    let pem = secret_file::read(path, Accept::Stream, MAX_CA_FILE_BYTES);
    let pem =
        pem.map_err(|error| BuildError::ReadCa { path: path.to_owned(), problem: error.to_string() })?;
    match Certificate::from_pem_bundle(&pem.bytes) {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(BuildError::NoCertificate(path.to_owned())),
    }
}

fn bearer(credential: &Secret) -> HeaderValue {
    // A JWT is base64url and dots, a token has come in a header: always a header value.
    let mut value = HeaderValue::from_str(&format!("Bearer {}", credential.expose()))
        .unwrap_or_else(|_| HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

/// GitHub refuses calls without one.
const OUR_USER_AGENT: &str = concat!("ghtokend/", env!("CARGO_PKG_VERSION"));
/// All authorities that a system trusts have some 300 KiB.
const MAX_CA_FILE_BYTES: usize = 4 << 20;
const MAX_RESPONSE_BYTES: usize = 8 * 1024 * 1024;
/// Mints are minutes apart, and GitHub closes idle connections after one.
const IDLE_CONNECTION_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unreadable_ca_file_error_names_key_and_file() {
        for (path, problem) in
            [("/nowhere/ca.pem", "cannot be read: No such file"), ("/dev/zero", "is larger than 4096 KiB")]
        {
            let error = certificates(Path::new(path)).unwrap_err().to_string();
            assert!(error.starts_with(&format!("github.ca_file: {path}: {problem}")), "{error}");
        }
    }
}
