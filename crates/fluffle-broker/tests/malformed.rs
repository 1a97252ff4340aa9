//! Each malformed frame is answered with its code, and other clients do not notice.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use amq_protocol::protocol::{AMQPClass, basic, channel, connection};
use common::{
    channel, durable,
    raw::{Raw, frame, header_frame, method_frame, publish_frame},
    run,
};
use fluffle_broker::Broker;

fn qos(channel: u16) -> Vec<u8> {
    let qos = basic::Qos { prefetch_count: 1, global: false };
    method_frame(channel, AMQPClass::Basic(basic::AMQPMethod::Qos(qos)))
}

#[test]
fn a_wrong_frame_ends_its_connection_with_the_right_code_and_no_other() {
    let broker = Broker::start().unwrap();
    let witness = broker.address();
    let mut witness = Raw::with_channel(witness);
    let mut wrong_end = qos(1);
    *wrong_end.last_mut().unwrap() = 0;
    let open = method_frame(1, AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {})));
    let start_ok_again = frame(1, 0, &[0, 10, 0, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let cases: Vec<(&str, u16, Vec<u8>)> = vec![
        ("unknown frame type", 501, frame(5, 1, b"")),
        ("wrong end of frame", 501, wrong_end),
        ("frame past frame_max", 501, frame(1, 1, &vec![0; 200_000])),
        ("heartbeat on a channel", 505, frame(8, 1, b"")),
        ("content on channel 0", 505, header_frame(0, 0)),
        (
            "body longer than its header says",
            501,
            [publish_frame(1, "q"), header_frame(1, 2), frame(3, 1, b"abc")].concat(),
        ),
        ("unknown method", 501, frame(1, 1, &[0, 60, 1, 1])),
        ("frame too short for its type", 501, frame(1, 1, &[0, 60])),
        ("method cut short", 501, frame(1, 1, &[0, 60, 0, 80, 0])),
        ("trailing bytes", 501, frame(1, 1, &[0, 60, 0, 10, 0, 0, 0, 0, 0, 1, 0, 77])),
        (
            "malformed properties",
            541,
            [publish_frame(1, "q"), frame(2, 1, &[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 128, 0])].concat(),
        ),
        ("the broker's own method", 503, frame(1, 1, &[0, 60, 0, 11])),
        ("start-ok once more", 504, start_ok_again),
        ("a channel's method on channel 0", 504, qos(0)),
        ("a method on a channel that is not open", 504, qos(2)),
        ("content on a channel that is not open", 505, header_frame(2, 0)),
        ("channel opened twice", 504, open),
        ("header without publish", 505, header_frame(1, 0)),
        ("body without header", 505, [publish_frame(1, "q"), frame(3, 1, b"abc")].concat()),
        ("method instead of header", 505, [publish_frame(1, "q"), qos(1)].concat()),
        (
            "header of another class",
            505,
            [publish_frame(1, "q"), frame(2, 1, &[0, 50, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])].concat(),
        ),
        ("second header", 505, [publish_frame(1, "q"), header_frame(1, 2), header_frame(1, 2)].concat()),
    ];
    for (name, code, bytes) in cases {
        let mut raw = Raw::with_channel(broker.address());
        raw.write(&bytes);
        assert_eq!(raw.read_close(), Some(code), "{name}");
    }
    witness.declare("witness");
}

#[test]
fn tables_nested_without_end_are_taken_wherever_a_table_may_be() {
    let broker = Broker::start().unwrap();
    let mut value = vec![b'V'];
    while value.len() < 100_000 {
        let mut outer = vec![b'A'];
        outer.extend((value.len() as u32).to_be_bytes());
        outer.extend(value);
        value = outer;
    }
    let mut table = (value.len() as u32 + 2).to_be_bytes().to_vec();
    table.extend([1, b'k']);
    table.extend(value);
    let direct = b"\x06direct";
    let methods: [(&str, Vec<u8>); 7] = [
        ("queue.declare", b"\0\x32\0\x0a\0\0\x01q\0".to_vec()),
        ("exchange.declare", [&b"\0\x28\0\x0a\0\0\x01x"[..], direct, b"\0"].concat()),
        ("exchange.bind", b"\0\x28\0\x1e\0\0\x01x\x01x\0\0".to_vec()),
        ("exchange.unbind", b"\0\x28\0\x28\0\0\x01x\x01x\0\0".to_vec()),
        ("queue.bind", b"\0\x32\0\x14\0\0\x01q\x01x\0\0".to_vec()),
        ("queue.unbind", b"\0\x32\0\x32\0\0\x01q\x01x\0".to_vec()),
        ("basic.consume", b"\0\x3c\0\x14\0\0\x01q\x01t\0".to_vec()),
    ];
    let mut raw = Raw::with_channel(broker.address());
    for (name, method) in methods {
        raw.write(&frame(1, 1, &[&method[..], &table].concat()));
        let (channel, answer) = raw.read_method();
        let answer = format!("{answer:?}");
        assert!(channel == 1 && answer.contains("Ok("), "{name}: {answer}");
    }
    raw.select_confirms();
    raw.write(&publish_frame(1, "nowhere"));
    raw.write(&frame(2, 1, &[&[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x20, 0][..], &table].concat()));
    assert!(matches!(raw.read_method(), (1, AMQPClass::Basic(basic::AMQPMethod::Ack(_)))));
}

#[test]
fn a_table_that_rabbitmq_cannot_read_ends_its_connection_without_a_word() {
    let broker = Broker::start().unwrap();
    let mut raw = Raw::with_channel(broker.address());
    raw.write(&frame(1, 1, b"\0\x32\0\x0a\0\0\x01q\0\0\0\0\x03\x01kZ"));
    assert_eq!(raw.read_close(), None);
}

#[test]
fn a_wrong_protocol_header_is_answered_with_the_right_one() {
    let broker = Broker::start().unwrap();
    for header in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"AMQP\x01\x01\x00\x0A", b"AMQP\x00\x01\x00\x00"] {
        use std::io::Read;
        let mut raw = Raw::bare(broker.address());
        raw.write(header);
        let mut answer = [0; 8];
        raw.socket.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"AMQP\x00\x00\x09\x01");
        assert_eq!(raw.read_close(), None);
    }
}

