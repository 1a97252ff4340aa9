//! The byte-level client.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use super::{Fields, table};
use crate::LIMIT;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;
const FRAME_END: u8 = 0xCE;

/// Octets of a frame besides its payload.
const OVERHEAD: usize = 8;

/// The channel of [`RawClient`]'s calls.
const CHANNEL: u16 = 1;

/// A frame as it was on the wire (AMQP 0-9-1, section 2.3.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawFrame {
    /// 1 for a method, 2 for a content header, 3 for a body, 8 for a heartbeat.
    pub kind: u8,
    /// The channel.
    pub channel: u16,
    /// The bytes between the frame's length and its end octet.
    pub payload: Vec<u8>,
}

impl RawFrame {
    /// Class and method of a method frame.
    pub fn method(&self) -> Option<(u16, u16)> {
        let ids = self.payload.first_chunk::<4>().filter(|_| self.kind == METHOD)?;
        Some((u16::from_be_bytes([ids[0], ids[1]]), u16::from_be_bytes([ids[2], ids[3]])))
    }

    /// The content of `channel.close` or `connection.close`, if it is one.
    pub fn close(&self) -> Option<Close> {
        let connection = match self.method()? {
            (10, 50) => true,
            (20, 40) => false,
            _ => return None,
        };
        let code = u16::from_be_bytes([self.payload[4], self.payload[5]]);
        let end = 7 + usize::from(self.payload[6]);
        Some(Close { connection, code, text: String::from_utf8_lossy(&self.payload[7..end]).into_owned() })
    }
}

/// A message to be published byte by byte. The default is an empty message to the queue without a name.
#[derive(Debug, Clone, Copy, Default)]
pub struct RawPublish<'a> {
    /// The exchange's name; empty for the default exchange.
    pub exchange: &'a [u8],
    /// The routing key.
    pub key: &'a [u8],
    /// Whether the broker must return the message if no queue gets it.
    pub mandatory: bool,
    /// The property flags: see [`flags`](super::flags).
    pub flags: u16,
    /// The property list, without the flags.
    pub properties: &'a [u8],
    /// The body, which is split into frames of the negotiated size.
    pub body: &'a [u8],
}

/// A message from the broker: delivered, fetched or returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawMessage {
    /// The method frame's payload: `basic.deliver`, `basic.get-ok` or `basic.return`.
    pub method: Vec<u8>,
    /// The property flags.
    pub flags: u16,
    /// The property list, without the flags.
    pub properties: Vec<u8>,
    /// The body, joined from its frames.
    pub body: Vec<u8>,
}

impl RawMessage {
    /// The delivery tag.
    ///
    /// # Panics
    ///
    /// If the message was returned, because it then has no tag.
    pub fn tag(&self) -> u64 {
        let at = match self.method.get(..4) {
            Some([0, 60, 0, 60]) => 5 + usize::from(self.method[4]),
            Some([0, 60, 0, 71]) => 4,
            other => panic!("neither delivered nor fetched: {other:?}"),
        };
        u64::from_be_bytes(self.method[at..at + 8].try_into().unwrap())
    }
}

/// `channel.close` or `connection.close`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    /// Whether it closes the connection, and not only a channel.
    pub connection: bool,
    /// The reply code.
    pub code: u16,
    /// The reply text, with U+FFFD in place of bytes that are not UTF-8.
    pub text: String,
}

