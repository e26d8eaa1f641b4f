//! Verification of an app's JWT: parse, `iss`, key, signature, `exp`, `iat`, in this order, each with its own message.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::problem::{Docs, Problem};
use crate::fake_github::options::Options;
use crate::fake_github::world::definition::App;
use crate::fake_github::world::store::Store;

/// A JWT that passed every check.
#[derive(Debug)]
pub(super) struct VerifiedJwt {
    pub(super) app: App,
    /// Seconds since its `iat`.
    pub(super) age: i64,
}

/// Checks `jwt` at `second` of the skewed clock.
pub(super) fn verify(
    store: &Store,
    options: &Options,
    second: i64,
    jwt: &str,
) -> Result<VerifiedJwt, Problem> {
    let parts = Parts::parse(jwt).ok_or_else(Problem::undecodable_jwt)?;
    let app = find_issuer(store, options, &parts.claims)?;
    let keys = store.keys.of_app(&app.name);
    if keys.is_empty() {
        return Err(unauthorized("Integration must generate a public key"));
    }
    if !keys.iter().any(|key| key.verifies(parts.signed.as_bytes(), &parts.signature)) {
        return Err(Problem::undecodable_jwt());
    }
    check_expiry(options, &parts.claims, second)?;
    let age = check_issued_at(options, &parts.claims, second)?;
    Ok(VerifiedJwt { app: app.clone(), age })
}

/// Whether `secret` has the form of a JWT, good or not. Installation tokens, the stateless ones too, do not.
pub(super) fn is_jwt(secret: &str) -> bool {
    Parts::parse(secret).is_some()
}

struct Parts<'a> {
    /// What was signed.
    signed: &'a str,
    signature: Vec<u8>,
    claims: Map<String, Value>,
}

impl<'a> Parts<'a> {
    fn parse(jwt: &'a str) -> Option<Self> {
        let (signed, signature) = jwt.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        // No algorithm but this one: not `none`, nothing keyed with the public key, no other padding.
        if json_part(header)?.get("alg")? != "RS256" {
            return None;
        }
        Some(Self { signed, signature: URL_SAFE_NO_PAD.decode(signature).ok()?, claims: json_part(claims)? })
    }
}

/// The maximum of seconds from now to `exp`.
const MAX_LIFETIME: i64 = 600;

fn json_part(part: &str) -> Option<Map<String, Value>> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

fn find_issuer<'a>(
    store: &'a Store,
    options: &Options,
    claims: &Map<String, Value>,
) -> Result<&'a App, Problem> {
    let id = match claims.get("iss") {
        None | Some(Value::Null) => return Err(unauthorized("Missing 'issuer' claim ('iss') in assertion")),
        Some(Value::String(text)) => {
            let by_client_id =
                store.world.apps.iter().find(|app| options.client_id_iss && app.client_id == *text);
            if let Some(app) = by_client_id {
                return Ok(app);
            }
            text.parse::<u64>().ok()
        }
        Some(value) => value.as_u64(),
    };
    let id = id.ok_or_else(|| unauthorized("'Issuer' claim ('iss') must be an Integer"))?;
    store.world.apps.iter().find(|app| app.id == id).ok_or_else(|| unauthorized("Integration not found"))
}

fn check_expiry(options: &Options, claims: &Map<String, Value>, second: i64) -> Result<(), Problem> {
    match claims.get("exp") {
        None => Err(unauthorized(&options.wording.missing_exp)),
        Some(exp) if exp.as_f64().is_none_or(|exp| exp <= second as f64) => Err(unauthorized(
            "'Expiration time' claim ('exp') must be a numeric value representing the future time at which the \
             assertion expires",
        )),
        Some(exp) if exp.as_f64().is_some_and(|exp| exp > (second + MAX_LIFETIME) as f64) => {
            Err(unauthorized("'Expiration time' claim ('exp') is too far in the future"))
        }
        Some(_) => Ok(()),
    }
}

fn check_issued_at(options: &Options, claims: &Map<String, Value>, second: i64) -> Result<i64, Problem> {
    let iat = claims.get("iat").ok_or_else(|| unauthorized(&options.wording.missing_iat))?;
    iat.as_i64().filter(|iat| *iat <= second.saturating_add(options.iat_leeway)).map(|iat| second - iat).ok_or_else(
        || {
            unauthorized(
                "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued",
            )
        },
    )
}

fn unauthorized(message: &str) -> Problem {
    Problem::new(401, message, Docs::Root)
}
