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
    let bytes = word.as_bytes();
    let prefixed =
        bytes.len() > 4 && word.starts_with("gh") && bytes[2].is_ascii_lowercase() && bytes[3] == b'_';
    let v1 = word.strip_prefix("v1.").is_some_and(|tail| tail.len() >= 16);
    prefixed || v1 || (word.contains("eyJ") && word.len() > 16)
}

const REDACTED: &str = "[redacted]";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redaction_takes_the_whole_token_and_nothing_else() {
        let stateless = "ghs_1001_eyJhbGciOi.eyJpc3Mi-x_y.c2ln-_";
        for (text, expected) in [
            ("Not Found", "Not Found"),
            ("ghs_short is gone.", "[redacted] is gone."),
            (&format!("<{stateless}> no"), "<[redacted]> no"),
            (&format!("token={stateless}"), "token=[redacted]"),
            ("/ghs_x/y", "/[redacted]/y"),
            ("-----BEGIN RSA PRIVATE KEY-----\nMIIE", "[redacted]"),
            ("v1.1f699f1069f60abcdef0123456789", "[redacted]"),
            ("Bearer eyJhbGciOiJSUzI1NiJ9.e30.c2ln!", "Bearer [redacted]!"),
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
