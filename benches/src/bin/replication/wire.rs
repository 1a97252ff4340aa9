//! A client of AMQP 0-9-1 that costs almost no CPU time, so that the machine's cores are the brokers' while they are
//! compared. It knows the few frames of this benchmark, writes its messages from one prepared block, and does not look
//! into bodies.
//!
//! Source of the frames: the specification of AMQP 0-9-1, sections 2.3.5 and 4.2
//! (<https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf>).

use std::{
    io::{BufReader, Read, Write},
    net::TcpStream,
    time::Duration,
};

use crate::failure::Failure;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const END: u8 = 0xce;

/// How long the broker may be silent.
const SILENCE: Duration = Duration::from_secs(30);

/// A value of an argument of a queue or consumer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value {
    Text(&'static str),
    Int(i64),
}

/// A method that came from the broker: its class, its number and its arguments.
pub(crate) struct Method {
    pub(crate) id: (u16, u16),
    pub(crate) arguments: Vec<u8>,
}

/// A connection with one channel.
pub(crate) struct Client {
    reader: BufReader<TcpStream>,
    writer: TcpStream,
}

impl Client {
    /// Connects as `guest` to the default vhost.
    pub(crate) fn connect(address: &str) -> Result<Self, Failure> {
        let writer = TcpStream::connect(address)?;
        writer.set_nodelay(true)?;
        writer.set_read_timeout(Some(SILENCE))?;
        let mut client = Self { reader: BufReader::with_capacity(1 << 18, writer.try_clone()?), writer };
        client.writer.write_all(b"AMQP\x00\x00\x09\x01")?;
        client.expect((10, 10))?;
        client.start_ok()?;
        client.expect((10, 30))?;
        // Tune-ok: 2047 channels, frames of 128 KiB, no heartbeats. Then open, of the vhost "/".
        client.call(0, (10, 31), &[7, 255, 0, 2, 0, 0, 0, 0])?;
        client.call(0, (10, 40), &[1, b'/', 0, 0])?;
        client.expect((10, 41))?;
        client.ask((20, 10), &[0], (20, 11))?;
        Ok(client)
    }

    fn start_ok(&mut self) -> Result<(), Failure> {
        let mut arguments = table(&[]);
        short(&mut arguments, "PLAIN");
        long(&mut arguments, "\0guest\0guest");
        short(&mut arguments, "en_US");
        self.call(0, (10, 11), &arguments)
    }

    /// Declares a durable queue.
    pub(crate) fn declare(&mut self, queue: &str, arguments: &[(&str, Value)]) -> Result<(), Failure> {
        let mut bytes = vec![0, 0];
        short(&mut bytes, queue);
        bytes.push(0b0000_0010);
        bytes.extend(table(arguments));
        self.ask((50, 10), &bytes, (50, 11))
    }

    pub(crate) fn delete(&mut self, queue: &str) -> Result<(), Failure> {
        let mut bytes = vec![0, 0];
        short(&mut bytes, queue);
        bytes.push(0);
        self.ask((50, 40), &bytes, (50, 41))
    }

    pub(crate) fn confirm_select(&mut self) -> Result<(), Failure> {
        self.ask((85, 10), &[0], (85, 11))
    }

    /// Subscribes, with acks and `prefetch`.
    pub(crate) fn consume(&mut self, queue: &str, prefetch: u16, arguments: &[(&str, Value)]) -> Result<(), Failure> {
        let [high, low] = prefetch.to_be_bytes();
        self.ask((60, 10), &[0, 0, 0, 0, high, low, 0], (60, 11))?;
        let mut bytes = vec![0, 0];
        short(&mut bytes, queue);
        short(&mut bytes, "c");
        bytes.push(0);
        bytes.extend(table(arguments));
        self.ask((60, 20), &bytes, (60, 21))
    }

    /// Acks everything up to `tag`.
    pub(crate) fn ack(&mut self, tag: u64) -> Result<(), Failure> {
        let mut bytes = tag.to_be_bytes().to_vec();
        bytes.push(1);
        self.call(1, (60, 80), &bytes)
    }

