//! Reading files in the background with a timeout: a volume that hangs delays no token and costs one thread.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use tokio::task::{AbortHandle, spawn_blocking};

/// Reads that have timed out and still run.
#[derive(Debug, Default)]
pub(super) struct BoundedFileReads(BTreeMap<String, AbortHandle>);

impl BoundedFileReads {
    /// The result of `read`. `None` if it hangs: then nothing is read under its `name` until it has ended, since every
    /// attempt would block another thread.
    pub(super) async fn one<T, F>(&mut self, name: &str, read: F) -> Option<T>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        self.all([(name.to_owned(), read)]).await.pop().flatten()
    }

    /// The same for several, concurrently.
    pub(super) async fn all<T, F>(&mut self, reads: impl IntoIterator<Item = (String, F)>) -> Vec<Option<T>>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        self.0.retain(|_, read| !read.is_finished());
        let begin = |(name, read): (String, F)| {
            let hangs = self.0.contains_key(&name);
            (!hangs).then(|| (name, spawn_blocking(read)))
        };
        let begun: Vec<_> = reads.into_iter().map(begin).collect();
        let mut found = Vec::with_capacity(begun.len());
        let mut deadline = pin!(tokio::time::sleep(READ_TIMEOUT));
        for read in begun {
            let Some((name, mut read)) = read else {
                found.push(None);
                continue;
            };
            tokio::select! {
                biased;
                read = &mut read => found.push(Some(read.unwrap_or_else(|panicked| {
                    // It is never cancelled, so it has panicked: a defect, by which the daemon ends rather than go on
                    // without it.
                    std::panic::resume_unwind(panicked.into_panic())
                }))),
                () = &mut deadline => {
                    self.0.insert(name, read.abort_handle());
                    found.push(None);
                }
            }
        }
        found
    }
}

/// Long for a few kilobytes, short for an operator who has sent a SIGHUP.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    type Read = Box<dyn FnOnce() -> u8 + Send>;

    #[tokio::test]
    async fn hung_read_is_isolated_and_not_restarted() {
        let mut reads = BoundedFileReads::default();
        let (release, released) = mpsc::channel::<()>();
        let hangs: Read = Box::new(move || released.recv().map_or(0, |()| 1));
        let works: Read = Box::new(|| 2);
        assert_eq!(reads.all([("a".into(), hangs), ("b".into(), works)]).await, [None, Some(2)]);
        let begun_again = || -> u8 { panic!("a second thread would hang") };
        assert_eq!(reads.one("a", begun_again).await, None);
        assert_eq!(reads.one("b", || 3).await, Some(3));

        release.send(()).unwrap();
        while reads.0.values().any(|read| !read.is_finished()) {
            tokio::task::yield_now().await;
        }
        assert_eq!(reads.one("a", || 4).await, Some(4));
    }
}
