//! GitHub's own endpoints, served locally: an SDK's app calls go here, and need no private key.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{AUTHORIZATION, CACHE_CONTROL, HeaderMap};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::reply::{Format, NO_STORE, Refusal, Reply, json_object, ok};
use super::{ServedApp, token};
use crate::broker::{self, Kind};
use crate::model::{AppName, Identity, Secret};

/// Which app a call means: the one that `Ghtokend-App` names, else the one whose id the SDK's own JWT has as `iss`. That
/// JWT proves nothing here and is not verified: SDKs insist on sending one, signed with whatever key they were given.
pub(super) fn app(headers: &HeaderMap, apps: &[ServedApp]) -> Result<Option<AppName>, Refusal> {
    if let Some(named) = token::header_app(headers)? {
        return Ok(Some(named));
    }
    let Some(issuer) = issuer(headers).filter(|_| apps.len() > 1) else { return Ok(None) };
    let meant = apps.iter().find(|app| app.id == issuer).and_then(|app| app.name.parse().ok());
    meant.map(Some).ok_or_else(|| {
        let message = "the JWT's iss is the id of no configured app: name the app in the header Ghtokend-App";
        Refusal::new(StatusCode::NOT_FOUND, "unknown_app", message)
    })
}

fn issuer(headers: &HeaderMap) -> Option<String> {
    #[derive(Deserialize)]
    struct Claims {
        iss: serde_json::Value,
    }
    let (_, jwt) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let claims = URL_SAFE_NO_PAD.decode(jwt.trim().split('.').nth(1)?).ok()?;
    match serde_json::from_slice::<Claims>(&claims).ok()?.iss {
        serde_json::Value::String(issuer) => Some(issuer),
        serde_json::Value::Number(issuer) => Some(issuer.to_string()),
        _ => None,
    }
}

/// The nonce in the body of `POST /integration/identity/user`.
pub(super) fn read_nonce(body: &Bytes) -> Result<Secret, Refusal> {
    #[derive(Deserialize)]
    struct Body {
        nonce: String,
    }
    // The error's own text may quote the body, and the body holds the nonce.
    match json_object::<Body>(body) {
        Some(Body { nonce }) if !nonce.is_empty() => Ok(Secret::from(nonce)),
        _ => {
            let message =
                "Validation Failed: the body is {\"nonce\":\"…\"}, the nonce that GitHub sent the user with";
            Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_request", message))
        }
    }
}

/// Who the user is, in GitHub's words.
pub(super) fn identity(identity: &Identity) -> Result<Reply, Refusal> {
    #[derive(Serialize)]
    struct Body<'a> {
        user: &'a RawValue,
        repositories_url: &'a str,
    }
    let user = serde_json::from_str(&identity.user.json);
    let body = user
        .and_then(|user| serde_json::to_vec(&Body { user, repositories_url: &identity.repositories_url }));
    let body = body.map_err(|_| Refusal::from(broker::Error::Crashed))?;
    let mut reply = ok(Format::Json, body.into());
    reply.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    Ok(reply)
}

/// Why GitHub did not say who the user is. None of it is worth a second try with the same nonce.
pub(super) fn no_identity(error: broker::Error) -> Refusal {
    let unknown_nonce = matches!(&error, broker::Error::Github(failure)
        if matches!(failure.kind, Kind::NotFound | Kind::ScopeRefused));
    let refusal = match unknown_nonce {
        true => Refusal::new(StatusCode::NOT_FOUND, "not_found", error.to_string()),
        false => error.into(),
    };
    Refusal { retryable: false, retry_after: None, ..refusal }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn apps() -> Vec<ServedApp> {
        [("release", "Iv23liRelease"), ("triage", "1001")]
            .map(|(name, id)| ServedApp { name: name.into(), id: id.into() })
            .into()
    }

    fn meant(authorization: &str, app_header: Option<&str>) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_str(authorization).unwrap());
        if let Some(name) = app_header {
            headers.insert("ghtokend-app", HeaderValue::from_str(name).unwrap());
        }
        match app(&headers, &apps()) {
            Ok(app) => app.map(|app| app.to_string()),
            Err(refusal) => Some(refusal.code.to_owned()),
        }
    }

    fn jwt(claims: &str) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn the_issuer_of_the_sdks_jwt_chooses_the_app_and_the_header_goes_before_it() {
        for (claims, expected) in [
            (r#"{"iss":"Iv23liRelease"}"#, Some("release")),
            (r#"{"iss":1001}"#, Some("triage")),
            (r#"{"iss":"1001"}"#, Some("triage")),
            (r#"{"iss":4242}"#, Some("unknown_app")),
            (r#"{"iss":null}"#, None),
            ("nonsense", None),
        ] {
            let authorization = format!("bearer {}", jwt(claims));
            assert_eq!(meant(&authorization, None).as_deref(), expected, "{claims}");
            assert_eq!(meant(&authorization, Some("triage")).as_deref(), Some("triage"));
        }
        let mut headers = HeaderMap::new();
        headers.insert(
            AUTHORIZATION,
            HeaderValue::from_str(&format!("Bearer {}", jwt(r#"{"iss":4242}"#))).unwrap(),
        );
        assert_eq!(app(&headers, &apps()[..1]), Ok(None), "with one app there is nothing to choose");
        for authorization in ["", "Bearer", "Bearer x", "Bearer a.b", "Basic eDp5"] {
            assert_eq!(meant(authorization, None), None, "{authorization}");
        }
    }
}
