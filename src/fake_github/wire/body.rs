//! The body of a response on the wire: whole, slow, or cut off.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

/// The connection is to be reset, not closed.
#[derive(Debug, thiserror::Error)]
#[error("connection reset by a fault of the emulator")]
pub(crate) struct ConnectionReset;

/// Chunks with pauses between them.
#[derive(Debug)]
pub(crate) struct ResponseBody {
    chunks: VecDeque<Bytes>,
    declared: u64,
    pause: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
    cut: bool,
}

impl ResponseBody {
    pub(crate) fn whole(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let declared = bytes.len() as u64;
        let chunks = if bytes.is_empty() { VecDeque::new() } else { VecDeque::from([bytes]) };
        Self { chunks, declared, pause: Duration::ZERO, waiting: None, cut: false }
    }

    /// `bytes` in a few chunks with `pause` before each but the first.
    pub(crate) fn slow(bytes: impl Into<Bytes>, pause: Duration) -> Self {
        let bytes = bytes.into();
        let size = bytes.len().div_ceil(SLOW_CHUNKS).max(1);
        let chunks =
            (0..bytes.len()).step_by(size).map(|at| bytes.slice(at..bytes.len().min(at + size))).collect();
        Self { chunks, pause, ..Self::whole(bytes) }
    }

    /// The first half of `bytes` under the length of all of them, then a reset.
    pub(crate) fn cut(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let half = VecDeque::from([bytes.slice(..bytes.len() / 2)]);
        Self { chunks: half, pause: BEFORE_CUT, cut: true, ..Self::whole(bytes) }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = ConnectionReset;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ConnectionReset>>> {
        let this = self.get_mut();
        if let Some(waiting) = &mut this.waiting {
            std::task::ready!(waiting.as_mut().poll(cx));
            this.waiting = None;
        }
        let Some(chunk) = this.chunks.pop_front() else {
            return Poll::Ready(this.cut.then_some(Err(ConnectionReset)));
        };
        if !this.pause.is_zero() && !this.is_end_stream() {
            this.waiting = Some(Box::pin(sleep(this.pause)));
        }
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.chunks.is_empty() && !self.cut
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.declared)
    }
}

const SLOW_CHUNKS: usize = 4;
/// Long enough for the first half to be on its way before the connection is reset.
const BEFORE_CUT: Duration = Duration::from_millis(20);
