//! What the API listener does with a request: journal, faults, GitHub's response, holds, and faults again.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue};
use tokio::time::sleep;

use super::middleware::Middleware;
use super::replacement::{Replacement, replacement};
use crate::fake_github::faults::fault::Effect;
use crate::fake_github::state::State;
use crate::fake_github::wire::body::{ConnectionReset, ResponseBody};
use crate::fake_github::wire::request::Request;
use crate::fake_github::wire::response::RawResponse;
use crate::fake_github::wire::server::Service;

/// The service of the API listener.
pub(crate) fn service(state: Arc<State>) -> Service {
    Arc::new(move |request| Box::pin(serve(state.clone(), request)))
}

async fn serve(
    state: Arc<State>,
    request: hyper::Request<Incoming>,
) -> Result<hyper::Response<ResponseBody>, ConnectionReset> {
    let request = Request::read(request, state.options.mode.path_prefix()).await;
    let journaled = JournalGuard::begin(&state, &request);
    let effects = state.faults.lock().take_matching(&request, &state.random);
    let response = respond(&state, &request, &effects).await?;
    state.holds.wait(&request).await;
    for effect in &effects {
        match effect {
            // The fault is to be slow.
            Effect::SlowHeaders { millis } => sleep(Duration::from_millis(*millis)).await,
            Effect::ResetAfter => return Err(ConnectionReset),
            _ => {}
        }
    }
    journaled.record_status(response.status);
    Ok(into_hyper(response, &effects))
}

/// The response, by GitHub or by a fault in its place. No lock is held when this returns.
async fn respond(
    state: &State,
    request: &Request,
    effects: &[Effect],
) -> Result<RawResponse, ConnectionReset> {
    let mut middleware = Middleware::new(state, request);
    if let Some(route) = middleware.route() {
        state.journal.lock().count_route(route);
    }
    let response = match effects.iter().find_map(|effect| replacement(state, request, effect)) {
        Some(Replacement::Reset) => return Err(ConnectionReset),
        Some(Replacement::Stall) => return std::future::pending().await,
        Some(Replacement::Response(response)) => response,
        None => middleware.respond(effects),
    };
    Ok(middleware.finish(response))
}

fn into_hyper(mut raw: RawResponse, effects: &[Effect]) -> hyper::Response<ResponseBody> {
    let mut body: fn(Vec<u8>, Duration) -> ResponseBody = |bytes, _| ResponseBody::whole(bytes);
    let mut pause = Duration::ZERO;
    for effect in effects {
        match effect {
            Effect::MissingDate => raw.headers.retain(|(name, _)| name != "Date"),
            Effect::ContentType { value } => {
                raw.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("Content-Type"));
                raw.headers.push(("Content-Type".into(), value.clone()));
            }
            Effect::HugeBody { bytes } => raw.body.resize(raw.body.len().max(*bytes), b' '),
            Effect::TruncatedBody => raw.body.truncate(raw.body.len() / 2),
            Effect::CutBody => body = |bytes, _| ResponseBody::cut(bytes),
            Effect::SlowBody { millis } => {
                pause = Duration::from_millis(*millis);
                body = |bytes, pause| ResponseBody::slow(bytes, pause);
            }
            _ => {}
        }
    }
    let mut response = hyper::Response::new(body(raw.body, pause));
    *response.status_mut() = hyper::StatusCode::from_u16(raw.status).unwrap_or_default();
    for (name, value) in raw.headers {
        // Only a header of a fault can be malformed, and then it is left out.
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().append(name, value);
        }
    }
    response
}

/// A request in the journal, in flight until this is dropped.
struct JournalGuard<'a> {
    state: &'a State,
    request: &'a Request,
    number: usize,
}

impl<'a> JournalGuard<'a> {
    fn begin(state: &'a State, request: &'a Request) -> Self {
        let number = state.journal.lock().begin(request, state.clock.skewed_second());
        Self { state, request, number }
    }

    fn record_status(&self, status: u16) {
        tracing::debug!(method = self.request.method, path = self.request.path, status, "request answered");
        self.state.journal.lock().record_status(self.number, status);
    }
}

impl Drop for JournalGuard<'_> {
    fn drop(&mut self) {
        self.state.journal.lock().end(self.request);
    }
}
