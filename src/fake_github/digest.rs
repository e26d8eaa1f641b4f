//! Digests that stand for credentials, and redaction of tokens.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Base64 of the SHA-256, the form in which GitHub's audit log names a token.
pub(crate) fn sha256_base64(bytes: &[u8]) -> String {
    STANDARD.encode(digest::digest(&digest::SHA256, bytes))
}

/// Hexadecimal of the SHA-256, the form of an `ETag`.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// `bytes` in lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `text` with every token of GitHub's replaced by `[redacted]`.
pub(crate) fn redact(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((start, end)) = token_in(rest) {
        clean.push_str(&rest[..start]);
        clean.push_str("[redacted]");
        rest = &rest[end..];
    }
    clean + rest
}

/// Start and end of the first token, such as `ghs_…` or `v1.…`, dots and dashes included.
fn token_in(text: &str) -> Option<(usize, usize)> {
    let is_token_byte = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
    let bytes = text.as_bytes();
    let mut start = 0;
    while start < bytes.len() {
        let length = bytes[start..].iter().take_while(|byte| is_token_byte(byte)).count();
        let run = &bytes[start..start + length];
        let prefixed = matches!(run, [b'g', b'h', b'a'..=b'z', b'_', ..] | [b'v', b'1', b'.', ..]);
        if prefixed && length > MIN_TOKEN_LENGTH {
            return Some((start, start + length));
        }
        start += length.max(1);
    }
    None
}

/// Shorter runs are names, such as a repository called `ghs_tools`.
const MIN_TOKEN_LENGTH: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redact_removes_whole_token_from_path() {
        let token = format!("ghs_1001_{}.{}-_.sig", "a".repeat(30), "b".repeat(30));
        assert_eq!(redact(&format!("/x?access_token={token}&page=2")), "/x?access_token=[redacted]&page=2");
        assert_eq!(redact("/repos/acme/ghs_tools/installation"), "/repos/acme/ghs_tools/installation");
    }
}
