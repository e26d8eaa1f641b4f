//! The journal of requests, and counters. Secrets do not get in here: credentials only as their hashes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::Serialize;

use crate::fake_github::clock::iso;
use crate::fake_github::digest::{redact, sha256_base64};
use crate::fake_github::wire::request::Request;

/// One request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JournalEntry {
    /// The method.
    pub method: String,
    /// The path as it was sent, with the query.
    pub path: String,
    /// The status; `None` while there is no response, or where the connection was reset instead.
    pub status: Option<u16>,
    /// The names of the headers, in lower case.
    pub header_names: Vec<String>,
    /// Base64 of the SHA-256 of the credential, whatever its scheme.
    pub credential_sha256: Option<String>,
    /// When it arrived, by GitHub's clock.
    pub at: String,
}

/// Sums since the start or the last reset.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Counters {
    /// Requests of any kind.
    pub requests: usize,
    /// Attempts to mint: `POST …/access_tokens`.
    pub mint_requests: usize,
    /// Tokens minted, whether or not the response arrived.
    pub mints: usize,
    /// The maximum of attempts to mint in flight.
    pub mints_in_flight_max: usize,
    /// Distinct JWTs that were accepted.
    pub distinct_jwts: usize,
    /// The largest age, in seconds since its `iat`, of an accepted JWT.
    pub jwt_age_max: i64,
    /// Requests by route, for example `POST /app/installations/{installation_id}/access_tokens`.
    pub by_route: BTreeMap<String, usize>,
    /// Tokens minted, by installation.
    pub mints_by_installation: BTreeMap<u64, usize>,
    /// Tokens minted, by installation and requested scope, for example
    /// `1 permissions=contents:read repositories=widgets`, or `1 user_id=42` by the preview of 2016.
    pub mints_by_scope: BTreeMap<String, usize>,
}

/// Journal and counters.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    entries: VecDeque<JournalEntry>,
    counters: Counters,
    jwts: BTreeSet<String>,
    in_flight: usize,
    mints_in_flight: usize,
    /// The number of entries before these, so that the status of a request in flight does not land in the wrong one.
    dropped: usize,
}

impl Journal {
    /// Adds an entry for `request`, which is in flight from now on. The number is for [`Journal::record_status`].
    pub(crate) fn begin(&mut self, request: &Request, second: i64) -> usize {
        self.in_flight += 1;
        self.counters.requests += 1;
        if is_mint(request) {
            self.counters.mint_requests += 1;
            self.mints_in_flight += 1;
            self.counters.mints_in_flight_max = self.counters.mints_in_flight_max.max(self.mints_in_flight);
        }
        if self.entries.len() >= MAX_ENTRIES {
            self.entries.pop_front();
            self.dropped += 1;
        }
        self.entries.push_back(JournalEntry {
            method: request.method.clone(),
            path: redact(&request.target),
            status: None,
            header_names: request.headers.keys().map(ToString::to_string).collect(),
            credential_sha256: request.credential().secret().map(|secret| sha256_base64(secret.as_bytes())),
            at: iso(second),
        });
        self.dropped + self.entries.len() - 1
    }

    pub(crate) fn record_status(&mut self, number: usize, status: u16) {
        if let Some(entry) = number.checked_sub(self.dropped).and_then(|at| self.entries.get_mut(at)) {
            entry.status = Some(status);
        }
    }

    /// `request` is in flight no longer, answered or not.
    pub(crate) fn end(&mut self, request: &Request) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if is_mint(request) {
            self.mints_in_flight = self.mints_in_flight.saturating_sub(1);
        }
    }

    /// Counts a request for `route`, such as `GET /app`.
    pub(crate) fn count_route(&mut self, route: String) {
        *self.counters.by_route.entry(route).or_default() += 1;
    }

    pub(crate) fn record_jwt(&mut self, jwt: &str, age: i64) {
        if self.jwts.insert(sha256_base64(jwt.as_bytes())) {
            self.counters.distinct_jwts += 1;
        }
        self.counters.jwt_age_max = self.counters.jwt_age_max.max(age);
    }

    pub(crate) fn record_mint(&mut self, installation: u64, scope: &str) {
        self.counters.mints += 1;
        *self.counters.mints_by_installation.entry(installation).or_default() += 1;
        *self
            .counters
            .mints_by_scope
            .entry(format!("{installation} {scope}").trim_end().to_owned())
            .or_default() += 1;
    }

    pub(crate) fn entries(&self) -> &VecDeque<JournalEntry> {
        &self.entries
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Requests in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub(crate) fn count(&self, method: &str, path: &str) -> usize {
        let bare = |entry: &JournalEntry| {
            entry.path.split_once('?').map_or(entry.path.as_str(), |(path, _)| path) == path
        };
        self.entries.iter().filter(|entry| entry.method == method && bare(entry)).count()
    }

    /// Drops everything but the requests in flight.
    pub(crate) fn reset(&mut self) {
        self.dropped += self.entries.len();
        self.entries.clear();
        self.jwts.clear();
        self.counters = Counters { mints_in_flight_max: self.mints_in_flight, ..Counters::default() };
    }
}

/// The oldest entries are dropped, so that an emulator can run for weeks. The counters count on.
const MAX_ENTRIES: usize = 100_000;

fn is_mint(request: &Request) -> bool {
    request.method == "POST" && request.path.as_deref().is_some_and(|path| path.ends_with("/access_tokens"))
}
