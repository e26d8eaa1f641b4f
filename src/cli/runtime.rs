//! The tokio runtimes of the commands.

use tokio::runtime::{Builder, Runtime};

use super::failure::Failure;

/// One that serves requests on this many threads.
pub(super) fn runtime(worker_threads: usize) -> std::io::Result<Runtime> {
    match worker_threads {
        // On the calling thread, without a second one.
        0 | 1 => Builder::new_current_thread().enable_all().build(),
        more => Builder::new_multi_thread().worker_threads(more).enable_all().build(),
    }
}

/// Runs a short command's future to its end.
pub(super) fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = runtime(1)?;
    let outcome = runtime.block_on(future);
    // A name server that hangs must not keep the process alive.
    runtime.shutdown_background();
    outcome
}
