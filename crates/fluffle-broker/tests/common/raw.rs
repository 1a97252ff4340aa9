//! A byte-level client, to send what no well-behaved client sends.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use amq_protocol::{
    frame::{AMQPFrame, GenError, WriteContext, gen_frame, parse_frame},
    protocol::{AMQPClass, basic, channel, confirm, connection, queue},
    types::{AMQPValue, FieldTable, LongString},
};

/// A socket, and the bytes read from it and not parsed yet.
pub struct Raw {
    pub socket: TcpStream,
    unread: Vec<u8>,
}

impl Raw {
    /// A connection on which nothing has been sent.
    pub fn bare(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Self { socket, unread: Vec::new() }
    }

    /// An open connection, with a heartbeat interval in seconds.
    pub fn open(address: SocketAddr, heartbeat: u16) -> Self {
        Self::named(address, heartbeat, "raw")
    }

    /// The same, with a `connection_name`, and every capability that a client can announce.
    pub fn named(address: SocketAddr, heartbeat: u16, name: &str) -> Self {
        let mut raw = Self::bare(address);
        raw.write(b"AMQP\x00\x00\x09\x01");
        raw.read_method();
        let mut capabilities = FieldTable::default();
        for capability in ["authentication_failure_close", "consumer_cancel_notify", "connection.blocked"] {
            capabilities.insert(capability.into(), AMQPValue::Boolean(true));
        }
        let mut properties = FieldTable::default();
        properties.insert("capabilities".into(), AMQPValue::FieldTable(capabilities));
        properties.insert("connection_name".into(), AMQPValue::LongString(name.into()));
        let start = connection::StartOk {
            client_properties: properties,
            mechanism: "PLAIN".into(),
            response: LongString::from("\0guest\0guest"),
            locale: "en_US".into(),
        };
        raw.send(0, AMQPClass::Connection(connection::AMQPMethod::StartOk(start)));
        let (_, AMQPClass::Connection(connection::AMQPMethod::Tune(offer))) = raw.read_method() else {
            panic!("the broker does not tune")
        };
        let (channel_max, frame_max) = (offer.channel_max, offer.frame_max);
        let tune = connection::TuneOk { channel_max, frame_max, heartbeat };
        raw.send(0, AMQPClass::Connection(connection::AMQPMethod::TuneOk(tune)));
        let open = connection::Open { virtual_host: "/".into() };
        raw.send(0, AMQPClass::Connection(connection::AMQPMethod::Open(open)));
        raw.read_method();
        raw
    }

    /// An open connection with channel 1 open.
    pub fn with_channel(address: SocketAddr) -> Self {
        Self::open(address, 0).and_channel()
    }

