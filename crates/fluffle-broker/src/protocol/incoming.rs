//! What a client sends, and why reading it ends.

use std::{io, rc::Rc};

use bytes::{Bytes, BytesMut};
use tokio::{net::tcp::OwnedReadHalf, time::Instant};

use super::{
    frame::{self, Frame},
    link::Link,
    shared::Shared,
};
use crate::{engine::Refusal, fault::Event};

/// How many bytes are read at a time. This is also how much one connection may do before the others get their turn.
const READ: usize = 128 << 10;

/// Why reading ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The client closed the connection, and was answered.
    Closed,
    /// The socket broke or ended.
    Lost,
    /// The client must be told why.
    Refused { refusal: Refusal, cause: (u16, u16) },
    /// Nothing can be said: the input was not AMQP, or the client is gone.
    Silent,
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Lost
    }
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        Self::Refused { refusal, cause: (0, 0) }
    }
}

/// The reading side of a connection.
pub(crate) struct Incoming {
    socket: OwnedReadHalf,
    buffer: BytesMut,
    pub(crate) link: Rc<Link>,
    pub(crate) shared: Rc<Shared>,
}

impl Incoming {
    pub(crate) fn new(socket: OwnedReadHalf, link: Rc<Link>, shared: Rc<Shared>) -> Self {
        Self { socket, buffer: BytesMut::new(), link, shared }
    }

    /// Reads some bytes.
    pub(crate) async fn read(&mut self) -> Result<(), End> {
        self.buffer.reserve(READ);
        match self.link.gate.read(&mut self.socket, &mut self.buffer).await? {
            0 => Err(End::Lost),
            _ => {
                self.link.last_read.set(Instant::now());
                Ok(())
            }
        }
    }

    /// Takes the next whole frame from the buffer. `None` if more bytes must be read first.
    pub(crate) fn split(&mut self) -> Result<Option<Frame>, Refusal> {
        frame::split(&mut self.buffer, self.link.frame_max.get())
    }

    /// Discards what was read and not handled.
    pub(crate) fn discard(&mut self) {
        self.buffer.clear();
    }

    /// Reads one whole frame, for the handshake.
    pub(crate) async fn next_frame(&mut self) -> Result<Frame, End> {
        loop {
            match self.split() {
                Ok(Some(frame)) => {
                    self.link.ask(Event::FrameIn, frame.channel);
                    self.shared.carry_out_faults();
                    return Ok(frame);
                }
                Ok(None) => self.read().await?,
                Err(_) => return Err(End::Silent),
            }
        }
    }

    /// Takes an exact number of bytes.
    pub(crate) async fn take(&mut self, count: usize) -> Result<Bytes, End> {
        while self.buffer.len() < count {
            self.read().await?;
        }
        Ok(self.buffer.split_to(count).freeze())
    }
}
