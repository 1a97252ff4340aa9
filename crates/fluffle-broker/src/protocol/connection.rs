//! One connection, from its first byte to its last.

use std::{rc::Rc, time::Duration};

use amq_protocol::protocol::{AMQPClass, connection};
use bytes::Buf;
use tokio::{
    net::{TcpStream, tcp::OwnedWriteHalf},
    time::{Instant, sleep_until, timeout},
};

use super::{
    channel::{ChannelState, NO_HEADER},
    frame::{self, Frame, FrameKind, Method, Undecodable},
    handshake,
    incoming::{End, Incoming},
    link::Link,
    method,
    shared::Shared,
};
use crate::{
    engine::{ConnectionKey, Refusal},
    fault::Event,
};

/// How long the client may take to answer `connection.close`.
const FAREWELL: Duration = Duration::from_secs(5);

/// Class and method of `basic.publish`, the only method from a client that has content.
const PUBLISH: (u16, u16) = (60, 40);

/// Serves a connection until it ends.
pub(crate) async fn serve(socket: TcpStream, link: Rc<Link>, shared: Rc<Shared>) {
    // Send small packets at once, because the client waits for them.
    let _ = socket.set_nodelay(true);
    let (read, write) = socket.into_split();
    let incoming = Incoming::new(read, link.clone(), shared.clone());
    tokio::select! {
        biased;
        () = link.gate.cut_off() => {}
        () = write_out(&write, &link, &shared) => {}
        () = heartbeats(&link) => tracing::warn!("missed heartbeats from a client: connection dropped"),
        () = incoming.run() => {}
    }
    if let Some(key) = link.key.take() {
        shared.leave(key);
    }
    link.gate.outlive(write.as_ref()).await;
}

/// Writes the waiting output, as much as possible at once.
async fn write_out(socket: &OwnedWriteHalf, link: &Link, shared: &Shared) {
    loop {
        let batch = link.output.borrow_mut().take();
        if batch.is_empty() {
            link.wake.notified().await;
            continue;
        }
        for mut chunk in batch {
            while chunk.has_remaining() {
                match link.gate.write(socket.as_ref(), &mut chunk).await {
                    Ok(0) | Err(_) => return,
                    Ok(written) => {
                        link.output.borrow_mut().written(written);
                        link.last_write.set(Instant::now());
                    }
                }
            }
        }
        link.drained.notify_waiters();
        if let Some(key) = link.key.get() {
            shared.engine.borrow_mut().set_backlog(key, link.output.borrow().len());
            shared.dispatch();
        }
    }
}

/// Sends heartbeats while nothing else is sent. Ends when the client has been silent for two intervals (AMQP 0-9-1
/// section 4.2.7).
async fn heartbeats(link: &Link) {
    link.tuned.notified().await;
    let interval = Duration::from_secs(link.heartbeat.get().into());
    if interval.is_zero() {
        return std::future::pending().await;
    }
    loop {
        let (send, drop) = (link.last_write.get() + interval / 2, link.last_read.get() + interval * 2);
        sleep_until(send.min(drop)).await;
        let now = Instant::now();
        // The silence of a client that is not read means nothing.
        if link.blocked.get() {
            link.last_read.set(now);
        }
        if now >= link.last_read.get() + interval * 2 {
            return;
        }
        if now >= link.last_write.get() + interval / 2 {
            link.last_write.set(now);
            link.output.borrow_mut().write(|out| out.extend_from_slice(&[8, 0, 0, 0, 0, 0, 0, 0xCE]));
            link.wake.notify_one();
        }
    }
}

impl Incoming {
    async fn run(mut self) {
        let patience = self.shared.settings.handshake_timeout;
        let end = match timeout(patience, handshake::open(&mut self)).await {
            Ok(Ok(key)) => self.frames(key).await,
            Ok(Err(end)) => end,
            Err(_) => End::Silent,
        };
        self.finish(end).await;
    }

