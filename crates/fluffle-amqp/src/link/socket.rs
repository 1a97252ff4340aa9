//! One socket to one endpoint: every await on it is bounded, and it can always be cut.

mod candidates;
mod connect;
mod race;

use std::{
    net::{Shutdown, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use lapin::Connection;
use tokio::time::timeout;

pub(crate) use self::connect::{ConnectError, connect};
use crate::{base::frame::FrameMax, link::class::ClientError};

/// How AMQP calls a good end.
const REPLY_SUCCESS: u16 = 200;

/// A second handle on the TCP socket, to shut it down when lapin does not come back.
///
/// lapin's connect and close can wait for ever on a silent peer (lapin #409, #437, #470) and its I/O thread would wait
/// with them: shutting the socket down ends both.
#[derive(Clone, Default)]
pub(crate) struct Cutter(Arc<Mutex<Option<TcpStream>>>);

impl Cutter {
    fn arm(&self, stream: TcpStream) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(stream);
    }

    /// Shuts the socket down, both ways, at once. Nothing happens when it is already gone.
    pub(crate) fn cut(&self) {
        if let Some(stream) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // The peer may have closed it first: there is nothing left to do then.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// An open connection and the means to cut it.
pub(crate) struct Socket {
    pub(crate) connection: Connection,
    pub(crate) cutter: Cutter,
}

impl Socket {
    /// The largest frame, as negotiated with the broker.
    pub(crate) fn frame_max(&self) -> FrameMax {
        FrameMax::new(self.connection.configuration().frame_max())
    }

    /// Says good-bye and waits up to `limit` for the broker's answer; else shuts the socket down, and says why. Its channels are
    /// to be [closed](close_channel) before.
    pub(crate) async fn close(&self, why: &str, limit: Duration) -> Result<(), String> {
        let closed = answered("connection.close", limit, self.connection.close(REPLY_SUCCESS, why.into())).await;
        if closed.is_err() {
            self.cutter.cut();
        }
        closed
    }
}

/// Closes `channel` and waits up to `limit` for the broker's answer: it has acted then upon all that was written there, the
/// last acks among it.
///
/// Not to be left to the drop of the last handle. lapin 4.12.3 closes the channel then at its leisure, and when
/// `connection.close` comes first, gives up on both: it drops the socket without a word, and the broker whatever it had not
/// read by then.
pub(crate) async fn close_channel(channel: &lapin::Channel, limit: Duration) -> Result<(), String> {
    answered("channel.close", limit, channel.close(REPLY_SUCCESS, "done".into())).await
}

async fn answered(what: &str, limit: Duration, answer: impl Future<Output = lapin::Result<()>>) -> Result<(), String> {
    match timeout(limit, answer).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(format!("{what} failed: {}", ClientError(error))),
        Err(_) => Err(format!("{what} was not answered within {limit:?}")),
    }
}

/// Cuts the socket unless the connection was handed on.
struct CutOnDrop(Option<Cutter>);

impl CutOnDrop {
    fn disarm(mut self) {
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
