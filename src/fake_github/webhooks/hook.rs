//! Where webhooks go, and how they are signed.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use aws_lc_rs::hmac;
use url::{Host, Url};

use crate::fake_github::digest::hex;

/// Where webhooks go, and the secret that signs them. All apps share it; each gets deliveries of its own.
#[derive(Clone)]
pub struct Hook {
    url: Url,
    addresses: Vec<SocketAddr>,
    secret: String,
}

impl Hook {
    /// A hook at `url`, which must be `http` and on this machine. Without a secret nothing is signed.
    ///
    /// # Errors
    ///
    /// If the URL is invalid, or leads anywhere else.
    pub fn new(url: &str, secret: &str) -> io::Result<Self> {
        let here = |url: &Url| {
            let port = url.port_or_known_default()?;
            let (v4, v6) = ((Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into());
            match url.host()? {
                _ if url.scheme() != "http" => None,
                Host::Domain(name) => (name == "localhost").then(|| vec![v4, v6]),
                Host::Ipv4(ip) => ip.is_loopback().then(|| vec![(ip, port).into()]),
                Host::Ipv6(ip) => ip.is_loopback().then(|| vec![v6]),
            }
        };
        let not_here = || {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "webhooks cannot go to `{url}`: they stay on this machine, which is http://127.0.0.1, \
                 http://localhost or http://[::1]"
                ),
            )
        };
        let url = Url::parse(url).map_err(|_| not_here())?;
        let addresses = here(&url).ok_or_else(not_here)?;
        Ok(Self { url, addresses, secret: secret.to_owned() })
    }

    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    pub(super) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// `X-Hub-Signature` and `X-Hub-Signature-256` for `body`.
    pub(super) fn signatures(&self, body: &[u8]) -> Vec<(&'static str, String)> {
        if self.secret.is_empty() {
            return Vec::new();
        }
        let sign = |algorithm| {
            let key = hmac::Key::new(algorithm, self.secret.as_bytes());
            hex(hmac::sign(&key, body).as_ref())
        };
        vec![
            ("X-Hub-Signature", format!("sha1={}", sign(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY))),
            ("X-Hub-Signature-256", format!("sha256={}", sign(hmac::HMAC_SHA256))),
        ]
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hook").field("url", &self.url.as_str()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signature_of_github_example_is_known() {
        let hook = Hook::new("http://localhost/", "It's a Secret to Everybody").unwrap();
        let signatures = hook.signatures(b"Hello, World!");
        let expected = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        assert_eq!(signatures[1], ("X-Hub-Signature-256", expected.to_owned()));
        assert!(!format!("{hook:?}").contains("Secret"));
    }

    #[test]
    fn url_off_this_machine_rejected() {
        for url in ["http://127.0.0.1:1/x?y", "http://localhost:1", "http://[::1]:1/", "http://127.9.9.9"] {
            assert!(Hook::new(url, "").is_ok(), "{url}");
        }
        let others = [
            "https://127.0.0.1/",
            "http://192.0.2.1/",
            "http://127.0.0.1.example.com/",
            "http://localhost@example.com/",
            "http://0.0.0.0/",
            "http://[2001:db8::1]/",
            "ftp://localhost/",
            "localhost:1",
            "",
        ];
        for url in others {
            let error = Hook::new(url, "").unwrap_err().to_string();
            assert!(error.contains(&format!("`{url}`")) && error.contains("on this machine"), "{error}");
        }
    }
}
