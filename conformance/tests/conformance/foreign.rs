//! Messages that client libraries do not send, but other software does: any bytes in AMQP's short strings, and
//! malformed property lists.

use conformance::{
    Target,
    raw::{Close, Fields, RawClient, RawMessage, RawPublish, array, field, flags, long_string, table},
};

/// RabbitMQ's answer if a client's bytes crash one of its own processes.
pub(crate) const INTERNAL: &str = "INTERNAL_ERROR";

/// A byte-level connection with confirms, and an empty queue `q`.
pub(crate) fn client(broker: &Target) -> RawClient {
    let mut client = RawClient::open(broker.address(), broker.vhost(), 0);
    client.declare(b"q", &[]);
    client.select_confirms();
    client
}

/// Publishes a message with these properties to `q`, and returns what is in `q` then.
pub(crate) fn through(broker: &Target, flags: u16, properties: &[u8]) -> RawMessage {
    let mut client = client(broker);
    client.publish(RawPublish { key: b"q", flags, properties, body: b"hare", ..RawPublish::default() });
    client.confirmed();
    let message = client.get(b"q").unwrap();
    assert_eq!(message.body, b"hare");
    client.close();
    message
}

/// Checks that a message with these properties is delivered as sent.
pub(crate) fn comes_as_it_was(broker: &Target, flags: u16, properties: &[u8]) {
    let message = through(broker, flags, properties);
    assert_eq!(message.flags, flags, "the flags of {properties:?}");
    assert!(message.properties == properties, "sent {properties:?}, received {:?}", message.properties);
}

/// The broker's refusal of a message with these properties: whether it closes the connection, with which code and text.
pub(crate) fn refused(broker: &Target, flags: u16, properties: &[u8]) -> (bool, u16, String) {
    let mut client = client(broker);
    client.publish(RawPublish { key: b"q", flags, properties, ..RawPublish::default() });
    let Close { connection, code, text } = client.closed();
    (connection, code, text)
}

/// The broker's own process crashed: 541 for the connection.
pub(crate) fn internal() -> (bool, u16, String) {
    (true, 541, INTERNAL.to_owned())
}

fn precondition(text: &str) -> (bool, u16, String) {
    (false, 406, format!("PRECONDITION_FAILED - {text}"))
}

pub(crate) async fn a_property_that_is_not_utf8_is_delivered_as_it_came(broker: &Target) {
    let texts = [
        flags::CONTENT_TYPE,
        flags::CONTENT_ENCODING,
        flags::CORRELATION_ID,
        flags::REPLY_TO,
        flags::MESSAGE_ID,
        flags::TYPE,
        flags::APP_ID,
        flags::CLUSTER_ID,
    ];
    for flag in texts {
        comes_as_it_was(broker, flag, b"\x03\xe9t\xe9");
        comes_as_it_was(broker, flag, b"\0");
    }
}

pub(crate) async fn a_user_id_that_is_not_utf8_is_not_the_users(broker: &Target) {
    let text = "user_id property set to '\u{fffd}' but authenticated user was 'guest'";
    assert_eq!(refused(broker, flags::USER_ID, b"\x01\xe9"), precondition(text));
    let text = "user_id property set to '' but authenticated user was 'guest'";
    assert_eq!(refused(broker, flags::USER_ID, b"\0"), precondition(text));
}

pub(crate) async fn a_delivery_mode_is_1_or_2_or_406(broker: &Target) {
    for mode in [1, 2] {
        comes_as_it_was(broker, flags::DELIVERY_MODE, &[mode]);
    }
    for mode in [0, 3, 255] {
        let text = format!("invalid message: {{delivery_mode_unknown,{mode}}}");
        assert_eq!(refused(broker, flags::DELIVERY_MODE, &[mode]), precondition(&text));
    }
}

pub(crate) async fn properties_are_looked_at_in_an_order(broker: &Target) {
    let cc = table(&[field(b"CC", b"V")]);
    let with_cc = |rest: &[u8]| [&cc, rest].concat();
    let unacceptable = "invalid message: {unacceptable_type_in_header,\"CC\",void}";
    let expiration = "invalid expiration 'x': no_integer";
    let user = "user_id property set to 'x' but authenticated user was 'guest'";
    let reply = "fast reply consumer does not exist";
    let cases: [(u16, Vec<u8>, &str); 5] = [
        (flags::HEADERS | flags::DELIVERY_MODE, with_cc(b"\x07"), unacceptable),
        (flags::HEADERS | flags::EXPIRATION, with_cc(b"\x01x"), expiration),
        (flags::DELIVERY_MODE | flags::EXPIRATION, b"\x07\x01x".to_vec(), expiration),
        (flags::EXPIRATION | flags::USER_ID, b"\x01x\x01x".to_vec(), user),
        (flags::REPLY_TO | flags::USER_ID, b"\x15amq.rabbitmq.reply-to\x01x".to_vec(), reply),
    ];
    for (flags, properties, text) in cases {
        assert_eq!(refused(broker, flags, &properties), precondition(text));
    }
}