/// A client that sends and receives bytes, for tests with messages that no client library can send or read.
///
/// It blocks its thread, for at most [`LIMIT`] in each wait unless [`open_within`](Self::open_within) sets another
/// limit. It needs no runtime: in an async test, run it in `spawn_blocking`, or directly if nothing else needs the
/// thread. Its calls use channel 1, which is in confirm mode after [`select_confirms`](Self::select_confirms). For
/// everything else, use [`send`](Self::send) and [`next_frame`](Self::next_frame).
///
/// ```
/// use conformance::raw::{RawClient, RawPublish, flags};
///
/// let broker = fluffle_broker::Broker::start()?;
/// let mut client = RawClient::open(broker.address(), "/", 0);
/// client.declare(b"letters", &[]);
/// client.select_confirms();
/// let properties = b"\x03\xe9t\xe9"; // Latin-1
/// client.publish(RawPublish {
///     key: b"letters",
///     flags: flags::CORRELATION_ID,
///     properties,
///     body: b"moor",
///     ..RawPublish::default()
/// });
/// client.confirmed();
/// let message = client.get(b"letters").expect("a message");
/// assert_eq!((message.flags, &message.properties[..]), (flags::CORRELATION_ID, &properties[..]));
/// client.close();
/// # Ok::<(), fluffle_broker::BrokerError>(())
/// ```
///
/// # Panics
///
/// Each method panics if the broker does not answer in time, answers differently from the method's documentation, or
/// closes the channel or the connection. The panic then shows the broker's reply code and text.
#[derive(Debug)]
pub struct RawClient {
    stream: TcpStream,
    unread: Vec<u8>,
    frame_max: usize,
    limit: Duration,
}

impl RawClient {
    /// Connects as `guest` to a virtual host, and opens channel 1, without heartbeats. `frame_max` is the frame size
    /// requested in `tune-ok`, in bytes; 0 accepts the broker's.
    pub fn open(address: SocketAddr, vhost: &str, frame_max: u32) -> Self {
        Self::open_within(LIMIT, address, vhost, frame_max)
    }

    /// Like [`open`](Self::open), but each wait for the broker, now or later, takes at most `limit`.
    pub fn open_within(limit: Duration, address: SocketAddr, vhost: &str, frame_max: u32) -> Self {
        let stream = TcpStream::connect_timeout(&address, limit).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_write_timeout(Some(limit)).unwrap();
        let mut client = Self { stream, unread: Vec::new(), frame_max: 4096, limit };
        client.send_bytes(b"AMQP\0\0\x09\x01");
        client.expect(0, (10, 10));
        let yes = b"t\x01";
        let capabilities: Vec<Vec<u8>> =
            ["consumer_cancel_notify", "basic.nack", "publisher_confirms", "authentication_failure_close"]
                .map(|name| super::field(name.as_bytes(), yes))
                .into();
        let capabilities = [b"F", &table(&capabilities)[..]].concat();
        let properties = table(&[super::field(b"capabilities", &capabilities)]);
        let login = b"\0guest\0guest";
        let start_ok = Fields::method(10, 11).bytes(&properties).short(b"PLAIN").long(login.len() as u32);
        client.send(0, start_ok.bytes(login).short(b"en_US"));
        let tune = client.expect(0, (10, 30));
        let channels = u16::from_be_bytes([tune[4], tune[5]]);
        let offered = u32::from_be_bytes(tune[6..10].try_into().unwrap());
        let frame_max = if frame_max == 0 { offered } else { frame_max };
        client.send(0, Fields::method(10, 31).word(channels).long(frame_max).word(0));
        client.frame_max = frame_max as usize;
        client.send(0, Fields::method(10, 40).short(vhost.as_bytes()).short(b"").octet(0));
        client.expect(0, (10, 41));
        client.open_channel(CHANNEL);
        client
    }

    /// The negotiated frame size, in bytes.
    pub fn frame_max(&self) -> usize {
        self.frame_max
    }

    /// Opens a channel.
    pub fn open_channel(&mut self, channel: u16) {
        self.send(channel, Fields::method(20, 10).short(b""));
        self.expect(channel, (20, 11));
    }

    /// Switches confirms on for channel 1; see [`confirmed`](Self::confirmed).
    pub fn select_confirms(&mut self) {
        self.send(CHANNEL, Fields::method(85, 10).octet(0));
        self.expect(CHANNEL, (85, 11));
    }

    /// Declares a durable queue, with the [`field`](super::field)s of its argument table.
    pub fn declare(&mut self, name: &[u8], arguments: &[Vec<u8>]) {
        let declare = Fields::method(50, 10).word(0).short(name).octet(0b10);
        self.send(CHANNEL, declare.bytes(&table(arguments)));
        self.expect(CHANNEL, (50, 11));
    }

