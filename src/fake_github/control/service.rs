//! What the control listener does with a request.

use std::sync::Arc;

use hyper::body::Incoming;
use serde_json::json;

use super::context::{ControlContext, ControlError, Outcome};
use super::routes::{find, help};
use crate::fake_github::state::State;
use crate::fake_github::wire::body::ResponseBody;
use crate::fake_github::wire::request::Request;
use crate::fake_github::wire::server::Service;

/// The service of the control listener, which is at `url`.
pub(crate) fn service(state: Arc<State>, url: String) -> Service {
    let url: Arc<str> = url.into();
    Arc::new(move |request| {
        let (state, url) = (state.clone(), url.clone());
        Box::pin(async move { Ok(serve(&state, &url, request).await) })
    })
}

async fn serve(state: &State, url: &str, request: hyper::Request<Incoming>) -> hyper::Response<ResponseBody> {
    let request = Request::read(request, "").await;
    let path = request.path.as_deref().unwrap_or_default();
    let (status, content_type, body) = if (request.method.as_str(), path) == ("GET", "/") {
        (200, "text/plain; charset=utf-8", help(url))
    } else {
        let (status, body) = match respond(state, &request, path) {
            Ok(body) => (200, body),
            Err(ControlError { status, message }) => (status, json!({ "error": message })),
        };
        (status, "application/json", format!("{body:#}\n"))
    };
    let mut response = hyper::Response::new(ResponseBody::whole(body));
    *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or_default();
    response.headers_mut().insert("content-type", hyper::header::HeaderValue::from_static(content_type));
    response
}

fn respond(state: &State, request: &Request, path: &str) -> Outcome {
    let (handler, parameters) = find(&request.method, path)?;
    handler(&ControlContext { state, request, parameters })
}
