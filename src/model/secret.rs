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
    /// The value itself. The caller is responsible for where it goes.
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
    /// The bytes themselves. The caller is responsible for where they go.
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
/// such as an upstream's error message, before it is quoted. Takes time in proportion to the text, whatever is in it;
/// text without a bound is [cut](cut_before_redaction) first.
pub fn redact(text: &str) -> Cow<'_, str> {
    let text = without_keys(text);
    if !text.split(ends_token).any(looks_secret) {
        return text;
    }
    let mut redacted = String::with_capacity(text.len());
    for piece in text.split_inclusive(ends_token) {
        let word = piece.trim_end_matches(ends_token);
        redacted.push_str(if looks_secret(word) { REDACTED } else { word });
        redacted.push_str(&piece[word.len()..]);
    }
    Cow::Owned(redacted)
}

/// The beginning of `text`, of at most `max` bytes. It ends before the word that the cut goes through: half a token is
/// too short to be recognised, and still half a secret.
pub fn cut_before_redaction(text: &str, max: usize) -> &str {
    if text.len() <= max {
        return text;
    }
    let kept = &text[..text.floor_char_boundary(max)];
    if text[kept.len()..].starts_with(ends_token) {
        return kept;
    }
    kept.trim_end_matches(|c| !ends_token(c))
}

fn ends_token(c: char) -> bool {
    !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

/// `text` without the private keys in it. Only the key goes, not its whole line: else a caller could
/// erase a log line by putting the words into a header.
fn without_keys(text: &str) -> Cow<'_, str> {
    if !text.contains(KEY_BEGIN) {
        return Cow::Borrowed(text);
    }
    let mut marks = KeyMarks::of(text);
    let (mut kept, mut rest) = (String::new(), 0);
    while let Some(begin) = text[rest..].find(KEY_BEGIN).map(|at| rest + at) {
        let Some(label) = text[begin + KEY_BEGIN.len()..].find(KEY_LABEL) else { break };
        kept.push_str(&text[rest..begin]);
        kept.push_str(REDACTED);
        rest = marks.after_key(begin + KEY_BEGIN.len() + label + KEY_LABEL.len());
    }
    if kept.is_empty() { Cow::Borrowed(text) } else { Cow::Owned(kept + &text[rest..]) }
}

/// What can end a private key. Each mark is looked for only where it has not been sought yet: else a text of nothing but
/// beginnings would be read to its end for each of them.
struct KeyMarks<'t> {
    text: &'t str,
    end: NextMatch<'t>,
    quote: NextMatch<'t>,
    dashes_after_end: NextMatch<'t>,
    begin_after_end: NextMatch<'t>,
}

impl<'t> KeyMarks<'t> {
    fn of(text: &'t str) -> Self {
        let next = |mark| NextMatch::of(text, mark);
        let (end, quote) = (next(KEY_END), next("\""));
        Self { text, end, quote, dashes_after_end: next(DASHES), begin_after_end: next(KEY_BEGIN) }
    }

    /// Where the key whose text begins at `body` is over. One without its end goes on for as long as base64 does.
    fn after_key(&mut self, body: usize) -> usize {
        let after = self.after_whole_key(body).unwrap_or_else(|| {
            let in_key = |c: char| c.is_ascii_alphanumeric() || "+/=\\\r\n ".contains(c);
            self.text.len() - self.text[body..].trim_start_matches(in_key).len()
        });
        let ends_line = after == self.text.len() && self.text[body..].ends_with('\n');
        if ends_line { after - 1 } else { after }
    }

    fn after_whole_key(&mut self, body: usize) -> Option<usize> {
        let end = self.end.from(body)?;
        if self.quote.from(body).is_some_and(|quote| quote < end) {
            return None;
        }
        let end = end + KEY_END.len();
        let after = self.dashes_after_end.from(end)? + DASHES.len();
        // The dashes may be those of the next key, which would pass unseen without them.
        Some(self.begin_after_end.from(end).map_or(after, |begin| begin.min(after)))
    }
}

/// Where a pattern comes next, from places that only go forward: every byte is searched once.
struct NextMatch<'t> {
    text: &'t str,
    pattern: &'static str,
    /// The first match at or after the last place asked for; `None` if there is none any more.
    next: Option<usize>,
}

impl<'t> NextMatch<'t> {
    fn of(text: &'t str, pattern: &'static str) -> Self {
        Self { text, pattern, next: text.find(pattern) }
    }

    fn from(&mut self, place: usize) -> Option<usize> {
        if self.next.is_some_and(|next| next < place) {
            self.next = self.text[place..].find(self.pattern).map(|at| place + at);
        }
        self.next
    }
}

/// Whether a word holds a prefix that only GitHub's tokens and JWTs have, wherever an escape may have put it. Tokens
/// contain dots and dashes since 2026, so no pattern on their tail would be right:
/// <https://github.blog/changelog/2026-05-15-github-app-installation-tokens-per-request-override-header/>.
fn looks_secret(word: &str) -> bool {
    // Most words of a log line end here, before any search is set up.
    if word.len() < MIN_SECRET_LENGTH {
        return false;
    }
    let holds = |prefix: &str| word.find(prefix).filter(|at| word.len() - at >= MIN_SECRET_LENGTH);
    let token = GITHUB_PREFIXES.iter().any(|prefix| holds(prefix).is_some());
    let v1 = word.starts_with("v1.");
    let jwt = holds("eyJ").is_some_and(|at| word[at..].contains('.'));
    token || v1 || jwt
}

