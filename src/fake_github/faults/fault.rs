//! Faults: what goes wrong, for which requests, and how often.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::fake_github::random::Random;
use crate::fake_github::wire::request::Request;
use crate::fake_github::world::definition::Permissions;

/// An effect, armed for some requests.
///
/// Faults apply in the order they were armed. Of those that respond instead of GitHub, only the first applies to a
/// request; of every other effect, only the first of its kind. So two faults of a kind happen one after the other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Only requests with this method. Default: all.
    #[serde(default)]
    pub method: Option<String>,
    /// Only requests whose path, without `/api/v3`, begins with this. Default: all.
    #[serde(default)]
    pub path: Option<String>,
    /// How many requests it applies to before it is disarmed. Default: no limit.
    #[serde(default)]
    pub times: Option<u32>,
    /// The probability that it applies to a matching request, from 0 to 1. Default 1.
    #[serde(default = "always")]
    pub probability: f64,
    /// What goes wrong.
    pub effect: Effect,
}

/// What goes wrong. In JSON, `kind` names it: `{"kind": "slow_headers", "millis": 500}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Effect {
    /// This response, and nothing is done.
    Status {
        /// The status.
        status: u16,
        /// The body. Default: empty.
        #[serde(default)]
        body: String,
        /// More headers, or other values of the usual ones.
        #[serde(default)]
        headers: BTreeMap<String, String>,
    },
    /// The primary rate limit: `x-ratelimit-remaining: 0`, and nothing is done.
    PrimaryLimit {
        /// 403 or 429. Default 403.
        #[serde(default = "forbidden")]
        status: u16,
        /// Seconds until `x-ratelimit-reset`. Default 60.
        #[serde(default = "minute")]
        reset_seconds: i64,
    },
    /// The secondary rate limit, with requests remaining, and nothing is done.
    SecondaryLimit {
        /// 403 or 429. Default 403.
        #[serde(default = "forbidden")]
        status: u16,
        /// Seconds in `Retry-After`. Default: no such header.
        #[serde(default)]
        retry_after: Option<u64>,
    },
    /// 403, as after too many refused credentials, and nothing is done.
    LoginLockout,
    /// A page in HTML, as from a proxy or load balancer in front of GitHub, and nothing is done.
    Html {
        /// The status, such as 500, 502 or 503.
        status: u16,
    },
    /// A redirect, and nothing is done.
    Redirect {
        /// `Location`.
        location: String,
        /// The status. Default 302.
        #[serde(default = "found")]
        status: u16,
    },
    /// The connection is reset, and nothing is done.
    ResetBefore,
    /// No response ever comes, and nothing is done.
    Stall,
    /// The request is carried out, then the connection is reset.
    ResetAfter,
    /// The first half of the response under its full length, then the connection is reset.
    CutBody,
    /// The first half of the response as if it were all.
    TruncatedBody,
    /// The response begins only after a while.
    SlowHeaders {
        /// How long.
        millis: u64,
    },
    /// The response comes in four pieces with a pause before each but the first.
    SlowBody {
        /// How long each pause is.
        millis: u64,
    },
    /// The response has another content type.
    ContentType {
        /// The `Content-Type`, for example `text/html`.
        value: String,
    },
    /// No `Date`.
    MissingDate,
    /// The response is followed by blanks up to this size.
    HugeBody {
        /// The size in bytes, for example 9000000.
        bytes: usize,
    },
    /// A minted token's response has this `expires_at`, whenever it really expires.
    ExpiresAt {
        /// Any text. Default: the field is missing.
        #[serde(default)]
        value: Option<String>,
    },
    /// A minted token lives this long. Zero or less: it has expired already, and `expires_at` is in the past.
    Lifetime {
        /// Seconds instead of 3600.
        seconds: i64,
    },
    /// A minted token may do more than was requested.
    WiderGrant {
        /// Permissions added to those requested.
        #[serde(default)]
        permissions: Permissions,
        /// Repositories of the installation.
        #[serde(default)]
        repositories: WiderRepositories,
    },
    /// A minted token is this text, and works.
    Token {
        /// The token.
        value: String,
    },
}

