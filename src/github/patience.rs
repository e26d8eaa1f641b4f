//! What is done when GitHub fails: little, so that it is not made worse. Every call to GitHub passes here.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;

use super::answer::Answer;
use super::breaker::{Breaker, Closed, Fault, Pass};
use super::failure::{Asked, Failure, Kind, classify};
use super::gate::Gates;
use super::request::Request;
use super::retry::{self, Budget};
use crate::clock::Clock;
use crate::model::AppName;

/// Lets calls through, or not, and makes them once more where that is worth it.
pub(crate) struct Patience {
    clock: Arc<dyn Clock>,
    breaker: Breaker,
    gates: Gates,
    retries: Budget,
    /// No call is made once more that long after the first time.
    limit: Duration,
}

impl Patience {
    /// Patience for calls that take no longer than `limit`.
    pub(crate) fn new(clock: Arc<dyn Clock>, limit: Duration) -> Self {
        let retries = Budget::new(clock.boot());
        Self { clock, breaker: Breaker::default(), gates: Gates::default(), retries, limit }
    }

    /// Something about `app` has changed: what GitHub thought of it before counts no longer.
    pub(crate) fn forget(&self, app: &AppName) {
        self.gates.forget_refusal(app);
    }

    /// What `call`, which makes `request`, brings as `app`, made up to three times if it fails in passing.
    pub(crate) async fn with<F>(
        &self,
        app: &AppName,
        request: &Request,
        call: impl Fn() -> F,
    ) -> Result<Answer, Failure>
    where
        F: Future<Output = Result<Answer, Failure>>,
    {
        let began = self.clock.boot();
        let mut pauses = retry::pauses();
        self.retries.earn();
        loop {
            let answer = self.once(app, request, &call).await;
            if !may_pass(&answer) || self.clock.boot().since(began) >= self.limit {
                return answer;
            }
            let Some(pause) = pauses.next() else { return answer };
            if self.breaker.enter(self.clock.boot()).is_err() || !self.retries.spend(self.clock.boot()) {
                return answer;
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// What `call`, which makes `request`, brings as `app`, made once at most.
    pub(crate) async fn once<F>(
        &self,
        app: &AppName,
        request: &Request,
        call: impl Fn() -> F,
    ) -> Result<Answer, Failure>
    where
        F: Future<Output = Result<Answer, Failure>>,
    {
        let entered = self.clock.boot();
        self.gates.enter(app, entered)?;
        let mut answer = self.ungated(request, call).await;
        if let Ok(answer) = &mut answer {
            let failure = classify(answer);
            match (answer.status, failure.kind) {
                // Other refusals are of one installation, or of what was asked.
                (401, _) | (_, Kind::RateLimited) => {
                    let wait = self.gates.close(app, failure, answer.named_wait(), self.clock.boot());
                    answer.name_wait(wait);
                }
                (500.., _) => {}
                _ => self.gates.open(app, entered),
            }
        }
        answer
    }

    /// What `call` brings that no app makes, made once at most.
    pub(crate) async fn ungated<F>(&self, request: &Request, call: impl Fn() -> F) -> Result<Answer, Failure>
    where
        F: Future<Output = Result<Answer, Failure>>,
    {
        let pass = self.enter().await?;
        let answer = call().await;
        self.tell(pass, request, &answer);
        answer
    }

    /// Lets a call through. Who comes while another one finds out whether GitHub is back waits for what it finds.
    async fn enter(&self) -> Result<Pass<'_>, Failure> {
        loop {
            let mut probes = self.breaker.probes();
            match self.breaker.enter(self.clock.boot()) {
                Ok(pass) => return Ok(pass),
                Err(Closed::For { wait, last }) => return Err(left_alone(wait, &last)),
                // The breaker is ours, so its probes do not end before this.
                Err(Closed::WhileProbed) => drop(probes.changed().await),
            }
        }
    }

    fn tell(&self, pass: Pass<'_>, request: &Request, answer: &Result<Answer, Failure>) {
        let failure = match answer {
            Ok(answer) if answer.status < 500 => return pass.answered(),
            Ok(answer) => classify(answer),
            Err(failure) => failure.clone(),
        };
        match failure.kind {
            Kind::Unavailable | Kind::TimedOut => {
                // Failed mints are remembered one by one; whatever else fails says that GitHub does.
                let reached = answer.is_ok() || failure.kind == Kind::TimedOut;
                let may_be_alone = reached && request.method == Method::POST;
                let target = may_be_alone.then(|| request.url.path().to_owned());
                pass.failed(self.clock.boot(), Fault { how: failure.message, target });
            }
            _ => pass.answered(),
        }
    }
}

/// Whether the same call may have more success in a moment. Who is told how long to wait does not come at once.
fn may_pass(answer: &Result<Answer, Failure>) -> bool {
    match answer {
        Ok(answer) => matches!(answer.status, 500 | 502 | 503 | 504) && answer.named_wait().is_none(),
        // What has timed out has used up its caller's time.
        Err(failure) => failure.kind == Kind::Unavailable,
    }
}

fn left_alone(wait: Duration, last: &str) -> Failure {
    let message =
        format!("GitHub fails again and again, and is left alone for some seconds; the last time: {last}");
    Failure { retry_after: Some(wait), asked: Asked::Nobody, ..Failure::new(Kind::Unavailable, message) }
}
