//! The error code: what programs read in a body, in metrics and in the audit log, and what is decided by it.

/// Makes the enum of its rows: a variant is the name of a code, its statuses, whether the same request may succeed
/// later, and what to do.
macro_rules! error_codes {
    ($($(#[$doc:meta])* $code:ident = $name:literal, $statuses:expr, $retry:ident, $advice:literal;)*) => {
        /// What went wrong, for programs.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ErrorCode {
            $($(#[$doc])* $code,)*
        }

        impl ErrorCode {
            /// All of them, by status.
            pub const ALL: &[Self] = &[$(Self::$code,)*];

            /// As it stands in a body and in a label.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$code => $name,)* }
            }

            /// The HTTP statuses that it comes with, the usual one first.
            pub const fn statuses(self) -> &'static [u16] {
                match self { $(Self::$code => &$statuses,)* }
            }

            /// Whether the same request may succeed later, without anything being changed by people.
            pub const fn is_retryable(self) -> bool {
                match self { $(Self::$code => matches!(Retry::$retry, Retry::Later),)* }
            }

            /// What to do about it, as long as nothing more is known: the end of a sentence.
            pub const fn advice(self) -> &'static str {
                match self { $(Self::$code => $advice,)* }
            }
        }
    };
}

/// When the same request makes sense again.
enum Retry {
    /// After a while.
    Later,
    /// Once people have changed something.
    Never,
}

error_codes! {
    /// Parameters or a body that are malformed or contradict each other; 422 where GitHub would say so.
    InvalidRequest = "invalid_request", [400, 422], Never, "correct what the message names";
    /// A guard refuses the caller.
    CallerForbidden = "caller_forbidden", [403], Never, "call from this machine, with a Ghtokend-Client header";
    /// An owner has suspended the installation.
    InstallationSuspended = "installation_suspended", [403], Never,
        "an owner of the account must unsuspend the app in its settings";
    /// GitHub has no such installation for this app.
    UnknownInstallation = "unknown_installation", [404], Never,
        "check that the app is installed there, with `ghtokend check`";
    /// No such app is configured.
    UnknownApp = "unknown_app", [404], Never, "use the name of a configured app";
    /// No such route, or no such nonce.
    NotFound = "not_found", [404], Never, "send calls to GitHub's API there, with the token";
    /// The route has other methods.
    MethodNotAllowed = "method_not_allowed", [405], Never, "use a method that Allow names";
    /// The body, or the head, is too large.
    TooLarge = "too_large", [413, 431], Never, "send less";
    /// The installation does not have what was asked for.
    ScopeNotGranted = "scope_not_granted", [422], Never,
        "ask for less, or have an owner accept more permissions for the app";
    /// No token on behalf of this user.
    UserNotAuthorized = "user_not_authorized", [422], Never,
        "check the number of the user, and that the user belongs to the account";
    /// The dialect has no tokens on behalf of users.
    UserTokensUnsupported = "user_tokens_unsupported", [422], Never, "ask for what this GitHub can do";
    /// The dialect lacks what was asked for.
    UnsupportedUpstream = "unsupported_upstream", [422], Never, "ask for what this GitHub can do";
    /// The caller has spent its share.
    CallerLimited = "caller_limited", [429], Later, "ask for fewer tokens, and wait as long as Retry-After says";
    /// GitHub limits the app, or a budget is spent.
    RateLimited = "rate_limited", [429], Later, "wait as long as Retry-After says";
    /// A defect of this program.
    Internal = "internal", [500], Later, "report it, with the log";
    /// GitHub does not accept key, app id or clock.
    AppRejected = "app_rejected", [502], Never,
        "check app.id, the private key and the machine's clock with `ghtokend check`";
    /// An answer of GitHub that is not trusted.
    BadUpstreamResponse = "bad_upstream_response", [502], Later, "check github.api_url and github.api_version";
    /// Too many calls or bodies are in flight.
    Overloaded = "overloaded", [503], Later, "this is usually transient: try again";
    /// GitHub cannot be reached, or fails.
    GithubUnavailable = "github_unavailable", [503], Later, "this is usually transient: try again";
    /// The daemon drains.
    ShuttingDown = "shutting_down", [503], Later, "ask the daemon that takes its place";
    /// GitHub did not answer in time.
    GithubTimeout = "github_timeout", [504], Later, "this is usually transient: try again";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_have_distinct_names_and_error_statuses() {
        let names: BTreeSet<_> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(names.len(), ErrorCode::ALL.len());
        for code in ErrorCode::ALL {
            assert!(!code.statuses().is_empty(), "{code:?}");
            assert!(code.statuses().iter().all(|status| (400..600).contains(status)), "{code:?}");
        }
    }
}