/// What a [`Effect::WiderGrant`] does to the repositories.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WiderRepositories {
    /// Those requested.
    #[default]
    #[serde(rename = "asked")]
    Requested,
    /// All that the installation has. A `user_id` of the preview of 2016 is ignored, and the response shows it.
    All,
}

impl Fault {
    /// `effect` for every request, without limit.
    pub fn new(effect: Effect) -> Self {
        Self { method: None, path: None, times: None, probability: always(), effect }
    }

    /// Only for requests with this method and a path that begins with `path`.
    pub fn on(self, method: &str, path: &str) -> Self {
        Self { method: Some(method.into()), path: Some(path.into()), ..self }
    }

    /// Only for this many requests.
    pub fn times(self, times: u32) -> Self {
        Self { times: Some(times), ..self }
    }

    /// Only with this probability, from 0 to 1.
    pub fn with_probability(self, probability: f64) -> Self {
        Self { probability, ..self }
    }

    /// What is invalid, naming the field.
    pub(crate) fn check(&self) -> Result<(), String> {
        if !(0.0..=1.0).contains(&self.probability) {
            return Err("`probability` must be from 0 to 1".into());
        }
        let status = match self.effect {
            Effect::PrimaryLimit { status, .. } | Effect::SecondaryLimit { status, .. } => {
                return if matches!(status, 403 | 429) {
                    Ok(())
                } else {
                    Err("`status` must be 403 or 429".into())
                };
            }
            Effect::Status { status, .. } | Effect::Html { status } | Effect::Redirect { status, .. } => {
                status
            }
            _ => 200,
        };
        if (200..=599).contains(&status) { Ok(()) } else { Err("`status` must be from 200 to 599".into()) }
    }
}

impl Effect {
    /// Whether this takes the place of GitHub's response instead of changing it.
    fn replaces_response(&self) -> bool {
        match self {
            Self::Status { .. }
            | Self::PrimaryLimit { .. }
            | Self::SecondaryLimit { .. }
            | Self::LoginLockout
            | Self::Html { .. }
            | Self::Redirect { .. }
            | Self::ResetBefore
            | Self::Stall => true,
            Self::ResetAfter
            | Self::CutBody
            | Self::TruncatedBody
            | Self::SlowHeaders { .. }
            | Self::SlowBody { .. }
            | Self::ContentType { .. }
            | Self::MissingDate
            | Self::HugeBody { .. }
            | Self::ExpiresAt { .. }
            | Self::Lifetime { .. }
            | Self::WiderGrant { .. }
            | Self::Token { .. } => false,
        }
    }

    fn excludes(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
            || (self.replaces_response() && other.replaces_response())
    }
}

/// The armed faults.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<Fault>);

impl Faults {
    pub(crate) fn arm(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn armed(&self) -> &[Fault] {
        &self.0
    }

    /// The effects that apply to `request`. Each counts down its fault.
    pub(crate) fn take_matching(&mut self, request: &Request, random: &Random) -> Vec<Effect> {
        let mut effects: Vec<Effect> = Vec::new();
        for fault in &mut self.0 {
            let matches = request.matches(fault.method.as_deref(), fault.path.as_deref())
                && fault.times != Some(0)
                && !effects.iter().any(|effect| effect.excludes(&fault.effect));
            if matches && random.random_bool(fault.probability) {
                fault.times = fault.times.map(|times| times - 1);
                effects.push(fault.effect.clone());
            }
        }
        self.0.retain(|fault| fault.times != Some(0));
        effects
    }
}

fn always() -> f64 {
    1.0
}

fn forbidden() -> u16 {
    403
}

fn found() -> u16 {
    302
}

fn minute() -> i64 {
    60
}
