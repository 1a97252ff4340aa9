//! An open connection, how it is closed, and how its socket is cut.

use std::{
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use lapin::Connection;

use crate::{
    base::frame::FrameMax,
    link::{
        bounded::{OperationError, bounded},
        sanitizer::Peer,
    },
};

/// The reply code of an orderly close (AMQP 0-9-1, 1.1 "reply-success").
const REPLY_SUCCESS: u16 = 200;

/// A second handle on the TCP socket, to shut the socket down if lapin does not return.
///
/// lapin's connect and close can wait for ever on a silent peer (lapin #409, #437, #470), and its I/O thread then waits
/// too. Shutting the socket down ends both.
#[derive(Clone, Default)]
pub(crate) struct Cutter(Arc<Mutex<Option<TcpStream>>>);

impl Cutter {
    pub(super) fn arm(&self, stream: TcpStream) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(stream);
    }

    /// Shuts the socket down in both directions, at once. If the socket is already gone, nothing happens.
    pub(crate) fn cut(&self) {
        if let Some(stream) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // An error means that the peer has closed the socket first: nothing is left to do.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// An open connection, and the handle that cuts its socket.
pub(crate) struct Socket {
    pub(crate) connection: Connection,
    pub(crate) cutter: Cutter,
    /// What the broker says of itself.
    pub(crate) peer: Peer,
    pub(crate) address: SocketAddr,
}

impl Socket {
    /// The largest frame, as negotiated with the broker.
    pub(crate) fn frame_max(&self) -> FrameMax {
        FrameMax::new(self.connection.configuration().frame_max())
    }

    /// Sends `connection.close` and waits for the broker's answer for up to `limit`. If there is no answer or the close
    /// fails, this shuts the socket down and returns the reason. [Close](close_channel) the channels first.
    pub(crate) async fn close(&self, why: &str, limit: Duration) -> Result<(), String> {
        let closing = bounded(limit, self.connection.close(REPLY_SUCCESS, why.into()));
        let closed = closing.await.map_err(|error| not_closed("connection.close", error));
        if closed.is_err() {
            self.cutter.cut();
        }
        closed
    }
}

/// Closes `channel` and waits for the broker's answer for up to `limit`. When the broker has answered, it has acted
/// upon everything that was written on the channel, the last acks included.
///
/// Do not leave the closing to the drop of the last handle. lapin 4.12.3 then closes the channel at some later time; if
/// `connection.close` comes first, it gives up on both and drops the socket without a close, and the broker loses
/// whatever it has not read by then.
pub(crate) async fn close_channel(channel: &lapin::Channel, limit: Duration) -> Result<(), String> {
    let closed = bounded(limit, channel.close(REPLY_SUCCESS, "done".into())).await;
    closed.map_err(|error| not_closed("channel.close", error))
}

fn not_closed(method: &str, error: OperationError) -> String {
    match error {
        OperationError::Failed(_) => format!("{method} failed: {error}"),
        OperationError::Unanswered(limit) => format!("{method} was not answered within {limit:?}"),
    }
}

/// Cuts the socket when dropped, unless it was disarmed: a connection attempt that is dropped leaves no socket behind.
pub(super) struct CutOnDrop(Option<Cutter>);

impl CutOnDrop {
    pub(super) fn new(cutter: Cutter) -> Self {
        Self(Some(cutter))
    }

    /// The connection is open and has an owner: it stays open.
    pub(super) fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for CutOnDrop {
    fn drop(&mut self) {
        if let Some(cutter) = self.0.take() {
            cutter.cut();
        }
    }
}
