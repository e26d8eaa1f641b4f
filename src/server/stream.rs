//! The socket below hyper: it has deadlines, and its part in the memory for request heads.
//!
//! hyper's own header timeout counts from the end of the last answer, so that a connection that may idle for long may
//! also take that long for half a head. Here the head has a deadline of its own.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};
use tokio_util::sync::PollSemaphore;

use super::memory::{FREE_HEAD_BYTES, MAX_HEAD_BUFFER, permits};
use super::slots::Slot;

/// How long a client may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timeouts {
    /// From the end of an answer, or from the connection, to the first byte of a request.
    pub(super) idle: Duration,
    /// From that byte to the end of the head, however often more of it comes.
    pub(super) head: Duration,
}

/// A connection's socket.
pub(super) struct BoundedStream<S> {
    inner: S,
    slot: Arc<Slot>,
    timeouts: Timeouts,
    reading: Deadline,
    writing: Deadline,
    /// Whether bytes of the next request have come.
    has_head_begun: bool,
    /// The most bytes of the next request that hyper may hold.
    head_bytes: usize,
    /// The most of them that may have come behind the request that is served.
    bytes_behind_request: usize,
    head_memory: PollSemaphore,
    head_permit: Option<OwnedSemaphorePermit>,
    is_write_closed: bool,
}

/// What the server waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaited {
    Request,
    RestOfHead,
    ReadsAnswer,
    Closes,
}

impl<S: AsyncRead + AsyncWrite + Unpin> BoundedStream<S> {
    pub(super) fn new(inner: S, slot: Arc<Slot>, timeouts: Timeouts, head_memory: Arc<Semaphore>) -> Self {
        Self {
            inner,
            slot,
            timeouts,
            reading: Deadline::default(),
            writing: Deadline::default(),
            has_head_begun: false,
            head_bytes: 0,
            bytes_behind_request: 0,
            head_memory: PollSemaphore::new(head_memory),
            head_permit: None,
            is_write_closed: false,
        }
    }

