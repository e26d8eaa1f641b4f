//! ghtokend: a sidecar daemon that holds a GitHub App's private key, fetches installation tokens, keeps them until
//! shortly before they expire, and hands them out on localhost. The manual is [`guide`].
//!
//! # Where to begin
//!
//! With the way of a request. It is a straight line down the layers, and its answer comes back the same way, as a
//! return value: no callbacks upward, no shared bag of context, no event bus.
//!
//! ```text
//! socket ── server::accept      accepts, bounds, drains
//!        ── server::handler     hands a request to its endpoint: one match
//!        ── server::route       which endpoint: one match                                              pure
//!        ── caller              who calls, by which proof: name, uid, fair share
//!        ── server::guard       keeps out web pages, proxies and forged requests                       pure
//!        ── server::token       the query becomes a TokenRequest                                       pure
//!        ── Broker::vend ────── broker::installations   which installation is meant
//!                          ├─── broker::cache           the cached tokens of a key: the one in service, the next one
//!                          ├─── broker::freshness       fresh, renewing, stale or expired?                  pure
//!                          ├─── broker::decision        serve, refresh, wait for a mint, or fail?           pure
//!                          └─── broker::minter          single flight: one mint per key, in a task of its own
//!                                 └── github::Upstream ── github::dialect   which calls, and what is said in them
//!                                       ├── github::admission   may it be asked, and whose turn is it?
//!                                       │     negative_cache: back-off, remembered failures · fair_queue · places · budget   pure
//!                                       ├── github::http        sends, retries, reads the answer
//!                                       ├── github::auth        signs: app JWT and key ring
//!                                       └── github::failure     what an error means, and what it speaks for   pure
//!        ── server::reply       outcomes become status and sentence (failures of GitHub bring their code)
//! ```
//!
//! What happens without a request is one sweep a second, `broker::refresh`: it refreshes what is in use before it expires
//! and mints what is listed for the start. It looks only at what `broker::cache::schedule` says is due; how fast GitHub is
//! asked, admission decides. What is not found by its key (a hash, an installation, what expires next)
//! `broker::cache::index` finds; what GitHub has taken back, `broker::invalidation_log` knows by number.
//!
//! | module | what it is | may use, beside `model` and `clock` |
//! |---|---|---|
//! | [`cli`] | the commands, a file each | `app`, `client`, `api`, `settings`, `telemetry`, `shutdown`, `secret_file`, `fake_github` |
//! | [`app`], [`shutdown`] | build all of it, run it, stop it | everything below |
//! | [`server`] | the local HTTP endpoint | `api`, `broker`, `caller`, `telemetry` |
//! | [`broker`] | which token, and when to mint one | `github`, `backoff`, `single_flight`, `jitter`, `keyed_hash`, `telemetry` |
//! | [`github`] | the way out to GitHub, in either of its two dialects | `backoff`, `single_flight`, `jitter`, `keyed_hash`, `secret_file` |
//! | `caller` | who calls: a file per proof | – |
//! | `backoff` | exponential back-off | – |
//! | `single_flight` | single flight: one call per key at a time, and who waits for it | – |
//! | `jitter` | keeps what happened together from happening together again | – |
//! | `keyed_hash` | stands for long keys | – |
//! | `secret_file` | reads small files that hold secrets | – |
//! | [`model`], [`clock`] | the words of the domain, and time | – |
//! | [`settings`] | file, environment and flags, checked | `secret_file` |
//! | [`telemetry`] | log, audit, metrics | – |
//! | [`client`], [`api`] | our own endpoint, from the caller's side | – |
//! | [`guide`] | the manual; no code | – |
//! | `fake_github` | GitHub, written from GitHub's documents; shares nothing with [`github`] | – |
//!
//! Beside the way of a request there is one task: [`app::reload`] looks at the files of keys and secrets, and on SIGHUP
//! reads the configuration.
//!
//! What GitHub tells by webhook takes the way of a request too: `server::webhook`, `github::webhook` (is it GitHub, and
//! what does it say), `broker::invalidation` (what it invalidates).
//!
//! `tests/it/architecture/tidy.rs` holds this table; `tests/support/world.rs` starts all of it against the fake GitHub.
//!
//! # Glossary
//!
//! The terms of the field, and where each has its place; `tests/it/architecture/tidy.rs` holds this too.
//!
//! | term | here | place |
//! |---|---|---|
//! | admission control | the one way to GitHub, for every kind of call | `github/admission.rs` |
//! | app JWT | proves that we are the app, for ten minutes at most | `github/auth/jwt.rs` |
//! | audit | who got which token, by its hash | `telemetry/audit.rs` |
//! | back-off | pauses that double with each failure in a row | `backoff.rs` |
//! | background refresh | renewal before a token expires | `broker/refresh/scheduler.rs` |
//! | caller proof | who calls: the client header, the peer's uid | `caller/callers.rs` |
//! | capabilities | what a dialect can do, for those who do not speak it | `model/dialect.rs` |
//! | clock | time as an argument; GitHub's as an offset | `clock.rs` |
//! | concurrency limit | calls to GitHub in flight | `github/admission/places.rs` |
//! | CSRF, SSRF | what the guards keep out | `server/guard.rs` |
//! | decision | which token a caller gets: from the cache, from a mint, or none | `broker/decision.rs` |
//! | dialect | one of GitHub's APIs, and how it is spoken | `github/dialect.rs` |
//! | DNS resolver | host names to addresses | `github/http/dns.rs` |
//! | error code | what programs read of an error | `model/error_code.rs` |
//! | fair queue | whose call goes next | `github/admission/fair_queue.rs` |
//! | freshness | fresh, renewing, stale or expired | `broker/freshness.rs` |
//! | graceful shutdown | drain first, then end | `shutdown.rs` |
//! | installation look-up | from a selector to an installation | `broker/installations/resolver.rs` |
//! | invalidation log | what GitHub has taken back | `broker/invalidation_log.rs` |
//! | jitter | spreads renewals and retries | `jitter.rs` |
//! | key ring | the private keys of an app, and their rotation | `github/auth/key_ring.rs` |
//! | negative cache | what GitHub has refused, and until when | `github/admission/negative_cache.rs` |
//! | prefetch | tokens minted at start | `broker/refresh/prefetch.rs` |
//! | rate limiter | points and mints a minute | `github/admission/budget.rs` |
//! | readiness | whether GitHub accepts each app | `broker/readiness.rs` |
//! | retry budget | bounds the retries of transient failures | `github/admission/retry.rs` |
//! | secret | a value that cannot print itself, and its redaction | `model/secret.rs` |
//! | secret file | bounded in size, and a pipe cannot hang it | `secret_file.rs` |
//! | signer | signs app JWTs, wherever the key is | `github/auth/signer.rs` |
//! | single flight | one call per key at a time | `single_flight.rs` |
//! | stale-while-revalidate | look-ups served while they are asked for anew | `github/staleness.rs` |
//! | token hash | what a token is known by | `broker/cache/token_hash.rs` |
//! | token parameters | how a caller says which token: query, TOML, JSON, command line | `model/token_parameters.rs` |
//! | webhook event | what GitHub says of installations and tokens | `model/webhook_event.rs` |
//!
//! # Invariants
//!
//! - No expired token is handed out, no live one is thrown away for a failure of GitHub's.
//! - Nobody waits for GitHub who asks for a token that is good for five minutes more; cached look-ups
//!   are served stale while GitHub is slow.
//! - For one key there is never more than one mint under way, and no caller can cancel it.
//! - Every call to GitHub passes `github::admission`. What fails is remembered for as much as the answer speaks for; nothing
//!   healthy waits for what is broken; who is turned away has cost nothing.
//! - Nothing that a caller can trigger takes time in proportion to what is cached, and every memory, queue and buffer is
//!   bounded.
//! - Time is an argument ([`clock::Clock`]). Lifetimes are measured on the boot-time clock, from GitHub's `Date`.
//! - A broken key file or configuration changes nothing: what works stays in use.
//! - No secret can print itself ([`model::Secret`]); none is logged, none stands in an error or a metric.
//! - Nothing but [`settings`] reads the environment; nothing but `broker::cache` knows moka; nothing outside
//!   [`github`] knows GitHub's wire shapes; no `unsafe`.
//! - Nothing is written to disk but the unix socket, the log and the audit file.

#![forbid(unsafe_code)]

pub mod api;
pub mod app;
mod backoff;
pub mod broker;
mod caller;
pub mod cli;
pub mod client;
pub mod clock;
#[cfg(feature = "fake-github")]
pub mod fake_github;
pub mod github;
pub mod guide;
mod jitter;
mod keyed_hash;
pub mod model;
mod secret_file;
pub mod server;
pub mod settings;
pub mod shutdown;
mod single_flight;
pub mod telemetry;