    /// Opens channel 1.
    pub fn and_channel(mut self) -> Self {
        self.send(1, AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {})));
        self.read_method();
        self
    }

    /// Switches confirms on for channel 1.
    pub fn select_confirms(&mut self) {
        self.send(1, AMQPClass::Confirm(confirm::AMQPMethod::Select(confirm::Select { nowait: false })));
        self.read_method();
    }

    /// Publishes small messages to a queue by its name.
    pub fn publish(&mut self, queue: &str, count: usize) {
        let message = [publish_frame(1, queue), header_frame(1, 4), frame(3, 1, b"body")].concat();
        self.write(&message.repeat(count));
    }

    /// Publishes a message with this body.
    pub fn publish_body(&mut self, queue: &str, body: &[u8]) {
        self.write(&[publish_frame(1, queue), header_frame(1, body.len() as u64), frame(3, 1, body)].concat());
    }

    pub fn send_get(&mut self, queue: &str) {
        let get = basic::Get { queue: queue.into(), no_ack: true };
        self.send(1, AMQPClass::Basic(basic::AMQPMethod::Get(get)));
    }

    /// Begins to consume, with acknowledgements, and awaits the answer.
    pub fn consume(&mut self, queue: &str) {
        self.send_consume(queue);
        self.read_method();
    }

    pub fn send_consume(&mut self, queue: &str) {
        let consume = basic::Consume {
            queue: queue.into(),
            consumer_tag: "c".into(),
            no_local: false,
            no_ack: false,
            exclusive: false,
            nowait: false,
            arguments: FieldTable::default(),
        };
        self.send(1, AMQPClass::Basic(basic::AMQPMethod::Consume(consume)));
    }

    /// Whether the broker has sent nothing and the connection is still open.
    pub fn hears_nothing(&mut self) -> bool {
        self.socket.set_nonblocking(true).unwrap();
        let heard = self.socket.peek(&mut [0]);
        self.socket.set_nonblocking(false).unwrap();
        self.unread.is_empty() && heard.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    pub fn send(&mut self, channel: u16, method: AMQPClass) {
        self.write(&method_frame(channel, method));
    }

    /// Declares a queue and awaits the answer.
    pub fn declare(&mut self, name: &str) {
        self.send_declare(name);
        self.read_method();
    }

    pub fn send_declare(&mut self, name: &str) {
        self.write(&Self::declare_frame(name));
    }

    pub fn declare_frame(name: &str) -> Vec<u8> {
        let declare = queue::Declare {
            queue: name.into(),
            passive: false,
            durable: false,
            exclusive: false,
            auto_delete: false,
            nowait: false,
            arguments: FieldTable::default(),
        };
        method_frame(1, AMQPClass::Queue(queue::AMQPMethod::Declare(declare)))
    }

    /// The next frame; `None` if the broker has ended the connection.
    pub fn read_frame(&mut self) -> Option<AMQPFrame> {
        loop {
            if let Ok((rest, frame)) = parse_frame(&self.unread[..]) {
                let used = self.unread.len() - rest.len();
                self.unread.drain(..used);
                return Some(frame);
            }
            let mut buffer = [0; 16 << 10];
            match self.socket.read(&mut buffer) {
                Ok(0) => return None,
                Ok(count) => self.unread.extend(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("the broker says nothing: {error}"),
            }
        }
    }

    /// The next method, on any channel.
    pub fn read_method(&mut self) -> (u16, AMQPClass) {
        loop {
            match self.read_frame() {
                Some(AMQPFrame::Method(channel, method)) => return (channel, method),
                Some(_) => {}
                None => panic!("the broker has ended the connection"),
            }
        }
    }

    /// Reads until the broker closes the connection, and returns the code; `None` if it gives no reason.
    pub fn read_close(&mut self) -> Option<u16> {
        loop {
            match self.read_frame() {
                Some(AMQPFrame::Method(0, AMQPClass::Connection(connection::AMQPMethod::Close(close)))) => {
                    return Some(close.reply_code);
                }
                Some(_) => {}
                None => return None,
            }
        }
    }

    /// Reads until the broker closes a channel, and returns code and text.
    pub fn read_channel_close(&mut self) -> (u16, String) {
        loop {
            if let (1, AMQPClass::Channel(channel::AMQPMethod::Close(close))) = self.read_method() {
                return (close.reply_code, close.reply_text.as_str().to_owned());
            }
        }
    }
}

pub fn method_frame(channel: u16, method: AMQPClass) -> Vec<u8> {
    let frame = AMQPFrame::Method(channel, method);
    let written: Result<_, GenError> = gen_frame(&frame)(WriteContext::from(Vec::new()));
    written.unwrap().into_inner().0
}

pub fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut all = vec![kind];
    all.extend(channel.to_be_bytes());
    all.extend((payload.len() as u32).to_be_bytes());
    all.extend(payload);
    all.push(0xCE);
    all
}

/// `basic.publish` to the default exchange.
pub fn publish_frame(channel: u16, key: &str) -> Vec<u8> {
    let publish = basic::Publish { exchange: "".into(), routing_key: key.into(), mandatory: false, immediate: false };
    method_frame(channel, AMQPClass::Basic(basic::AMQPMethod::Publish(publish)))
}

/// A content header without properties.
pub fn header_frame(channel: u16, size: u64) -> Vec<u8> {
    let mut payload = vec![0, 60, 0, 0];
    payload.extend(size.to_be_bytes());
    payload.extend([0, 0]);
    frame(2, channel, &payload)
}