    /// Handles frames, one buffer at a time.
    async fn frames(&mut self, key: ConnectionKey) -> End {
        let link = self.link.clone();
        loop {
            self.shared.refresh_clock();
            let outcome = self.handle_buffer(key);
            self.shared.dispatch();
            let all_handled = match outcome {
                Ok(all_handled) => all_handled,
                Err(end) => return end,
            };
            // Give other connections, and this connection's own writer, their turn.
            tokio::task::yield_now().await;
            tokio::select! {
                biased;
                () = link.shut.notified() => {
                    return link.ending.take().unwrap_or_else(Refusal::shutdown).into();
                }
                more = self.more(all_handled) => if let Err(end) = more { return end },
            }
        }
    }

    /// Waits until there is something to handle, and handling is allowed.
    async fn more(&mut self, all_handled: bool) -> Result<(), End> {
        self.link.until_readable().await;
        // On a half-open connection, neither the buffer nor later input matters.
        if all_handled || self.link.gate.is_half_open() { self.read().await } else { Ok(()) }
    }

    /// Handles the frames in the buffer. Returns whether all were handled: it stops early if too much output waits,
    /// because a few small requests may have large answers.
    fn handle_buffer(&mut self, key: ConnectionKey) -> Result<bool, End> {
        while self.link.is_readable() {
            let Some(frame) = self.split()? else { return Ok(true) };
            let channel = frame.channel;
            match (frame.kind()?, channel) {
                (FrameKind::Heartbeat, 0) => continue,
                (FrameKind::Method, 0) => self.method(key, &frame)?,
                (FrameKind::Heartbeat, _) | (_, 0) => return Err(frame.misplaced().into()),
                (kind, number) => {
                    self.admit(kind, number)?;
                    match kind {
                        FrameKind::Method => self.method(key, &frame)?,
                        _ => {
                            self.content(kind, frame)?;
                            self.shared.throttle(&self.link);
                        }
                    }
                }
            }
            self.link.ask(Event::FrameIn, channel);
            self.shared.carry_out_faults();
        }
        Ok(false)
    }

    /// Checks that a frame of this kind is allowed now on a channel. A method is allowed on any channel, and opens it
    /// if the limit allows; after a publish, its header and body must follow (AMQP 0-9-1 section 4.2.6.1).
    fn admit(&self, kind: FrameKind, number: u16) -> Result<(), End> {
        let channels = self.link.channels.borrow();
        let (open, most) = (channels.len(), self.link.channel_max.get());
        let expected = match channels.get(&number) {
            Some(ChannelState::Open(open)) => open.expected(),
            Some(ChannelState::Closing) => return Ok(()),
            None if open >= usize::from(most) => {
                let text =
                    format!("number of channels opened ({open}) has reached the negotiated channel_max ({most})");
                return Err(Refusal::not_allowed(text).into());
            }
            None => FrameKind::Method,
        };
        let (text, cause) = match expected {
            _ if kind == expected => return Ok(()),
            FrameKind::Header => (NO_HEADER, PUBLISH),
            FrameKind::Body => ("expected content body, got non content body frame instead", PUBLISH),
            _ => ("expected method frame, got non method frame instead", (0, 0)),
        };
        Err(End::Refused { refusal: Refusal::unexpected_frame(text), cause })
    }

    fn method(&mut self, key: ConnectionKey, frame: &Frame) -> Result<(), End> {
        let outcome = match frame::method(&frame.payload) {
            Ok(method) => method::handle(self, key, frame, method),
            // RabbitMQ then names no method, except on channel 0.
            Err(Undecodable::Text(refusal)) if frame.channel != 0 => return Err(refusal.into()),
            Err(Undecodable::Fields(refusal) | Undecodable::Text(refusal)) => Err(refusal.into()),
            Err(Undecodable::Table) => Err(End::Silent),
        };
        match outcome {
            Err(End::Refused { refusal, .. }) => self.refuse(frame.channel, refusal, frame.ids()),
            outcome => outcome,
        }
    }

