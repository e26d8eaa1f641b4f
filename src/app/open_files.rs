//! The system's limit on open files, of which every connection is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// How many connections can be served at a time if `wanted` are. The limit is raised as far as this process may.
pub(super) fn connections(wanted: usize) -> usize {
    let limit = raised();
    let served = wanted.min(room(limit));
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

fn room(limit: usize) -> usize {
    (limit - RESERVE.min(limit / 2)).max(1)
}

/// For listeners, connections to GitHub, files and whoever looks at health and metrics.
const RESERVE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_files_are_left_for_what_is_no_connection() {
        for (limit, served) in [(1_048_576, 1_048_512), (1024, 960), (128, 64), (64, 32), (1, 1), (0, 1)] {
            assert_eq!(room(limit), served, "{limit}");
        }
    }
}