#[test]
fn a_message_too_large_closes_its_channel_before_it_is_sent() {
    let broker = Broker::builder().message_max(1000).start().unwrap();
    let mut raw = Raw::with_channel(broker.address());
    raw.write(&[publish_frame(1, "q"), header_frame(1, 1001)].concat());
    let (code, text) = raw.read_channel_close();
    assert_eq!(
        (code, &text[..]),
        (406, "PRECONDITION_FAILED - message size 1001 is larger than configured max size 1000")
    );
    // The rest of the frame was already on its way.
    raw.write(&frame(3, 1, &[0; 1001]));
    raw.send(1, AMQPClass::Channel(channel::AMQPMethod::CloseOk(channel::CloseOk {})));
    raw.send(1, AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {})));
    assert!(matches!(raw.read_method(), (1, AMQPClass::Channel(channel::AMQPMethod::OpenOk(_)))));
}

#[test]
fn unfinished_messages_on_many_channels_are_bounded_together() {
    let broker = Broker::builder().message_max(100_000).start().unwrap();
    let mut raw = Raw::open(broker.address(), 0);
    for number in 1..=3 {
        raw.send(number, AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {})));
        raw.write(
            &[publish_frame(number, "q"), header_frame(number, 100_000), frame(3, number, &[0; 40_000])].concat(),
        );
    }
    assert_eq!(raw.read_close(), Some(506));
}

#[test]
fn frames_on_several_channels_may_interleave() {
    let broker = Broker::start().unwrap();
    let mut raw = Raw::with_channel(broker.address());
    raw.declare("a");
    raw.declare("b");
    raw.send(2, AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {})));
    let frames = [
        publish_frame(1, "a"),
        publish_frame(2, "b"),
        header_frame(2, 3),
        header_frame(1, 5),
        frame(3, 1, b"fi"),
        frame(3, 2, b"two"),
        frame(3, 1, b"rst"),
    ];
    raw.write(&frames.concat());
    let state = common::until(&broker, |state| state.queues.iter().all(|queue| queue.ready == 1));
    assert_eq!((state.queue("a").unwrap().ready_bytes, state.queue("b").unwrap().ready_bytes), (5, 3));
}

#[test]
fn a_refused_close_is_not_needed_to_go_on_elsewhere() {
    let broker = Broker::start().unwrap();
    let mut raw = Raw::with_channel(broker.address());
    raw.write(&frame(5, 0, b""));
    assert_eq!(raw.read_close(), Some(501));
    raw.send(0, AMQPClass::Connection(connection::AMQPMethod::CloseOk(connection::CloseOk {})));
    assert!(raw.read_frame().is_none());
    run(async { durable(&channel(&broker).await, "q").await });
}