pub(crate) async fn property_flags_without_a_meaning_are_passed_on(broker: &Target) {
    for unknown in [1, 2, 3] {
        comes_as_it_was(broker, unknown, b"");
        comes_as_it_was(broker, flags::MESSAGE_ID | unknown, b"\x01a");
    }
}

pub(crate) async fn a_property_list_longer_or_shorter_than_its_flags_say_is_541(broker: &Target) {
    let cases: [(u16, &[u8]); 9] = [
        (0, b"\x01a"),
        (flags::MESSAGE_ID, b"\x01aXYZ"),
        (flags::MESSAGE_ID, b"\x05a"),
        (flags::MESSAGE_ID, b""),
        (flags::DELIVERY_MODE, b""),
        (flags::TIMESTAMP, b"\0\0"),
        // The broker ignores the flag that announces more flags.
        (1, b"\0\0"),
        (flags::MESSAGE_ID | 1, b"\0\0\x01a"),
        (2, b"\x01a"),
    ];
    for (flags, properties) in cases {
        assert_eq!(refused(broker, flags, properties), internal(), "{flags:x} {properties:?}");
    }
}

pub(crate) async fn a_content_header_without_flags_is_541(broker: &Target) {
    for rest in [&b""[..], b"\0"] {
        let mut client = client(broker);
        client.send(1, Fields::method(60, 40).word(0).short(b"").short(b"q").octet(0));
        client.send_frame(2, 1, &Fields::new().word(60).word(0).long_long(0).bytes(rest).into_bytes());
        assert_eq!(client.closed().code, 541);
    }
}

pub(crate) async fn a_content_header_with_a_weight_is_505(broker: &Target) {
    let mut client = client(broker);
    client.send(1, Fields::method(60, 40).word(0).short(b"").short(b"q").octet(0));
    client.send_frame(2, 1, &Fields::new().word(60).word(1).long_long(0).word(0).into_bytes());
    let text = "UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead";
    assert_eq!(client.closed(), Close { connection: true, code: 505, text: text.to_owned() });
}

pub(crate) async fn a_missing_exchange_is_noticed_before_malformed_properties(broker: &Target) {
    let mut client = client(broker);
    let malformed = RawPublish { exchange: b"absent", flags: flags::MESSAGE_ID, ..RawPublish::default() };
    client.publish(malformed);
    assert_eq!(client.closed().code, 404);
}

pub(crate) async fn malformed_properties_are_541_in_a_transaction_too(broker: &Target) {
    let mut client = RawClient::open(broker.address(), broker.vhost(), 0);
    client.send(1, Fields::method(90, 10));
    client.expect(1, (90, 11));
    client.publish(RawPublish { flags: flags::MESSAGE_ID, ..RawPublish::default() });
    // The close does not name the method that caused it.
    let expected = Fields::method(10, 50).word(541).short(INTERNAL.as_bytes()).word(0).word(0);
    assert_eq!(client.expect(0, (10, 50)), expected.into_bytes());
}

pub(crate) async fn a_routing_key_that_is_not_utf8_is_delivered_as_it_came(broker: &Target) {
    let mut client = client(broker);
    client.declare_exchange(b"hashed", b"x-consistent-hash");
    client.bind(b"q", b"amq.topic", b"a.*.#", &[]);
    client.bind(b"q", b"amq.fanout", b"", &[]);
    client.bind(b"q", b"hashed", b"1", &[]);
    for exchange in [&b"amq.topic"[..], b"amq.fanout", b"hashed"] {
        let key = b"a.\xe9.\xff.";
        client.publish(RawPublish { exchange, key, ..RawPublish::default() });
        client.confirmed();
        let fetched = client.get(b"q").unwrap().method;
        // basic.get-ok: delivery tag, redelivered, exchange, routing key, message count.
        let envelope = Fields::new().short(exchange).short(key).long(0).into_bytes();
        assert_eq!(fetched[13..], envelope);
    }
    client.consume(b"q", b"c", true);
    client.publish(RawPublish { exchange: b"amq.fanout", key: b"\xe9", ..RawPublish::default() });
    // The confirm may come before or after the delivery.
    let frames = [client.next_frame().unwrap(), client.next_frame().unwrap(), client.next_frame().unwrap()];
    let delivered = frames.iter().find(|frame| frame.method() == Some((60, 60))).unwrap();
    assert!(delivered.payload.ends_with(b"\x0aamq.fanout\x01\xe9"), "{:?}", delivered.payload);
    client.close();
}