    fn content(&mut self, kind: FrameKind, frame: Frame) -> Result<(), End> {
        let mut channels = self.link.channels.borrow_mut();
        let Some(ChannelState::Open(open)) = channels.get_mut(&frame.channel) else { return Ok(()) };
        let key = open.key;
        let limit = self.shared.engine.borrow().limits.message_bytes;
        let outcome = match kind {
            FrameKind::Header => open.header(&frame.payload, limit),
            _ => open.body(frame.payload),
        };
        // Unfinished messages on all channels together must not be larger than one message.
        let held = |state: &ChannelState| match state {
            ChannelState::Open(open) => open.content.as_ref().map_or(0, |content| content.held() as u64),
            ChannelState::Closing => 0,
        };
        if matches!(outcome, Ok(None)) && channels.values().map(held).sum::<u64>() > limit {
            return Err(Refusal::too_much("too many unfinished messages").into());
        }
        drop(channels);
        let published = outcome.and_then(|publication| match publication {
            Some(publication) => self.shared.engine.borrow_mut().publish(key, publication),
            None => Ok(()),
        });
        published.or_else(|refusal| {
            // After a crash of its process, RabbitMQ does not say which method was the cause.
            let cause = if refusal.is_internal() { (0, 0) } else { PUBLISH };
            self.refuse(frame.channel, refusal, cause)
        })
    }

    /// A soft error closes the channel. A hard error, or any error on channel 0, ends the connection.
    fn refuse(&mut self, number: u16, refusal: Refusal, cause: (u16, u16)) -> Result<(), End> {
        if refusal.is_hard() || number == 0 {
            return Err(End::Refused { refusal, cause });
        }
        let key = match self.link.channels.borrow().get(&number) {
            Some(ChannelState::Open(open)) => open.key,
            _ => return Ok(()),
        };
        // Effects from before the error are sent first, and nothing is sent after it.
        self.shared.dispatch();
        self.link.close_channel(number, &refusal, cause);
        self.shared.engine.borrow_mut().close_channel(key);
        Ok(())
    }

    async fn finish(mut self, end: End) {
        // Tell the client only after the connection has ended in the engine. A client that sees the end then finds its
        // exclusive queues gone, and its unacknowledged deliveries back in their queues.
        if let Some(key) = self.link.key.take() {
            self.shared.leave(key);
        }
        let wait_for_client = match end {
            End::Lost => return,
            End::Silent => false,
            End::Closed => {
                let answer = connection::AMQPMethod::CloseOk(connection::CloseOk {});
                self.link.send(0, AMQPClass::Connection(answer));
                true
            }
            End::Refused { refusal, cause } => {
                tracing::debug!(code = refusal.code, text = %refusal.shown(), "connection closed by the broker");
                self.link.send_close(0, &refusal, cause);
                true
            }
        };
        let _ = timeout(FAREWELL, async {
            self.flush().await;
            if wait_for_client {
                self.until_client_leaves().await;
            }
        })
        .await;
    }

    /// Waits until the writer has written everything.
    async fn flush(&self) {
        while self.link.output.borrow().len() > 0 {
            self.link.drained.notified().await;
        }
    }

    /// Reads and discards until the client answers the close, or ends the socket. The client has to end it, because it
    /// may have closed several channels, and waits for as many answers.
    async fn until_client_leaves(&mut self) {
        let link = self.link.clone();
        loop {
            match self.split() {
                Ok(Some(frame)) if frame.channel == 0 && matches!(frame.kind(), Ok(FrameKind::Method)) => {
                    use connection::AMQPMethod::{Close, CloseOk};
                    match frame::method(&frame.payload) {
                        Ok(Method::Other(AMQPClass::Connection(CloseOk(_)), _)) => return,
                        Ok(Method::Other(AMQPClass::Connection(Close(_)), _)) => {
                            link.send(0, AMQPClass::Connection(CloseOk(connection::CloseOk {})));
                        }
                        _ => {}
                    }
                    continue;
                }
                Ok(Some(_)) => continue,
                Ok(None) => {}
                // The frames can no longer be told apart.
                Err(_) => self.discard(),
            }
            self.flush().await;
            tokio::select! {
                biased;
                () = link.shut.notified() => return,
                read = self.read() => if read.is_err() { return },
            }
        }
    }
}
