//! The system's limit on open files, of which every connection is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// How many connections can be open at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MaxConnections {
    /// To each listener for tokens.
    pub(super) tokens: usize,
    /// To the listener for health and metrics.
    pub(super) ops: usize,
}

/// How many connections can be open at a time if each of `listeners` for tokens wants `wanted`. The limit is raised as
/// far as this process may.
pub(super) fn connections(wanted: usize, listeners: usize) -> MaxConnections {
    let limit = raised();
    let room = max_connections(limit, listeners);
    let tokens = wanted.min(room.tokens);
    if tokens < wanted {
        tracing::warn!(
            limit,
            max_connections = wanted,
            served = tokens,
            "open file limit (ulimit -n) is too low for listen.max_connections; serving fewer connections at a time"
        );
    }
    MaxConnections { tokens, ..room }
}

/// How many calls to GitHub can be in flight at a time.
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

/// What is left of the limit after everything else is shared by the listeners for tokens: a crowd at one of them takes
/// no descriptor from another.
fn max_connections(limit: usize, listeners: usize) -> MaxConnections {
    let ops = (limit / 8).clamp(1, MAX_OPS_CONNECTIONS);
    let others = room_for_calls(limit) + ops + MAX_OTHER_FILES.min(limit / 8);
    MaxConnections { tokens: (limit.saturating_sub(others) / listeners.max(1)).max(1), ops }
}

fn room_for_calls(limit: usize) -> usize {
    (limit / 8).clamp(1, MAX_CALLS)
}

/// GitHub's own limit is a hundred:
/// <https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api#about-secondary-rate-limits>.
const MAX_CALLS: usize = 64;
/// A kubelet and a Prometheus or two.
const MAX_OPS_CONNECTIONS: usize = 64;
/// Listeners, the connection that each of them has accepted and has no place for yet, and files.
const MAX_OTHER_FILES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_file_limit_is_split_between_listeners_and_github() {
        for (limit, listeners, tokens, ops, calls) in [
            (1_048_576, 1, 1_048_432, 64, 64),
            (1_048_576, 2, 524_216, 64, 64),
            (1024, 1, 880, 64, 64),
            (1024, 2, 440, 64, 64),
            (512, 1, 368, 64, 64),
            (128, 1, 80, 16, 16),
            (64, 1, 40, 8, 8),
            (64, 2, 20, 8, 8),
            (8, 1, 5, 1, 1),
            (1, 1, 1, 1, 1),
            (0, 2, 1, 1, 1),
        ] {
            let room = MaxConnections { tokens, ops };
            assert_eq!((max_connections(limit, listeners), room_for_calls(limit)), (room, calls), "{limit}");
        }
    }
}