    /// Declares a transient exchange.
    pub fn declare_exchange(&mut self, name: &[u8], kind: &[u8]) {
        let declare = Fields::method(40, 10).word(0).short(name).short(kind).octet(0);
        self.send(CHANNEL, declare.bytes(&table(&[])));
        self.expect(CHANNEL, (40, 11));
    }

    /// Binds a queue to an exchange, with the [`field`](super::field)s of the binding's arguments.
    pub fn bind(&mut self, queue: &[u8], exchange: &[u8], key: &[u8], arguments: &[Vec<u8>]) {
        let bind = Fields::method(50, 20).word(0).short(queue).short(exchange).short(key).octet(0);
        self.send(CHANNEL, bind.bytes(&table(arguments)));
        self.expect(CHANNEL, (50, 21));
    }

    /// Publishes a message, without waiting.
    pub fn publish(&mut self, message: RawPublish<'_>) {
        let RawPublish { exchange, key, mandatory, flags, properties, body } = message;
        let publish = Fields::method(60, 40).word(0).short(exchange).short(key).octet(mandatory.into());
        self.send(CHANNEL, publish);
        let header = Fields::new().word(60).word(0).long_long(body.len() as u64).word(flags).bytes(properties);
        self.send_frame(HEADER, CHANNEL, &header.into_bytes());
        for part in body.chunks(self.frame_max - OVERHEAD) {
            self.send_frame(BODY, CHANNEL, part);
        }
    }

    /// Waits for `basic.ack`. Returns its tag, and whether it also confirms all earlier publishes.
    pub fn confirmed(&mut self) -> (u64, bool) {
        let ack = self.expect(CHANNEL, (60, 80));
        (u64::from_be_bytes(ack[4..12].try_into().unwrap()), ack[12] & 1 == 1)
    }

    /// Fetches one message and acknowledges it; `None` if the queue is empty.
    pub fn get(&mut self, queue: &[u8]) -> Option<RawMessage> {
        self.fetch(queue, true)
    }

    /// Fetches one message and leaves it unacknowledged; see [`reject`](Self::reject).
    pub fn get_unacked(&mut self, queue: &[u8]) -> Option<RawMessage> {
        self.fetch(queue, false)
    }

    fn fetch(&mut self, queue: &[u8], no_ack: bool) -> Option<RawMessage> {
        self.send(CHANNEL, Fields::method(60, 70).word(0).short(queue).octet(no_ack.into()));
        let answer = self.next_method(CHANNEL);
        match answer.method() {
            Some((60, 71)) => Some(self.content(answer.payload)),
            Some((60, 72)) => None,
            _ => panic!("expected basic.get-ok or basic.get-empty, received {}", shown(&answer)),
        }
    }

    /// `basic.reject`.
    pub fn reject(&mut self, tag: u64, requeue: bool) {
        self.send(CHANNEL, Fields::method(60, 90).long_long(tag).octet(requeue.into()));
    }

    /// `basic.ack` of one message.
    pub fn ack(&mut self, tag: u64) {
        self.send(CHANNEL, Fields::method(60, 80).long_long(tag).octet(0));
    }

    /// Starts a consumer, and returns its tag.
    pub fn consume(&mut self, queue: &[u8], tag: &[u8], no_ack: bool) -> Vec<u8> {
        let bits = u8::from(no_ack) << 1;
        self.send(CHANNEL, Fields::method(60, 20).word(0).short(queue).short(tag).octet(bits).bytes(&table(&[])));
        self.expect(CHANNEL, (60, 21))[5..].to_vec()
    }

    /// Waits for the next message, which must be a delivery.
    pub fn delivery(&mut self) -> RawMessage {
        let method = self.expect(CHANNEL, (60, 60));
        self.content(method)
    }

    /// Waits for the next message, which must be a return.
    pub fn returned(&mut self) -> RawMessage {
        let method = self.expect(CHANNEL, (60, 50));
        self.content(method)
    }