    /// Whether the deadline for a request has passed.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.slot.is_active() {
            self.reading.stop();
            return Poll::Pending;
        }
        match self.has_head_begun {
            false => self.reading.poll(cx, Awaited::Request, self.timeouts.idle),
            true => self.reading.poll(cx, Awaited::RestOfHead, self.timeouts.head),
        }
    }

    fn poll_read_some(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let most = ready!(self.poll_allowance(cx)) as u64;
        let before = buffer.filled().len();
        ready!(Pin::new(&mut (&mut self.inner).take(most)).poll_read(cx, buffer))?;
        let read = buffer.filled().len() - before;
        if self.slot.is_active() {
            self.bytes_behind_request = read;
        } else {
            self.head_bytes += read;
            self.has_head_begun |= read > 0;
        }
        Poll::Ready(Ok(()))
    }

    /// How many bytes may be read. What a head has beyond the first of them needs its share of the memory for heads, and
    /// waits for it, at the longest until the head's deadline.
    fn poll_allowance(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        if self.slot.is_active() || self.head_permit.is_some() {
            return Poll::Ready(FREE_HEAD_BYTES);
        }
        let free = FREE_HEAD_BYTES.saturating_sub(self.head_bytes);
        if free == 0 {
            let further = permits(MAX_HEAD_BUFFER - FREE_HEAD_BYTES);
            self.head_permit = ready!(self.head_memory.poll_acquire_many(cx, further));
            return Poll::Ready(FREE_HEAD_BYTES);
        }
        Poll::Ready(free)
    }

    /// `written`, unless the deadline to read the answer has passed.
    fn until_deadline<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_pending() && self.writing.poll(cx, Awaited::ReadsAnswer, WRITE_TIMEOUT).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        written
    }

    /// Reads and drops the rest, for a while. A socket that is closed with bytes unread resets its connection, and an
    /// answer that the client has not read by then is lost: RFC 9112, section 9.6.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut unread = [0; 4096];
        while self.reading.poll(cx, Awaited::Closes, LINGER_TIMEOUT).is_pending() {
            let mut buffer = ReadBuf::new(&mut unread);
            ready!(Pin::new(&mut self.inner).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for BoundedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Before the bytes: those that drip in do not extend the time for a head.
        if self.has_head_begun && self.poll_deadline(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let read = self.poll_read_some(cx, buffer);
        if read.is_pending() && self.poll_deadline(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for BoundedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.until_deadline(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, pieces);
        self.until_deadline(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    /// hyper calls this when it has nothing more to write.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
        self.writing.stop();
        if self.slot.finish_request() {
            self.reading.stop();
            self.has_head_begun = false;
            self.head_bytes = std::mem::take(&mut self.bytes_behind_request);
            self.head_permit = None;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_write_closed {
            ready!(Pin::new(&mut self.inner).poll_shutdown(cx))?;
            self.is_write_closed = true;
        }
        // After a head that is no head, its rest may still be on its way too.
        match self.has_head_begun || self.slot.leaves_bytes_unread() {
            true => self.poll_linger(cx),
            false => Poll::Ready(Ok(())),
        }
    }
}

/// A deadline for one thing at a time.
#[derive(Default)]
struct Deadline {
    timer: Option<Pin<Box<Sleep>>>,
    awaited: Option<Awaited>,
}

impl Deadline {
    /// Whether `awaited` has been waited for this long, from the first call on.
    fn poll(&mut self, cx: &mut Context<'_>, awaited: Awaited, timeout: Duration) -> Poll<()> {
        if self.awaited != Some(awaited) {
            self.awaited = Some(awaited);
            match &mut self.timer {
                // Its place in memory is used again.
                Some(timer) => timer.as_mut().reset(sleep(timeout).deadline()),
                None => self.timer = Some(Box::pin(sleep(timeout))),
            }
        }
        self.timer.as_mut().map_or(Poll::Pending, |timer| timer.as_mut().poll(cx))
    }

    fn stop(&mut self) {
        self.awaited = None;
    }
}

/// For an answer that the socket's buffers do not hold, all of it. Most answers they do.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// For the rest of a request that got an error.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

    use super::*;
    use crate::server::memory::RequestMemory;
    use crate::server::slots::Slots;
    use crate::telemetry::metrics::Metrics;

    const LONG: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(50);

    /// A client, its connection, and the connection's place.
    async fn connection(timeouts: Timeouts) -> (DuplexStream, BoundedStream<DuplexStream>, Arc<Slot>) {
        let (client, server) = duplex(1 << 20);
        let slots = Slots::new(1, Metrics::default().connections("tcp"));
        let slot = Arc::new(slots.acquire().await);
        let stream =
            BoundedStream::new(server, Arc::clone(&slot), timeouts, RequestMemory::default().heads());
        (client, stream, slot)
    }

    /// Reads until there is an error. Returns it, and how much was read.
    async fn read_to_error(stream: &mut BoundedStream<DuplexStream>) -> (usize, io::ErrorKind) {
        let mut read = 0;
        loop {
            match stream.read(&mut [0; 64 * 1024]).await {
                Ok(0) => return (read, io::ErrorKind::UnexpectedEof),
                Ok(bytes) => read += bytes,
                Err(error) => return (read, error.kind()),
            }
        }
    }

    #[tokio::test]
    async fn half_a_head_has_a_deadline_of_its_own() {
        let (mut client, mut stream, _) = connection(Timeouts { idle: LONG, head: SHORT }).await;
        client.write_all(b"GET /tok").await.unwrap();
        assert_eq!(read_to_error(&mut stream).await, (8, io::ErrorKind::TimedOut));
    }

    #[tokio::test]
    async fn dripping_bytes_do_not_extend_the_head_deadline() {
        let (mut client, mut stream, _) = connection(Timeouts { idle: LONG, head: SHORT }).await;
        let dripping = async {
            while client.write_all(b"x").await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        let error = tokio::select! {
            (_, error) = read_to_error(&mut stream) => error,
            () = dripping => panic!("the client was cut off"),
        };
        assert_eq!(error, io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn an_idle_connection_has_a_deadline_of_its_own() {
        let (_client, mut stream, slot) = connection(Timeouts { idle: SHORT, head: LONG }).await;
        assert_eq!(read_to_error(&mut stream).await, (0, io::ErrorKind::TimedOut));
        // While a request is in flight there is no deadline; after its answer it starts anew.
        slot.begin_request();
        assert!(tokio::time::timeout(SHORT * 2, stream.read(&mut [0])).await.is_err());
        slot.answer();
        stream.flush().await.unwrap();
        assert!(!slot.is_active());
        assert_eq!(read_to_error(&mut stream).await, (0, io::ErrorKind::TimedOut));
    }

    #[tokio::test]
    async fn a_long_head_needs_its_share_of_the_memory() {
        let (mut client, mut stream, _) = connection(Timeouts { idle: LONG, head: SHORT }).await;
        let memory = stream.head_memory.clone_inner();
        let all = memory.available_permits();
        let taken = memory.try_acquire_many(u32::try_from(all).unwrap()).unwrap();
        client.write_all(&[b'x'; 20 * 1024]).await.unwrap();
        assert_eq!(read_to_error(&mut stream).await, (FREE_HEAD_BYTES, io::ErrorKind::TimedOut));
        drop(taken);
        let (mut client, mut stream, slot) = connection(Timeouts { idle: LONG, head: LONG }).await;
        client.write_all(&[b'x'; 20 * 1024]).await.unwrap();
        stream.read_exact(&mut [0; 20 * 1024]).await.unwrap();
        let memory = stream.head_memory.clone_inner();
        assert_eq!(memory.available_permits(), all - 16);
        slot.begin_request();
        slot.answer();
        stream.flush().await.unwrap();
        assert_eq!(memory.available_permits(), all);
    }

    #[tokio::test]
    async fn pipelined_bytes_count_for_the_next_head() {
        let (mut client, mut stream, slot) = connection(Timeouts { idle: LONG, head: SHORT }).await;
        slot.begin_request();
        client.write_all(&[b'x'; FREE_HEAD_BYTES]).await.unwrap();
        stream.read_exact(&mut [0; FREE_HEAD_BYTES]).await.unwrap();
        slot.answer();
        stream.flush().await.unwrap();
        let memory = stream.head_memory.clone_inner();
        let all = memory.available_permits();
        client.write_all(b"x").await.unwrap();
        stream.read_exact(&mut [0]).await.unwrap();
        assert!(memory.available_permits() < all);
        slot.begin_request();
        slot.answer();
        stream.flush().await.unwrap();
        assert_eq!(memory.available_permits(), all);
    }

    #[tokio::test]
    async fn a_closed_connection_lingers_while_bytes_are_unread() {
        for leaves_bytes_unread in [true, false] {
            let (mut client, mut stream, slot) = connection(Timeouts { idle: LONG, head: LONG }).await;
            if leaves_bytes_unread {
                slot.leave_bytes_unread();
            }
            let closing = tokio::spawn(async move { stream.shutdown().await.map(|()| stream) });
            assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
            let more_than_fits = vec![b'x'; 2 << 20];
            let sent = tokio::time::timeout(SHORT * 4, client.write_all(&more_than_fits)).await.is_ok();
            assert_eq!(sent, leaves_bytes_unread);
            drop(client);
            closing.await.unwrap().unwrap();
        }
    }
}
