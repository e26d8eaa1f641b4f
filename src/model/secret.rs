//! A string that cannot print itself.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use secrecy::{ExposeSecret, SecretString};

/// A token, a key's text, a webhook secret. Has no `Display` and no `Serialize`, shows as `[redacted]`, and is
/// wiped when dropped. [`Secret::expose`] is the one way to its value.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// The value itself. Whoever calls this answers for where it goes.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl From<String> for Secret {
    fn from(value: String) -> Self {
        Self(value.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

/// Bytes with a secret in them, shared by all who pass them on.
#[derive(Clone)]
pub struct SecretBytes(Bytes);

impl SecretBytes {
    /// The bytes themselves. Whoever calls this answers for where they go.
    pub fn expose(&self) -> &Bytes {
        &self.0
    }
}

impl From<Bytes> for SecretBytes {
    fn from(value: Bytes) -> Self {
        Self(value)
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

/// `text` with everything that looks like a GitHub token, a JWT or a private key replaced. For text that is not ours,
/// such as an upstream's error message, before it is quoted.
pub fn redact(text: &str) -> Cow<'_, str> {
    let in_token = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let text = without_keys(text);
    if !text.split(|c| !in_token(c)).any(looks_secret) {
        return text;
    }
    let mut redacted = String::with_capacity(text.len());
    for piece in text.split_inclusive(|c| !in_token(c)) {
        let word = piece.trim_end_matches(|c| !in_token(c));
        redacted.push_str(if looks_secret(word) { REDACTED } else { word });
        redacted.push_str(&piece[word.len()..]);
    }
    Cow::Owned(redacted)
}

/// `text` without the private keys in it. Only the key goes, and not the line that it stands in: else whoever puts the
/// words into a header could take a line off the record.
fn without_keys(text: &str) -> Cow<'_, str> {
    let (mut kept, mut rest) = (String::new(), text);
    while let Some((before, key)) = rest.split_once("-----BEGIN ") {
        let Some((_, body)) = key.split_once("PRIVATE KEY-----") else { break };
        kept.push_str(before);
        kept.push_str(REDACTED);
        rest = after_key(body);
    }
    if kept.is_empty() { Cow::Borrowed(text) } else { Cow::Owned(kept + rest) }
}

/// What comes after the key that `body` begins with. One without its end goes on for as long as base64 does.
fn after_key(body: &str) -> &str {
    let whole = body.split_once("-----END ").filter(|(key, _)| !key.contains('"'));
    let after = match whole.and_then(|(_, end)| end.split_once("-----")) {
        Some((_, after)) => after,
        None => body.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || "+/=\\\r\n ".contains(c)),
    };
    if after.is_empty() && body.ends_with('\n') { "\n" } else { after }
}

/// Whether a word holds a prefix that only GitHub's tokens and JWTs have, wherever an escape may have put it. Tokens contain dots and dashes since 2026, so
/// no pattern on their tail would be right:
/// <https://github.blog/changelog/2026-05-15-github-app-installation-tokens-per-request-override-header/>.
fn looks_secret(word: &str) -> bool {
    let holds = |prefix: &str| word.find(prefix).filter(|at| word.len() - at >= SHORTEST);
    let token = GITHUB_PREFIXES.iter().any(|prefix| holds(prefix).is_some());
    let v1 = word.starts_with("v1.") && word.len() >= SHORTEST;
    let jwt = holds("eyJ").is_some_and(|at| word[at..].contains('.'));
    token || v1 || jwt
}

/// <https://docs.github.com/en/authentication/keeping-your-account-and-data-secure/about-authentication-to-github>
const GITHUB_PREFIXES: [&str; 6] = ["ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"];
/// Shorter than any token, and longer than most names that begin like one.
const SHORTEST: usize = 20;
const REDACTED: &str = "[redacted]";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redaction_takes_the_whole_token_and_nothing_else() {
        let stateless = "ghs_1001_eyJhbGciOi.eyJpc3Mi-x_y.c2ln-_";
        for (text, expected) in [
            ("Not Found", "Not Found"),
            ("ghs_0123456789abcdef0123456789abcdef0123 is gone.", "[redacted] is gone."),
            (&format!("<{stateless}> no"), "<[redacted]> no"),
            (&format!("token={stateless}"), "token=[redacted]"),
            (&format!("/{stateless}/y"), "/[redacted]/y"),
            ("v1.1f699f1069f60abcdef0123456789", "[redacted]"),
            ("Bearer eyJhbGciOiJSUzI1NiJ9.e30.c2ln!", "Bearer [redacted]!"),
            ("\\nghs_0123456789abcdef0123456789abcdef0123", "\\[redacted]"),
            ("%2Fghs_0123456789abcdef0123456789abcdef0123", "%[redacted]"),
            ("-----BEGIN RSA PRIVATE KEY-----\nMIIE", "[redacted]"),
            ("a -----BEGIN PRIVATE KEY-----\nMII\n-----END PRIVATE KEY----- b\n", "a [redacted] b\n"),
            (
                "{\"client\":\"-----BEGIN PRIVATE KEY-----\",\"x\":1}\n",
                "{\"client\":\"[redacted]\",\"x\":1}\n",
            ),
            ("-----BEGIN RSA PRIVATE KEY-----\nMIIE+/=\n", "[redacted]\n"),
            ("{\"client\":\"PRIVATE KEY-----\"}\n", "{\"client\":\"PRIVATE KEY-----\"}\n"),
            // What only looks a little like one.
            ("acme/gha_runner and acme/ghs_tools", "acme/gha_runner and acme/ghs_tools"),
            (
                "cl1EH+eyJ4dSpxFRPrAF86gxxxxxxxxxxxxxxxxxxxxx=",
                "cl1EH+eyJ4dSpxFRPrAF86gxxxxxxxxxxxxxxxxxxxxx=",
            ),
            ("see https://docs.github.com/rest", "see https://docs.github.com/rest"),
        ] {
            assert_eq!(redact(text), expected);
        }
    }

    #[test]
    fn debug_output_hides_the_value() {
        assert_eq!(format!("{:?}", Secret::from("ghs_marker".to_owned())), "[redacted]");
    }
}
