//! The system's limit on open files, of which every connection is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// How many connections of callers can be served at a time if `wanted` are. The limit is raised as far as this process
/// may.
pub(super) fn connections(wanted: usize) -> usize {
    let limit = raised();
    let served = wanted.min(room_for_callers(limit));
    if served < wanted {
        tracing::warn!(
            limit,
            max_connections = wanted,
            served,
            "the limit on open files (ulimit -n) has no room for listen.max_connections: fewer are served at a time"
        );
    }
    served
}

/// How many calls to GitHub can be under way at a time.
pub(super) fn calls() -> usize {
    room_for_calls(raised())
}

/// The soft limit is low for the sake of programs that use `select`, which we do not: the hard one is meant for us.
fn raised() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit { current: limit.maximum, ..limit };
        if setrlimit(Resource::Nofile, raised).is_ok() {
            limit.current = limit.maximum;
        }
    }
    limit.current.and_then(|limit| limit.try_into().ok()).unwrap_or(usize::MAX)
}

fn room_for_callers(limit: usize) -> usize {
    (limit - room_for_calls(limit).min(limit) - OTHERS.min(limit / 4)).max(1)
}

fn room_for_calls(limit: usize) -> usize {
    (limit / 8).clamp(1, MOST_CALLS)
}

/// GitHub's own limit is a hundred:
/// <https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api#about-secondary-rate-limits>.
const MOST_CALLS: usize = 64;
/// Listeners, files, and whoever looks at health and metrics.
const OTHERS: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_files_are_left_for_calls_to_github_and_for_what_is_no_connection() {
        for (limit, callers, calls) in [
            (1_048_576, 1_048_432, 64),
            (1024, 880, 64),
            (512, 368, 64),
            (128, 80, 16),
            (64, 40, 8),
            (8, 5, 1),
            (1, 1, 1),
            (0, 1, 1),
        ] {
            assert_eq!((room_for_callers(limit), room_for_calls(limit)), (callers, calls), "{limit}");
        }
    }
}
