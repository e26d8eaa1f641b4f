//! Selects one of several apps for a call of an SDK.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::header::{AUTHORIZATION, HeaderMap};
use serde::Deserialize;

use crate::model::{AppName, ErrorCode};
use crate::server::config::ServedApp;
use crate::server::reply::ApiError;
use crate::server::token;

/// Which app a call means: the one that `Ghtokend-App` names, else the one whose id the SDK's own JWT has as `iss`. That
/// JWT proves nothing here and is not verified: SDKs insist on sending one, signed with whatever key they were given.
pub(super) fn app(headers: &HeaderMap, apps: &[ServedApp]) -> Result<Option<AppName>, ApiError> {
    if let Some(named) = token::header_app(headers)? {
        return Ok(Some(named));
    }
    let Some(issuer) = issuer(headers).filter(|_| apps.len() > 1) else { return Ok(None) };
    let selected = apps.iter().find(|app| app.id == issuer).and_then(|app| app.name.parse().ok());
    selected.map(Some).ok_or_else(|| {
        let ids: Vec<_> = apps.iter().map(|app| format!("{} ({})", app.id, app.name)).collect();
        let ids = ids.join(", ");
        let message = format!(
            "the JWT's iss is the id of no configured app: use one of {ids}, or name the app in the header Ghtokend-App"
        );
        ApiError::new(ErrorCode::UnknownApp, message)
    })
}

/// How base64url of a JSON object begins.
const JSON_OBJECT: &str = "ey";

fn issuer(headers: &HeaderMap) -> Option<String> {
    #[derive(Deserialize)]
    struct Claims {
        iss: serde_json::Value,
    }
    let (_, jwt) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let mut segments = jwt.trim().split('.');
    // GitHub's newer installation tokens have a JWT in them, with an issuer that is no app.
    segments.next().filter(|header| header.starts_with(JSON_OBJECT))?;
    let claims = URL_SAFE_NO_PAD.decode(segments.next()?).ok()?;
    match serde_json::from_slice::<Claims>(&claims).ok()?.iss {
        serde_json::Value::String(issuer) => Some(issuer),
        serde_json::Value::Number(issuer) => Some(issuer.to_string()),
        _ => None,
    }
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
            Err(error) => Some(error.code.as_str().to_owned()),
        }
    }

    fn jwt(claims: &str) -> String {
        format!("eyJhbGciOiJSUzI1NiJ9.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn app_header_precedes_jwt_issuer() {
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
        let token = format!("token ghs_1001_{}", jwt(r#"{"iss":"github-s2s"}"#));
        for authorization in ["", "Bearer", "Bearer x", "Bearer a.b", "Basic eDp5", &token] {
            assert_eq!(meant(authorization, None), None, "{authorization}");
        }
    }
}
