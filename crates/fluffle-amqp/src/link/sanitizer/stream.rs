//! The stream that lapin reads from: the socket, TLS if the endpoint uses it, and the sanitizer above both.

// The reactor requires these traits of a socket. Unix and Windows have different ones.
#[cfg(unix)]
use std::os::fd::{AsFd as AsOwned, AsRawFd as AsRaw};
#[cfg(windows)]
use std::os::windows::io::{AsRawSocket as AsRaw, AsSocket as AsOwned};
use std::{
    io::{self, IoSlice, Read, Write},
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use async_rs::{Runtime, Tokio, traits::Reactor, util::RuntimeParts};
use futures_io::{AsyncRead, AsyncWrite};
use futures_util::Stream;
use lapin::AsyncTcpStream;

use crate::link::sanitizer::frames::{Looked, Sanitizer};

/// The TCP stream type of tokio's reactor.
pub(crate) type TokioStream = <Tokio as Reactor>::TcpStream;

/// lapin's runtime: tokio with sanitized streams.
pub(crate) type SanitizedRuntime = Runtime<RuntimeParts<Tokio, SanitizingReactor>>;

/// The current tokio runtime, with sanitized streams.
pub(crate) fn runtime() -> SanitizedRuntime {
    Runtime::new(RuntimeParts::new(Tokio::current(), SanitizingReactor(Tokio::current())))
}

/// Bytes read at a time if lapin's buffer has less room than the held bytes need.
const SCRATCH: usize = 16 * 1024;

/// A stream whose readers receive only sound frames.
pub(crate) struct Sanitized<S> {
    inner: S,
    sanitizer: Sanitizer,
    /// The beginning of a frame that has not arrived whole.
    held: Vec<u8>,
    /// Checked bytes for the reader; they are delivered before anything else is read.
    ready: Vec<u8>,
    /// How many bytes of `ready` the reader has taken.
    taken: usize,
}

impl<S> Sanitized<S> {
    /// Puts `sanitizer` above `inner`.
    pub(crate) fn new(inner: S, sanitizer: Sanitizer) -> Self {
        Self { inner, sanitizer, held: Vec::new(), ready: Vec::new(), taken: 0 }
    }

    fn take_ready(&mut self, to: &mut [u8]) -> usize {
        let left = &self.ready[self.taken..];
        let length = left.len().min(to.len());
        to[..length].copy_from_slice(&left[..length]);
        self.taken += length;
        if self.taken == self.ready.len() {
            self.ready.clear();
            self.taken = 0;
        }
        length
    }

    /// Checks all of `bytes`. Returns how many of them, from the first on, the reader gets as they are. The bytes
    /// behind those are held back, or are ready in another form.
    fn look(&mut self, bytes: &mut [u8]) -> usize {
        let (sound, replaced, instead) = match self.sanitizer.look(bytes) {
            Looked::Sound(sound) => {
                self.held.extend_from_slice(&bytes[sound..]);
                return sound;
            }
            Looked::Replaced { sound, replaced, instead } => (sound, replaced, instead),
        };
        self.ready.extend_from_slice(&instead);
        let mut rest = &mut bytes[sound + replaced..];
        while !rest.is_empty() {
            match self.sanitizer.look(rest) {
                Looked::Sound(sound) => {
                    self.ready.extend_from_slice(&rest[..sound]);
                    self.held.extend_from_slice(&rest[sound..]);
                    break;
                }
                Looked::Replaced { sound, replaced, instead } => {
                    self.ready.extend_from_slice(&rest[..sound]);
                    self.ready.extend_from_slice(&instead);
                    rest = &mut rest[sound + replaced..];
                }
            }
        }
        sound
    }
}

impl<S: AsyncRead + Unpin> Sanitized<S> {
    /// Reads into the reader's buffer, behind the held bytes; the buffer has room for more than those.
    fn poll_into(&mut self, cx: &mut Context<'_>, to: &mut [u8]) -> Poll<io::Result<Option<usize>>> {
        let held = self.held.len();
        let read = ready!(Pin::new(&mut self.inner).poll_read(cx, &mut to[held..]))?;
        if read == 0 {
            return Poll::Ready(Ok(None));
        }
        to[..held].copy_from_slice(&self.held);
        self.held.clear();
        Poll::Ready(Ok(Some(self.look(&mut to[..held + read]))))
    }

    /// Reads into memory of its own, for a reader whose buffer is too small for the held bytes.
    fn poll_aside(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<usize>>> {
        let mut scratch = [0; SCRATCH];
        let read = ready!(Pin::new(&mut self.inner).poll_read(cx, &mut scratch))?;
        if read == 0 {
            return Poll::Ready(Ok(None));
        }
        let mut bytes = std::mem::take(&mut self.held);
        bytes.extend_from_slice(&scratch[..read]);
        let sound = self.look(&mut bytes);
        // In front of the bytes that look() has put there: nothing was ready when this was called.
        self.ready.splice(..0, bytes.drain(..sound));
        Poll::Ready(Ok(Some(0)))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Sanitized<S> {
    /// Cancellation safe, as any `poll_read`: no bytes are lost.
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut [u8]) -> Poll<io::Result<usize>> {
        if to.is_empty() {
            return Poll::Ready(Ok(0));
        }
        loop {
            if !self.ready.is_empty() {
                return Poll::Ready(Ok(self.take_ready(to)));
            }
            let read = if self.held.len() < to.len() { self.poll_into(cx, to) } else { self.poll_aside(cx) };
            match ready!(read)? {
                // The stream has ended: the held frame never becomes whole.
                None => return Poll::Ready(Ok(0)),
                Some(0) => {}
                Some(sound) => return Poll::Ready(Ok(sound)),
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Sanitized<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

/// Tokio's reactor with sanitized TCP streams, which may also be TLS streams.
///
/// lapin requires that its connector returns the stream type of its runtime's reactor; this reactor names the sanitized
/// type.
#[derive(Clone, Debug)]
pub(crate) struct SanitizingReactor(Tokio);

impl Reactor for SanitizingReactor {
    type TcpStream = Sanitized<AsyncTcpStream<TokioStream>>;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: Read + Write + AsOwned + AsRaw + Send + 'static>(
        &self,
        socket: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        self.0.register(socket)
    }

    fn sleep(&self, duration: Duration) -> Self::Sleep {
        self.0.sleep(duration)
    }

    fn interval(&self, duration: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.0.interval(duration)
    }

    fn tcp_connect_addr(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        let connecting = self.0.tcp_connect_addr(address);
        async move { Ok(Sanitized::new(AsyncTcpStream::Plain(connecting.await?), Sanitizer::new(0))) }
    }
}
