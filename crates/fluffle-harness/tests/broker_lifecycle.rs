//! A private node from birth to death.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use fluffle_harness::RabbitMq;

#[test]
fn a_started_node_answers_an_amqp_handshake() {
    let broker = RabbitMq::start().unwrap();
    let mut stream = TcpStream::connect(("127.0.0.1", broker.port())).unwrap();
    stream.write_all(b"AMQP\0\0\x09\x01").unwrap();
    let mut start = [0; 11];
    stream.read_exact(&mut start).unwrap();
    assert_eq!(start[7..], [0, 10, 0, 10], "expected connection.start");
}