    /// The frames after a method with content.
    fn content(&mut self, method: Vec<u8>) -> RawMessage {
        let header = self.frame_of(HEADER).payload;
        assert_eq!(header[..4], [0, 60, 0, 0], "class and weight");
        let size = u64::from_be_bytes(header[4..12].try_into().unwrap());
        let flags = u16::from_be_bytes([header[12], header[13]]);
        let mut body = Vec::new();
        while (body.len() as u64) < size {
            body.extend(self.frame_of(BODY).payload);
        }
        RawMessage { method, flags, properties: header[14..].to_vec(), body }
    }

    fn frame_of(&mut self, kind: u8) -> RawFrame {
        let frame = self.must_next();
        assert_eq!((frame.kind, frame.channel), (kind, CHANNEL), "{}", shown(&frame));
        frame
    }

    /// Sends a method.
    pub fn send(&mut self, channel: u16, method: Fields) {
        self.send_frame(METHOD, channel, &method.into_bytes());
    }

    /// Sends a frame of any kind.
    pub fn send_frame(&mut self, kind: u8, channel: u16, payload: &[u8]) {
        let size = u32::try_from(payload.len()).unwrap();
        let head = Fields::new().octet(kind).word(channel).long(size);
        self.send_bytes(&head.bytes(payload).octet(FRAME_END).into_bytes());
    }

    /// Sends bytes unchanged.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The next frame except heartbeats, or `None` if the broker has ended the connection.
    pub fn next_frame(&mut self) -> Option<RawFrame> {
        let deadline = Instant::now() + self.limit;
        loop {
            match self.take_frame() {
                Some(frame) if frame.kind == HEARTBEAT => continue,
                Some(frame) => return Some(frame),
                None => {}
            }
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.stream.set_read_timeout(Some(left)).unwrap();
            let mut buffer = [0; 16 << 10];
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(count) => self.unread.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("no frame from the broker within {:?}: {error}", self.limit),
            }
        }
    }

    fn take_frame(&mut self) -> Option<RawFrame> {
        let head = self.unread.first_chunk::<7>()?;
        let (kind, channel) = (head[0], u16::from_be_bytes([head[1], head[2]]));
        let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
        let end = *self.unread.get(7 + size)?;
        assert_eq!(end, FRAME_END, "the broker's frame does not end as it should");
        let payload = self.unread[7..7 + size].to_vec();
        self.unread.drain(..OVERHEAD + size);
        Some(RawFrame { kind, channel, payload })
    }

    fn must_next(&mut self) -> RawFrame {
        self.next_frame().expect("the broker ended the connection without a word")
    }

    fn next_method(&mut self, channel: u16) -> RawFrame {
        let frame = self.must_next();
        assert_eq!((frame.kind, frame.channel), (METHOD, channel), "{}", shown(&frame));
        frame
    }

    /// The payload of the next frame, which must be this method on this channel.
    pub fn expect(&mut self, channel: u16, method: (u16, u16)) -> Vec<u8> {
        let frame = self.must_next();
        let wanted = (channel, Some(method));
        assert_eq!((frame.channel, frame.method()), wanted, "{}", shown(&frame));
        frame.payload
    }

    /// Reads until the broker closes channel 1 or the connection, and returns the close. Other frames are dropped.
    pub fn closed(&mut self) -> Close {
        loop {
            let frame = self.must_next();
            let Some(close) = frame.close() else { continue };
            let ok = if close.connection { Fields::method(10, 51) } else { Fields::method(20, 41) };
            self.send(frame.channel, ok);
            return close;
        }
    }

    /// Closes the connection in order.
    pub fn close(mut self) {
        self.send(0, Fields::method(10, 50).word(200).short(b"").word(0).word(0));
        loop {
            let frame = self.must_next();
            if frame.method() == Some((10, 51)) {
                return;
            }
        }
    }
}

/// Formats a frame for a panic: code and text of a close, or else the first bytes.
fn shown(frame: &RawFrame) -> String {
    match frame.close() {
        Some(close) => format!("{close:?}"),
        None => {
            let first = &frame.payload[..frame.payload.len().min(64)];
            format!("frame of kind {} on channel {}: {first:?}", frame.kind, frame.channel)
        }
    }
}