    pub(crate) fn write(&mut self, block: &[u8]) -> Result<(), Failure> {
        Ok(self.writer.write_all(block)?)
    }

    /// Whether reading would wait for the broker.
    pub(crate) fn is_drained(&self) -> bool {
        self.reader.buffer().is_empty()
    }

    /// The next method; bodies and their headers are skipped.
    pub(crate) fn method(&mut self) -> Result<Method, Failure> {
        loop {
            let mut head = [0; 7];
            self.reader.read_exact(&mut head)?;
            let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
            let mut payload = vec![0; size as usize + 1];
            self.reader.read_exact(&mut payload)?;
            payload.truncate(size as usize);
            if head[0] == METHOD && payload.len() >= 4 {
                let arguments = payload.split_off(4);
                let id = (u16::from_be_bytes([payload[0], payload[1]]), u16::from_be_bytes([payload[2], payload[3]]));
                return Ok(Method { id, arguments });
            }
        }
    }

    fn expect(&mut self, id: (u16, u16)) -> Result<(), Failure> {
        let method = self.method()?;
        if method.id == id {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&method.arguments).escape_debug().to_string();
        Err(format!("the broker answered with method {:?} instead of {id:?}: {text}", method.id).into())
    }

    fn ask(&mut self, id: (u16, u16), arguments: &[u8], answer: (u16, u16)) -> Result<(), Failure> {
        self.call(1, id, arguments)?;
        self.expect(answer)
    }

    fn call(&mut self, channel: u16, id: (u16, u16), arguments: &[u8]) -> Result<(), Failure> {
        let mut payload = [id.0.to_be_bytes(), id.1.to_be_bytes()].concat();
        payload.extend(arguments);
        self.write(&frame(METHOD, channel, &payload))
    }
}

/// The frames of a persistent message with `size` bytes for the queue, through the default exchange.
pub(crate) fn publish(queue: &str, size: usize) -> Vec<u8> {
    let mut method = [60_u16.to_be_bytes(), 40_u16.to_be_bytes()].concat();
    method.extend([0, 0, 0]);
    short(&mut method, queue);
    method.push(0);
    let mut header = [60_u16.to_be_bytes(), [0, 0]].concat();
    header.extend((size as u64).to_be_bytes());
    // The only property: delivery mode 2, persistent.
    header.extend([0x10, 0, 2]);
    [frame(METHOD, 1, &method), frame(HEADER, 1, &header), frame(BODY, 1, &vec![7; size])].concat()
}

fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![kind];
    frame.extend(channel.to_be_bytes());
    frame.extend((payload.len() as u32).to_be_bytes());
    frame.extend(payload);
    frame.push(END);
    frame
}

fn short(bytes: &mut Vec<u8>, text: &str) {
    bytes.push(text.len() as u8);
    bytes.extend(text.as_bytes());
}

fn long(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u32).to_be_bytes());
    bytes.extend(text.as_bytes());
}

fn table(entries: &[(&str, Value)]) -> Vec<u8> {
    let mut content = Vec::new();
    for (name, value) in entries {
        short(&mut content, name);
        match value {
            Value::Text(text) => {
                content.push(b'S');
                long(&mut content, text);
            }
            Value::Int(number) => {
                content.push(b'l');
                content.extend(number.to_be_bytes());
            }
        }
    }
    let mut bytes = (content.len() as u32).to_be_bytes().to_vec();
    bytes.extend(content);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_a_method_a_header_and_a_body() {
        let bytes = publish("q", 2);
        assert_eq!(bytes.iter().filter(|&&byte| byte == END).count(), 3);
        assert!(bytes.ends_with(&[BODY, 0, 1, 0, 0, 0, 2, 7, 7, END]));
    }

    #[test]
    fn a_table_counts_its_bytes() {
        assert_eq!(table(&[]), [0, 0, 0, 0]);
        assert_eq!(table(&[("a", Value::Int(1))]), [0, 0, 0, 11, 1, b'a', b'l', 0, 0, 0, 0, 0, 0, 0, 1]);
    }
}
