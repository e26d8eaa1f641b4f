//! The text of installation tokens, in every format GitHub has given them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use crate::fake_github::options::Options;
use crate::fake_github::random::{HEX, Random};
use crate::fake_github::world::definition::App;
use crate::fake_github::world::product::{Mode, TokenFormat};
use crate::fake_github::world::store::Stateless;

/// A new token for `installation` of `app`. `requested` is the value of `X-GitHub-Stateless-S2S-Token`.
pub(super) fn new(
    random: &Random,
    options: &Options,
    app: &App,
    installation: u64,
    requested: Option<&str>,
) -> (String, Stateless) {
    let format = format(random, options, app, requested);
    let min_length = options.token_length.unwrap_or(0);
    match format {
        TokenFormat::Stateless | TokenFormat::Rollout => {
            (stateless(random, app.id, installation, min_length), Stateless::Yes)
        }
        TokenFormat::Opaque => (
            format!("ghs_{}", random.text(ALPHANUMERIC, 36.max(min_length.saturating_sub(4)))),
            Stateless::No,
        ),
        TokenFormat::LegacyV1 => (legacy(random, options), Stateless::No),
    }
}

/// A new token of the first format, the only one the preview of 2016 knew.
pub(super) fn legacy(random: &Random, options: &Options) -> String {
    let min_length = options.token_length.unwrap_or(0);
    format!("v1.{}", random.text(HEX, 40.max(min_length.saturating_sub(3))))
}

const ALPHANUMERIC: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

fn format(random: &Random, options: &Options, app: &App, requested: Option<&str>) -> TokenFormat {
    let configured = match app.token_format.unwrap_or(options.token_format) {
        TokenFormat::Rollout if random.random_bool(0.5) => TokenFormat::Stateless,
        TokenFormat::Rollout => TokenFormat::Opaque,
        format => format,
    };
    match (options.mode, requested) {
        (Mode::Ghes, _) if configured == TokenFormat::Stateless => TokenFormat::Opaque,
        (Mode::Ghes, _) => configured,
        (_, Some("enabled")) => TokenFormat::Stateless,
        (_, Some("disabled")) if configured == TokenFormat::Stateless => TokenFormat::Opaque,
        _ => configured,
    }
}

/// `ghs_<app id>_<header>.<payload>.<signature>`. The signature is random: only GitHub could verify it.
fn stateless(random: &Random, app: u64, installation: u64, min_length: usize) -> String {
    let encode = |part: serde_json::Value| URL_SAFE_NO_PAD.encode(part.to_string());
    let header = encode(json!({"alg": "RS256", "typ": "JWT", "kid": random.text(HEX, 40)}));
    // Padding of a random length keeps clients from relying on any.
    let padding = usize::try_from(random.below(96)).unwrap_or_default();
    let payload = encode(json!({
        "iss": "github-s2s", "app": app, "installation": installation,
        "jti": random.text(ALPHANUMERIC, 24 + padding),
    }));
    let fixed = format!("ghs_{app}_{header}.{payload}.");
    let wanted = RSA_SIGNATURE_LENGTH.max(min_length.saturating_sub(fixed.len()));
    loop {
        let signature = random.text(BASE64URL, wanted);
        // The two characters that too narrow patterns miss.
        if signature.contains('-') && signature.contains('_') {
            return fixed + &signature;
        }
    }
}

const BASE64URL: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// The length in base64url of a signature by a 2048-bit RSA key.
const RSA_SIGNATURE_LENGTH: usize = 342;
