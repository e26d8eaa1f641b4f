//! The listeners, and a request from the wire to the wire.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::Response;
use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::body::{Cut, Payload};
use super::request::Request;
use super::response::Answer;
use crate::fake_github::api::middleware::{Finished, Frame};
use crate::fake_github::faults::fault::Effect;
use crate::fake_github::state::Shared;
use crate::fake_github::state::{prefix, refusal};
use crate::fake_github::world::limits::{Caller, Quota, login_lockout, primary_limit, secondary_limit};

/// What a listener does with a request.
pub(crate) type Service = Arc<
    dyn Fn(hyper::Request<Incoming>) -> Pin<Box<dyn Future<Output = Result<Response<Payload>, Cut>> + Send>>
        + Send
        + Sync,
>;

/// Listens at `address`, which must be this machine's own.
pub(crate) async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    if !address.ip().is_loopback() {
        return Err(refusal(format!(
            "{address} is not a loopback address; the emulator listens on no other"
        )));
    }
    TcpListener::bind(address).await
}

/// Serves until it is aborted, and all connections with it.
pub(crate) async fn accept(listener: TcpListener, service: Service) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(connection(stream, service.clone()))),
                // Out of file descriptors, most likely: connections that end give some back.
                Err(error) => {
                    tracing::warn!(%error, "the emulator cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// What the API does with a request.
pub(crate) fn api(shared: Arc<Shared>) -> Service {
    Arc::new(move |request| Box::pin(serve(shared.clone(), request)))
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

async fn connection(stream: TcpStream, service: Service) {
    let _ = stream.set_nodelay(true);
    let serve = service_fn(move |request| service(request));
    let mut connection =
        http1::Builder::new().auto_date_header(false).serve_connection(TokioIo::new(stream), serve);
    let end = std::future::poll_fn(|cx| connection.poll_without_shutdown(cx)).await;
    let mut stream = connection.into_parts().io.into_inner();
    match end {
        Err(error) if std::error::Error::source(&error).is_some_and(|source| source.is::<Cut>()) => {
            // With nothing to linger for, closing sends a reset.
            let _ = stream.set_zero_linger();
        }
        _ => drop(stream.shutdown().await),
    }
}

async fn serve(shared: Arc<Shared>, request: hyper::Request<Incoming>) -> Result<Response<Payload>, Cut> {
    let request = Request::read(request, prefix(shared.options.mode)).await;
    let visit = Visit::begin(&shared, &request);
    let effects = shared.faults.lock().meet(&request, &shared.random);
    let finished = respond(&shared, &request, &effects).await?;
    shared.holds.pass(&request).await;
    for effect in &effects {
        match effect {
            Effect::SlowHeaders { millis } => sleep(Duration::from_millis(*millis)).await,
            Effect::ResetAfter => return Err(Cut),
            _ => {}
        }
    }
    visit.answered(finished.status);
    Ok(response(finished, &effects))
}

/// The answer, by GitHub or by a fault in its place. All locks are free again when it is there.
async fn respond(shared: &Shared, request: &Request, effects: &[Effect]) -> Result<Finished, Cut> {
    let mut frame = Frame::new(shared, request);
    if let Some((method, template)) = frame.route() {
        shared.journal.lock().routed(method, template);
    }
    let answer = match effects.iter().find(|effect| effect.replaces_the_answer()) {
        Some(Effect::ResetBefore) => return Err(Cut),
        Some(Effect::Stall) => return std::future::pending().await,
        Some(effect) => replacement(shared, request, effect),
        None => frame.answer(effects),
    };
    Ok(frame.finish(answer))
}

fn replacement(shared: &Shared, request: &Request, effect: &Effect) -> Answer {
    match effect {
        Effect::Status { status, body, headers } => {
            let answer = Answer::text(*status, "application/json; charset=utf-8", body);
            headers.iter().fold(answer, |answer, (name, value)| answer.with_header(name, value))
        }
        Effect::PrimaryLimit { status, reset_seconds } => {
            let limit = shared.options.installation_rate_limit;
            let reset = shared.clock.shown_second().saturating_add(*reset_seconds);
            let caller = Caller::Installation(installation_of(shared, request).unwrap_or(1));
            primary_limit(*status, caller, Quota { limit, used: limit, reset })
        }
        Effect::SecondaryLimit { status, retry_after } => {
            let limit = shared.options.installation_rate_limit;
            let quota = Quota { limit, used: 1, reset: shared.clock.shown_second() + 3600 };
            let retry_after = retry_after.map(|seconds| ("Retry-After", seconds.to_string()));
            let headers = quota.headers().into_iter().chain(retry_after);
            headers.fold(secondary_limit(*status), |answer, (name, value)| answer.with_header(name, value))
        }
        Effect::Html { status } => Answer::text(*status, "text/html; charset=utf-8", UNICORN),
        Effect::Redirect { location, status } => {
            Answer::text(*status, "text/html; charset=utf-8", "").with_header("Location", location)
        }
        _ => login_lockout(&shared.options),
    }
}

/// The installation that the path names or the token is for.
fn installation_of(shared: &Shared, request: &Request) -> Option<u64> {
    let path = request.path.as_deref().map(|path| path.strip_prefix("/app").unwrap_or(path));
    let named = path.and_then(|path| path.strip_prefix("/installations/"));
    if let Some(id) = named.and_then(|rest| rest.split('/').next()) {
        return id.parse().ok();
    }
    let store = shared.store.lock();
    let token = store.live_token(request.credential().secret()?, shared.clock.now())?;
    Some(token.installation)
}

const UNICORN: &str = "<!DOCTYPE html>\n<html>\n<head><title>Unicorn! &middot; GitHub</title></head>\n<body>\n\
                       <p><strong>We had issues producing the response to your request.</strong></p>\n</body>\n</html>\n";

fn response(mut finished: Finished, effects: &[Effect]) -> Response<Payload> {
    let mut payload: fn(Vec<u8>, Duration) -> Payload = |body, _| Payload::whole(body);
    let mut pause = Duration::ZERO;
    for effect in effects {
        match effect {
            Effect::MissingDate => finished.headers.retain(|(name, _)| name != "Date"),
            Effect::ContentType { value } => {
                finished.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("Content-Type"));
                finished.headers.push(("Content-Type".into(), value.clone()));
            }
            Effect::HugeBody { bytes } => finished.body.resize(finished.body.len().max(*bytes), b' '),
            Effect::TruncatedBody => finished.body.truncate(finished.body.len() / 2),
            Effect::CutBody => payload = |body, _| Payload::cut(body),
            Effect::SlowBody { millis } => {
                pause = Duration::from_millis(*millis);
                payload = |body, pause| Payload::slow(body, pause);
            }
            _ => {}
        }
    }
    let mut response = Response::new(payload(finished.body, pause));
    *response.status_mut() = hyper::StatusCode::from_u16(finished.status).unwrap_or_default();
    for (name, value) in finished.headers {
        // Only a scripted header can be malformed, and then it is left out.
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().append(name, value);
        }
    }
    response
}

/// A request in the journal, from its arrival until it is over, however that comes about.
struct Visit<'a> {
    shared: &'a Shared,
    request: &'a Request,
    number: usize,
}

impl<'a> Visit<'a> {
    fn begin(shared: &'a Shared, request: &'a Request) -> Self {
        let number = shared.journal.lock().arrived(request, shared.clock.shown_second());
        Self { shared, request, number }
    }

    fn answered(&self, status: u16) {
        tracing::debug!(
            method = self.request.method,
            path = self.request.path,
            status,
            "the emulator answers"
        );
        self.shared.journal.lock().answered(self.number, status);
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        self.shared.journal.lock().left(self.request);
    }
}
