//! A proxy that records the methods that a client sends to its broker.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

/// A method on its way to the broker: its class, its number, its arguments.
#[derive(Clone, Debug)]
pub(crate) struct Method {
    pub(crate) class: u16,
    pub(crate) number: u16,
    pub(crate) arguments: Vec<u8>,
}

impl Method {
    pub(crate) fn is(&self, class: u16, number: u16) -> bool {
        (self.class, self.number) == (class, number)
    }
}

pub(crate) const QUEUE_DECLARE: (u16, u16) = (50, 10);
pub(crate) const BASIC_QOS: (u16, u16) = (60, 10);
pub(crate) const BASIC_ACK: (u16, u16) = (60, 80);
pub(crate) const BASIC_REJECT: (u16, u16) = (60, 90);
pub(crate) const BASIC_NACK: (u16, u16) = (60, 120);

/// The proxy: forwards connections and records the methods of their clients.
pub(crate) struct Tap {
    port: u16,
    said: Arc<Mutex<Vec<Method>>>,
}

impl Tap {
    pub(crate) fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let tap = Self { port: listener.local_addr().unwrap().port(), said: Arc::default() };
        let said = Arc::clone(&tap.said);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(broker)) = (client, TcpStream::connect(("127.0.0.1", port))) else { return };
                let (mut from, mut to) = (broker.try_clone().unwrap(), client.try_clone().unwrap());
                std::thread::spawn(move || {
                    // Either side may end it at any time.
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Write);
                });
                let said = Arc::clone(&said);
                std::thread::spawn(move || {
                    listen(&client, &broker, &said);
                    let _ = broker.shutdown(std::net::Shutdown::Write);
                });
            }
        });
        tap
    }

    /// `url` with the proxy's port.
    pub(crate) fn url(&self, url: &str, port: u16) -> String {
        url.replace(&port.to_string(), &self.port.to_string())
    }

    /// All methods of one kind so far.
    pub(crate) fn all(&self, (class, number): (u16, u16)) -> Vec<Method> {
        self.said.lock().unwrap().iter().filter(|method| method.is(class, number)).cloned().collect()
    }
}

/// AMQP 0-9-1, 4.2.3: a header of eight octets, then frames of type, channel, size, payload and an end octet.
fn listen(mut client: &TcpStream, mut broker: &TcpStream, said: &Mutex<Vec<Method>>) -> Option<()> {
    let mut pass = |length: usize| {
        let mut bytes = vec![0; length];
        client.read_exact(&mut bytes).ok()?;
        broker.write_all(&bytes).ok()?;
        Some(bytes)
    };
    pass(8)?;
    loop {
        let head = pass(7)?;
        let size = u32::from_be_bytes(head[3..7].try_into().unwrap()) as usize;
        let payload = pass(size + 1)?;
        if head[0] == 1 {
            let short = |at: usize| u16::from_be_bytes([payload[at], payload[at + 1]]);
            let method = Method { class: short(0), number: short(2), arguments: payload[4..size].to_vec() };
            said.lock().unwrap().push(method);
        }
    }
}
