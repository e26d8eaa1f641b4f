//! What is wrong with the configuration, in one line that quotes no secret.

/// Names the thing, where it came from (`file:line:column`, variable or flag) and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: {problem}")]
pub struct Error {
    origin: String,
    problem: String,
}

impl Error {
    pub(super) fn new(origin: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { origin: origin.into(), problem: problem.into() }
    }
}

/// A value as it may be shown, which is not at all if it could be a secret that went to the wrong place.
pub(super) fn quote(value: &str) -> String {
    if may_be_secret(value) { "the value (not shown)".into() } else { format!("{value:?}") }
}

/// Whether a text is a key, which no setting is: PEM, base64 of PEM, or bare base64 of DER.
pub(super) fn looks_like_key(value: &str) -> bool {
    let value = value.trim_start();
    let der = value.starts_with(BASE64_OF_DER) && value.len() > MAX_QUOTE_CHARS;
    value.contains("-----BEGIN") || value.starts_with(BASE64_OF_PEM) || der
}

/// Whether a value could be a key, a token, or a URL with a password: whatever is long, and some that is not.
pub(super) fn may_be_secret(value: &str) -> bool {
    let token = TOKEN_PREFIXES.iter().any(|prefix| value.starts_with(prefix));
    let in_url = value.contains(['@', '?']);
    token || in_url || looks_like_key(value) || value.contains('\n') || value.len() > MAX_QUOTE_CHARS
}

const BASE64_OF_PEM: &str = "LS0tLS1CRUdJTi";
const BASE64_OF_DER: &str = "MII";
const TOKEN_PREFIXES: [&str; 7] = ["ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "v1."];
/// Fits on a line, and is less than a line of PEM.
const MAX_QUOTE_CHARS: usize = 60;
