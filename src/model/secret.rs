//! A string that cannot print itself.

use std::borrow::Cow;
use std::fmt;

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

/// `text` with everything that looks like a GitHub token, a JWT or a private key replaced. For text that is not ours,
/// such as an upstream's error message, before it is quoted.
pub fn redact(text: &str) -> Cow<'_, str> {
    let in_token = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if text.contains("PRIVATE KEY-----") {
        return Cow::Borrowed(REDACTED);
    }
    if !text.split(|c| !in_token(c)).any(looks_secret) {
        return Cow::Borrowed(text);
    }
    let mut redacted = String::with_capacity(text.len());
    for piece in text.split_inclusive(|c| !in_token(c)) {
        let word = piece.trim_end_matches(|c| !in_token(c));
        redacted.push_str(if looks_secret(word) { REDACTED } else { word });
        redacted.push_str(&piece[word.len()..]);
    }
    Cow::Owned(redacted)
}

/// Whether a word has a prefix that only GitHub's tokens and JWTs have. Tokens contain dots and dashes since 2026, so
/// no pattern on their tail would be right:
/// <https://github.blog/changelog/2026-05-15-github-app-installation-tokens-per-request-override-header/>.
fn looks_secret(word: &str) -> bool {
    let token = GITHUB_PREFIXES.iter().any(|prefix| word.starts_with(prefix)) && word.len() >= SHORTEST;
    let v1 = word.starts_with("v1.") && word.len() >= SHORTEST;
    let jwt = word.starts_with("eyJ") && word.len() >= SHORTEST && word.contains('.');
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
            ("-----BEGIN RSA PRIVATE KEY-----\nMIIE", "[redacted]"),
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