/// <https://docs.github.com/en/authentication/keeping-your-account-and-data-secure/about-authentication-to-github>
const GITHUB_PREFIXES: [&str; 6] = ["ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"];
/// Shorter than any token, and longer than most names that begin like one.
const MIN_SECRET_LENGTH: usize = 20;
const REDACTED: &str = "[redacted]";
const KEY_BEGIN: &str = "-----BEGIN ";
const KEY_LABEL: &str = "PRIVATE KEY-----";
const KEY_END: &str = "-----END ";
const DASHES: &str = "-----";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn redaction_covers_exactly_the_token() {
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
    fn hostile_repetitions_are_redacted_in_linear_time() {
        // A scan for each repetition would be 4 * 10^9 steps: minutes, without optimisation.
        for repeated in [
            "-----BEGIN RSA PRIVATE KEY-----x ",
            "-----BEGIN RSA PRIVATE KEY-----\"",
            "-----BEGIN PRIVATE KEY----------END ",
            "-----BEGIN ",
            "-----END ",
            "PRIVATE KEY-----",
            "\"",
            "eyJ",
            "eyJ.",
            "eyJ ",
            "ghs_",
            "ghs_ ",
            "v1.",
        ] {
            let text = repeated.repeat((1 << 19) / repeated.len());
            for tail in ["", "-----END x", "\"-----END PRIVATE KEY"] {
                assert!(redact(&(text.clone() + tail)).len() <= text.len() + tail.len(), "{repeated}{tail}");
            }
        }
    }

    #[test]
    fn a_cut_never_leaves_a_piece_of_a_token() {
        let token = "ghs_1001_eyJhbGciOi.eyJpc3Mi-x_y.c2ln-_";
        let text = format!("the token {token} is bad, é");
        for max in 0..=text.len() {
            let cut = cut_before_redaction(&text, max);
            assert!(cut.len() <= max && text.starts_with(cut));
            assert!(cut.contains(token) || !cut.contains("ghs"), "{cut}");
            assert!(!redact(cut).contains("1001"), "{cut}");
        }
        assert_eq!(cut_before_redaction(&text, 9), "the token");
        assert_eq!(cut_before_redaction(&text, 8), "the ");
    }

    /// What [`redact`] means, without regard for time.
    fn redact_by_definition(text: &str) -> String {
        fn after_key(body: &str) -> &str {
            let whole = body.split_once("-----END ").filter(|(key, _)| !key.contains('"'));
            let after = match whole.and_then(|(_, end)| Some((end, end.find("-----")? + 5))) {
                Some((end, after)) => &end[end.find("-----BEGIN ").map_or(after, |begin| begin.min(after))..],
                None => {
                    body.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || "+/=\\\r\n ".contains(c))
                }
            };
            if after.is_empty() && body.ends_with('\n') { "\n" } else { after }
        }
        let (mut kept, mut rest) = (String::new(), text);
        while let Some((before, key)) = rest.split_once("-----BEGIN ") {
            let Some((_, body)) = key.split_once("PRIVATE KEY-----") else { break };
            kept = kept + before + REDACTED;
            rest = after_key(body);
        }
        let text = kept + rest;
        let pieces = text.split_inclusive(ends_token).map(|piece| {
            let word = piece.trim_end_matches(ends_token);
            format!("{}{}", if looks_secret(word) { REDACTED } else { word }, &piece[word.len()..])
        });
        pieces.collect()
    }

    const FRAGMENTS: [&str; 18] = [
        "-----BEGIN ",
        "RSA ",
        "PRIVATE KEY-----",
        "-----END ",
        "-----",
        "\"",
        "\n",
        "\\n",
        " ",
        "x",
        "é",
        "ghs_",
        "eyJ",
        "v1.",
        ".",
        "0123456789abcdef",
        "-",
        "{",
    ];

    proptest! {
        #[test]
        fn redaction_in_one_scan_equals_its_definition(
            fragments in prop::collection::vec(prop::sample::select(&FRAGMENTS), 0..24),
        ) {
            let text = fragments.concat();
            prop_assert_eq!(redact(&text), redact_by_definition(&text));
        }

        #[test]
        fn key_material_never_appears_in_redacted_text(
            before in prop::collection::vec(prop::sample::select(&FRAGMENTS), 0..12),
            key in "[A-Za-z0-9+/=\n]{12,64}",
            after in prop::collection::vec(prop::sample::select(&FRAGMENTS), 0..12),
        ) {
            let (before, after) = (before.concat(), after.concat());
            let marked = format!("KEY/MATERIAL{key}");
            let text = format!("{before}-----BEGIN RSA PRIVATE KEY-----\n{marked}\n{after}");
            prop_assert!(!redact(&text).contains("KEY/MATERIAL"), "{}", redact(&text));
        }
    }

    #[test]
    fn debug_output_hides_the_value() {
        assert_eq!(format!("{:?}", Secret::from("ghs_marker".to_owned())), "[redacted]");
    }
}
