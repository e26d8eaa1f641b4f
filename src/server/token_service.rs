//! The broker, as handlers use it: with a deadline, metrics and the audit trail.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::context::Context;
use super::reply::ApiError;
use crate::broker::{self, Broker, Origin, Requirement, TokenRequest, Vended};
use crate::telemetry::audit::{self, Requested};
use crate::telemetry::metrics::Metrics;

/// Vends tokens.
#[derive(Clone)]
pub(super) struct TokenService {
    pub(super) broker: Broker,
    pub(super) metrics: Arc<Metrics>,
    /// Longest time that a request is worked on.
    pub(super) request_timeout: Duration,
    /// Cancelled when the in-flight requests have had their time.
    pub(super) abort: CancellationToken,
}

impl TokenService {
    /// A token for `request`, counted and in the audit trail.
    pub(super) async fn vend(&self, request: TokenRequest, context: Context<'_>) -> Result<Vended, ApiError> {
        let app = self.broker.app(request.app.as_ref()).ok();
        let vended = self.within_deadline(self.broker.vend(&request, context.client())).await;
        let outcome = match &vended {
            Ok(Vended { origin: Origin::Cached, .. }) => "cached",
            Ok(Vended { origin: Origin::Minted, .. }) => "minted",
            Err(error) => error.code.as_str(),
        };
        self.metrics.vend(app, outcome);
        if let Ok(vended) = &vended {
            audit::vended(context.audited(), &vended.key, outcome, &vended.entry.hash);
        }
        vended.map_err(|error| ApiError { requested: Some(Box::new(requested(request))), ..error })
    }

    /// What the broker answers, unless it takes longer than any caller would wait.
    pub(super) async fn within_deadline<T>(
        &self,
        answering: impl Future<Output = Result<T, broker::Error>>,
    ) -> Result<T, ApiError> {
        let answering = self.abort.run_until_cancelled(answering);
        let answer = tokio::time::timeout(self.request_timeout, answering).await;
        let answer = answer.map(|answer| answer.unwrap_or(Err(broker::Error::ShuttingDown)));
        answer.map_or_else(|_| Err(ApiError::deadline_exceeded()), |answer| answer.map_err(ApiError::from))
    }
}

fn requested(request: TokenRequest) -> Requested {
    let TokenRequest { selector, scope, user, requirement, .. } = request;
    let min_ttl = match requirement {
        Requirement::MinTtl(life) => Some(life),
        Requirement::Any | Requirement::RecentlyMinted => None,
    };
    Requested { selector, scope: Some(scope), user, min_ttl }
}
