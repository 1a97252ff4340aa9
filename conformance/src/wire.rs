//! A frame-level connection: it sends and receives exactly the given frames, in order.

use std::net::SocketAddr;

use amq_protocol::{
    frame::{AMQPContentHeader, AMQPFrame, WriteContext, gen_frame, parse_frame},
    protocol::{AMQPClass, BasicProperties, access, basic, channel, confirm, connection, exchange, queue, tx},
    types::FieldTable,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::within;

/// A frame, as defined by `amq-protocol`.
pub type Frame = AMQPFrame;

/// A method that can be sent and recognized.
pub trait Method: Sized {
    /// This method as an `AMQPClass`.
    fn into_class(self) -> AMQPClass;
    /// The method, if `class` contains it.
    fn from_class(class: AMQPClass) -> Option<Self>;
}

macro_rules! methods {
    ($($class:ident $module:ident { $($method:ident),+ })+) => { $( $(
        impl Method for $module::$method {
            fn into_class(self) -> AMQPClass {
                AMQPClass::$class($module::AMQPMethod::$method(self))
            }

            fn from_class(class: AMQPClass) -> Option<Self> {
                match class {
                    AMQPClass::$class($module::AMQPMethod::$method(method)) => Some(method),
                    _ => None,
                }
            }
        }
    )+ )+ };
}

methods! {
    Connection connection { Start, StartOk, Secure, Tune, TuneOk, Open, OpenOk, Close, CloseOk }
    Channel channel { Open, OpenOk, Flow, FlowOk, Close, CloseOk }
    Access access { Request, RequestOk }
    Exchange exchange { Declare, DeclareOk }
    Queue queue { Declare, DeclareOk, Delete, DeleteOk, Bind, BindOk }
    Basic basic { Qos, QosOk, Consume, ConsumeOk, Cancel, CancelOk, Publish, Return, Deliver, Get, GetOk, GetEmpty, Ack,
        Nack, Reject, Recover, RecoverOk, RecoverAsync }
    Confirm confirm { Select, SelectOk }
    Tx tx { Select, SelectOk, Commit, CommitOk }
}

/// A message's properties and body.
#[derive(Debug, Clone, PartialEq)]
pub struct Content {
    /// Its properties.
    pub properties: BasicProperties,
    /// Its body, joined from all its frames.
    pub body: Vec<u8>,
}

/// A TCP connection to a broker.
pub struct Wire {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Wire {
    /// A TCP connection on which nothing has been sent.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = within("a TCP connection", TcpStream::connect(address)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, unread: Vec::new() }
    }

    /// Performs the handshake up to `connection.start`.
    pub async fn greet(address: SocketAddr) -> (Self, connection::Start) {
        let mut wire = Self::connect(address).await;
        wire.send_bytes(b"AMQP\0\0\x09\x01").await;
        let start = wire.expect(0).await;
        (wire, start)
    }

    /// Performs the handshake up to `connection.tune`, with these client properties.
    pub async fn log_in(address: SocketAddr, client_properties: FieldTable) -> (Self, connection::Tune) {
        let (mut wire, _) = Self::greet(address).await;
        wire.send(0, start_ok("PLAIN", "\0guest\0guest", client_properties)).await;
        let tune = wire.expect(0).await;
        (wire, tune)
    }

    /// Performs the handshake up to `connection.open-ok`, with the limits of `tune_ok`.
    pub async fn tuned(address: SocketAddr, vhost: &str, tune_ok: connection::TuneOk) -> Self {
        let capabilities = crate::table! {
            "consumer_cancel_notify" => true, "basic.nack" => true, "publisher_confirms" => true,
            "authentication_failure_close" => true,
        };
        let properties = crate::table! { "capabilities" => amq_protocol::types::AMQPValue::FieldTable(capabilities) };
        let (mut wire, _) = Self::log_in(address, properties).await;
        wire.send(0, tune_ok).await;
        let _: connection::OpenOk = wire.call(0, connection::Open { virtual_host: vhost.into() }).await;
        wire
    }

    /// A connection with the usual limits, without heartbeats, and channel 1 open on it.
    pub async fn open(address: SocketAddr, vhost: &str) -> Self {
        let tune_ok = connection::TuneOk { channel_max: 2047, frame_max: 131_072, heartbeat: 0 };
        let mut wire = Self::tuned(address, vhost, tune_ok).await;
        wire.channel(1).await;
        wire
    }

    /// Opens a channel.
    pub async fn channel(&mut self, id: u16) {
        let _: channel::OpenOk = self.call(id, channel::Open {}).await;
    }

    /// Opens a channel in confirm mode.
    pub async fn confirm_channel(&mut self, id: u16) {
        self.channel(id).await;
        let _: confirm::SelectOk = self.call(id, confirm::Select { nowait: false }).await;
    }

    /// Declares a durable queue.
    pub async fn queue(&mut self, id: u16, name: &str, arguments: FieldTable) -> queue::DeclareOk {
        self.call(id, queue::Declare { queue: name.into(), durable: true, arguments, ..Default::default() }).await
    }

    /// Sends bytes unchanged.
    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        within("the broker taking bytes", self.stream.write_all(bytes)).await.unwrap();
    }

    /// Sends a frame.
    pub async fn send_frame(&mut self, frame: &Frame) {
        let bytes = gen_frame(frame)(WriteContext::from(Vec::new())).unwrap().into_inner().0;
        self.send_bytes(&bytes).await;
    }

    /// Sends a method.
    pub async fn send(&mut self, channel: u16, method: impl Method) {
        self.send_frame(&Frame::Method(channel, method.into_class())).await;
    }

    /// Sends a method and waits for its answer, which must be the next frame.
    pub async fn call<A: Method>(&mut self, channel: u16, method: impl Method) -> A {
        self.send(channel, method).await;
        self.expect(channel).await
    }

    /// Sends a message: method, header and, unless it is empty, one body frame.
    pub async fn publish(&mut self, channel: u16, method: basic::Publish, properties: BasicProperties, body: &[u8]) {
        self.send(channel, method).await;
        self.send_header(channel, properties, body.len()).await;
        if !body.is_empty() {
            self.send_frame(&Frame::Body(channel, body.to_vec())).await;
        }
    }

    /// Sends a message's header.
    pub async fn send_header(&mut self, channel: u16, properties: BasicProperties, body_size: usize) {
        let header = AMQPContentHeader { class_id: 60, body_size: body_size as u64, properties };
        self.send_frame(&Frame::Header(channel, header)).await;
    }

    /// The next frame of any kind; `None` at the end of the connection.
    pub async fn next(&mut self) -> Option<Frame> {
        within("a frame", async {
            loop {
                // The parser does not distinguish missing bytes from bad ones, so an unreadable answer looks like a
                // frame that never comes.
                if let Ok((rest, frame)) = parse_frame(&self.unread[..]) {
                    let used = self.unread.len() - rest.len();
                    self.unread.drain(..used);
                    return Some(frame);
                }
                match self.stream.read_buf(&mut self.unread).await {
                    Ok(0) | Err(_) => return None,
                    Ok(_) => {}
                }
            }
        })
        .await
    }

    /// The next frame, which must be this method on this channel.
    pub async fn expect<M: Method>(&mut self, channel: u16) -> M {
        let wanted = std::any::type_name::<M>();
        match self.next().await {
            Some(Frame::Method(id, class)) if id == channel => {
                let shown = format!("{class:?}");
                M::from_class(class).unwrap_or_else(|| panic!("expected {wanted}, received {shown}"))
            }
            other => panic!("expected {wanted} on channel {channel}, received {other:?}"),
        }
    }

    /// The header and body frames after a method with content.
    pub async fn content(&mut self, channel: u16) -> Content {
        let Some(Frame::Header(id, header)) = self.next().await else { panic!("expected a header") };
        assert_eq!((id, header.class_id), (channel, 60));
        let mut body = Vec::new();
        while (body.len() as u64) < header.body_size {
            match self.next().await {
                Some(Frame::Body(id, part)) if id == channel => body.extend(part),
                other => panic!("expected a body frame, received {other:?}"),
            }
        }
        Content { properties: header.properties, body }
    }

    /// Waits for the broker's `channel.close`, and answers it.
    pub async fn channel_closed(&mut self, id: u16) -> channel::Close {
        let close = self.expect(id).await;
        self.send(id, channel::CloseOk {}).await;
        close
    }

    /// Waits for the broker's `connection.close`, and answers it. Then the connection must end.
    pub async fn connection_closed(&mut self) -> connection::Close {
        let close = self.expect(0).await;
        self.send(0, connection::CloseOk {}).await;
        self.ends().await;
        close
    }

    /// Waits for the end of the connection. No frame may come before it.
    pub async fn ends(&mut self) {
        let next = self.next().await;
        assert!(next.is_none(), "the connection should have ended, received {next:?}");
        assert!(self.unread.is_empty(), "the connection ended within a frame: {:?}", self.unread);
    }

    /// Waits for the end of the connection. A `connection.close` may come before it, but need not.
    pub async fn ends_with_or_without_a_word(&mut self) {
        match self.next().await {
            None => {}
            Some(Frame::Method(0, AMQPClass::Connection(connection::AMQPMethod::Close(_)))) => {
                self.send(0, connection::CloseOk {}).await;
                self.ends().await;
            }
            Some(other) => panic!("the connection should have ended, received {other:?}"),
        }
    }

    /// Waits for the end of the connection and returns the bytes before it.
    pub async fn last_bytes(mut self) -> Vec<u8> {
        // A reset by the broker also ends the connection.
        let _ = within("the connection's end", self.stream.read_to_end(&mut self.unread)).await;
        self.unread
    }
}

/// `connection.start-ok`.
pub fn start_ok(mechanism: &str, response: &str, client_properties: FieldTable) -> connection::StartOk {
    connection::StartOk {
        client_properties,
        mechanism: mechanism.into(),
        response: response.into(),
        locale: "en_US".into(),
    }
}