pub(crate) async fn a_message_to_a_key_that_is_not_utf8_is_returned_as_it_came(broker: &Target) {
    let mut client = client(broker);
    let (key, flags, properties) = (&b"nowhere\xe9"[..], flags::MESSAGE_ID, &b"\x02\xe9a"[..]);
    client.publish(RawPublish { key, mandatory: true, flags, properties, body: b"hare", ..RawPublish::default() });
    let returned = client.returned();
    let method = Fields::method(60, 50).word(312).short(b"NO_ROUTE").short(b"").short(key).into_bytes();
    assert_eq!(returned, RawMessage { method, flags, properties: properties.to_vec(), body: b"hare".to_vec() });
    client.confirmed();
    client.close();
}

pub(crate) async fn copies_go_to_keys_of_any_bytes(broker: &Target) {
    let mut client = client(broker);
    client.bind(b"q", b"amq.topic", b"#.copy.#", &[]);
    let keys = array(&[long_string(b"\xe9.copy.\xff"), b"I\0\0\0\x01".to_vec()]);
    let properties = table(&[field(b"CC", &keys)]);
    let (exchange, key) = (b"amq.topic", b"a");
    client.publish(RawPublish {
        exchange,
        key,
        flags: flags::HEADERS,
        properties: &properties,
        ..RawPublish::default()
    });
    client.confirmed();
    assert_eq!(client.get(b"q").unwrap().properties, properties);
    client.close();
}

pub(crate) async fn an_exchange_name_that_is_not_utf8_is_404_and_repeated_as_it_came(broker: &Target) {
    let mut client = client(broker);
    client.publish(RawPublish { exchange: b"ex\xe9", ..RawPublish::default() });
    let close = client.expect(1, (20, 40));
    let text = [b"NOT_FOUND - no exchange 'ex\xe9' in vhost '", broker.vhost().as_bytes(), b"'"].concat();
    let expected = Fields::method(20, 40).word(404).short(&text).word(60).word(40);
    assert_eq!(close, expected.into_bytes());
}

pub(crate) async fn all_other_names_that_are_not_utf8_are_501(broker: &Target) {
    let (name, none) = (b"\xe9", table(&[]));
    let methods: [(&str, Fields); 11] = [
        ("channel.close", Fields::method(20, 40).word(200).short(name).word(0).word(0)),
        ("exchange.declare", Fields::method(40, 10).word(0).short(name).short(b"topic").octet(0).bytes(&none)),
        ("its kind", Fields::method(40, 10).word(0).short(b"e").short(name).octet(0).bytes(&none)),
        ("exchange.delete", Fields::method(40, 20).word(0).short(name).octet(0)),
        ("queue.declare", Fields::method(50, 10).word(0).short(name).octet(2).bytes(&none)),
        (
            "queue.bind",
            Fields::method(50, 20).word(0).short(b"q").short(b"amq.topic").short(name).octet(0).bytes(&none),
        ),
        ("queue.purge", Fields::method(50, 30).word(0).short(name).octet(0)),
        ("queue.delete", Fields::method(50, 40).word(0).short(name).octet(0)),
        ("basic.consume", Fields::method(60, 20).word(0).short(b"q").short(name).octet(0).bytes(&none)),
        ("basic.cancel", Fields::method(60, 30).short(name).octet(0)),
        ("basic.get", Fields::method(60, 70).word(0).short(name).octet(1)),
    ];
    let text = "FRAME_ERROR - Malformed UTF-8 in shortstr";
    for (what, method) in methods {
        let mut client = client(broker);
        client.send(1, method);
        let close = client.expect(0, (10, 50));
        let expected = Fields::method(10, 50).word(501).short(text.as_bytes()).word(0).word(0);
        assert_eq!(close, expected.into_bytes(), "{what}");
    }
    let mut client = client(broker);
    client.send(0, Fields::method(10, 50).word(200).short(name).word(0).word(0));
    assert_eq!(client.closed(), Close { connection: true, code: 501, text: text.to_owned() });
}

pub(crate) async fn a_method_cut_short_is_501_whatever_its_names_are(broker: &Target) {
    let mut client = client(broker);
    client.send(1, Fields::method(60, 70).word(0).short(b"\xe9"));
    let text = "FRAME_ERROR - cannot decode <<0,0,1,233>>";
    assert_eq!(client.closed(), Close { connection: true, code: 501, text: text.to_owned() });
}
