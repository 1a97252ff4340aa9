//! Foreign messages to which the broker adds headers, and headers larger than the negotiated frame.

use conformance::{
    Target, eventually,
    raw::{
        Close, RawClient, RawMessage, RawPublish, array, field, flags, integer, long_string, nested_arrays,
        nested_tables, table,
    },
};

use crate::foreign::client;

/// The arguments of a queue whose dead letters go to `q`.
fn to_q() -> [Vec<u8>; 2] {
    [field(b"x-dead-letter-exchange", &long_string(b"")), field(b"x-dead-letter-routing-key", &long_string(b"q"))]
}

/// Waits for a message in a queue.
async fn awaited(client: &mut RawClient, queue: &[u8]) -> RawMessage {
    let shared = std::cell::RefCell::new((client, None));
    eventually("a message in the queue", async || {
        let (client, found) = &mut *shared.borrow_mut();
        *found = client.get(queue);
        found.is_some()
    })
    .await;
    shared.into_inner().1.unwrap()
}

/// Rejects a message with these properties in the queue `dying`, and returns the dead letter, with the time of death
/// blanked.
async fn letter(client: &mut RawClient, flags: u16, properties: &[u8]) -> RawMessage {
    client.declare(b"dying", &to_q());
    client.publish(RawPublish { key: b"dying", flags, properties, body: b"hare", ..RawPublish::default() });
    client.confirmed();
    let tag = client.get_unacked(b"dying").unwrap().tag();
    client.reject(tag, false);
    let mut letter = awaited(client, b"q").await;
    assert_eq!(letter.body, b"hare");
    if let Some(at) = letter.properties.windows(6).position(|bytes| bytes == b"\x04timeT") {
        letter.properties[at + 6..at + 14].fill(0);
    }
    letter
}

fn text(name: &str, value: &[u8]) -> Vec<u8> {
    field(name.as_bytes(), &long_string(value))
}

/// A death in `dying` of a message that was published to it with this expiration.
fn death(expiration: Option<&[u8]>) -> Vec<u8> {
    let mut fields = vec![
        field(b"count", &integer(1)),
        text("reason", b"rejected"),
        text("queue", b"dying"),
        field(b"time", b"T\0\0\0\0\0\0\0\0"),
        text("exchange", b""),
        field(b"routing-keys", &array(&[long_string(b"dying")])),
    ];
    fields.extend(expiration.map(|expiration| text("original-expiration", expiration)));
    [b"F", &table(&fields)[..]].concat()
}

fn x_death(deaths: &[Vec<u8>]) -> Vec<u8> {
    field(b"x-death", &array(deaths))
}

fn first_death() -> [Vec<u8>; 3] {
    [
        text("x-first-death-exchange", b""),
        text("x-first-death-queue", b"dying"),
        text("x-first-death-reason", b"rejected"),
    ]
}

pub(crate) async fn a_dead_letter_keeps_what_it_was_and_its_headers_are_sorted(broker: &Target) {
    let mut client = client(broker);
    let foreign = [field(b"z", b"V"), field(b"\xe9", b"V"), field(b"z", b"t\x02"), field(b"L", b"L\0\0\0\0\0\0\0\x01")];
    let before = b"\x01\xe9\x01\xe8";
    let after = b"\x02\x05\x02\xe9a\x01\xe7";
    let end = b"\x01\xe6\0\0\0\0\0\0\0\x01\x01\xe5\x05guest\x01\xe4\x01\xe3";
    let sent = [&before[..], &table(&foreign), after, b"\x0560000", end].concat();
    let letter = letter(&mut client, 0xFFFC, &sent).await;
    let mut headers = vec![field(b"L", &integer(1)), x_death(&[death(Some(b"60000"))])];
    headers.extend(first_death());
    headers.extend([field(b"z", b"V"), field(b"z", b"t\x01"), field(b"\xe9", b"V")]);
    assert_eq!(letter.flags, 0xFFFC & !flags::EXPIRATION);
    assert_eq!(letter.properties, [&before[..], &table(&headers), after, end].concat());
    client.close();
}

pub(crate) async fn a_dead_letter_may_be_deep(broker: &Target) {
    let mut client = client(broker);
    for value in [nested_arrays(5000), nested_tables(5000)] {
        let letter = letter(&mut client, flags::HEADERS, &table(&[field(b"k", &value)])).await;
        let mut headers = vec![field(b"k", &value), x_death(&[death(None)])];
        headers.extend(first_death());
        assert!(letter.properties == table(&headers));
    }
    client.close();
}

pub(crate) async fn deaths_that_others_have_written_are_counted_on(broker: &Target) {
    let table_of = |fields: &[Vec<u8>]| [b"F", &table(fields)[..]].concat();
    let mut client = client(broker);
    let other = table_of(&[text("queue", b"other"), field(b"deep", &nested_arrays(1000)), text("count", b"x")]);
    let here = table_of(&[
        text("reason", b"rejected"),
        text("queue", b"dying"),
        field(b"count", b"I\0\0\0\x07"),
        field(b"a", b"V"),
    ]);
    let received = letter(&mut client, flags::HEADERS, &table(&[x_death(&[other.clone(), here])])).await;
    let counted = table_of(&[
        field(b"a", b"V"),
        field(b"count", &integer(8)),
        text("queue", b"dying"),
        text("reason", b"rejected"),
    ]);
    assert!(received.properties == table(&[x_death(&[counted, other])]));
    // A value that is no array is replaced, and prevents the headers of a first death.
    let received = letter(&mut client, flags::HEADERS, &table(&[field(b"x-death", &integer(1))])).await;
    assert_eq!(received.properties, table(&[x_death(&[death(None)])]));
    client.close();
}

pub(crate) async fn a_dead_letter_keeps_a_routing_key_that_is_not_utf8(broker: &Target) {
    let mut client = client(broker);
    client.declare(b"dying", &[text("x-dead-letter-exchange", b"amq.fanout")]);
    client.declare(
        b"renamed",
        &[text("x-dead-letter-exchange", b"amq.fanout"), text("x-dead-letter-routing-key", b"\xff")],
    );
    client.bind(b"q", b"amq.fanout", b"", &[]);
    for (queue, key) in [(&b"dying"[..], &b"a\xe9"[..]), (b"renamed", b"\xff")] {
        client.bind(queue, b"amq.topic", b"#", &[]);
        client.publish(RawPublish { exchange: b"amq.topic", key: b"a\xe9", ..RawPublish::default() });
        client.confirmed();
        let tag = client.get_unacked(queue).unwrap().tag();
        client.reject(tag, false);
        let letter = awaited(&mut client, b"q").await;
        let envelope = [b"\x0aamq.fanout", &[key.len() as u8][..], key, b"\0\0\0\0"].concat();
        assert_eq!(letter.method[13..], envelope);
        let keys = array(&[long_string(b"a\xe9")]);
        assert!(letter.properties.windows(keys.len()).any(|bytes| bytes == keys), "{:?}", letter.properties);
    }
    client.close();
}

pub(crate) async fn a_dead_letter_exchange_that_is_not_utf8_is_taken_and_is_none(broker: &Target) {
    let mut client = client(broker);
    client.declare(b"dying", &[text("x-dead-letter-exchange", b"\xe9")]);
    client.publish(RawPublish { key: b"dying", ..RawPublish::default() });
    client.confirmed();
    let tag = client.get_unacked(b"dying").unwrap().tag();
    client.reject(tag, false);
    assert_eq!(client.get(b"dying"), None);
    client.close();
}

/// Headers for a content header frame of this size.
fn headers_for_a_frame_of(bytes: usize) -> Vec<u8> {
    // Frame: 8; class, weight, size and flags: 14; table: 4; name, type and length: 7.
    table(&[field(b"k", &long_string(&vec![b'x'; bytes - 8 - 14 - 4 - 7]))])
}

pub(crate) async fn a_content_header_larger_than_the_frame_is_501(broker: &Target) {
    for frame_max in [4096, 0] {
        let mut client = RawClient::open(broker.address(), broker.vhost(), frame_max);
        client.declare(b"q", &[]);
        client.select_confirms();
        let most = client.frame_max();
        // RabbitMQ allows eight bytes too many, because it does not count the frame's overhead.
        for size in [most, most + 8] {
            let properties = &headers_for_a_frame_of(size);
            client.publish(RawPublish { key: b"q", flags: flags::HEADERS, properties, ..RawPublish::default() });
            client.confirmed();
            assert_eq!(client.get(b"q").unwrap().properties, *properties);
        }
        let properties = &headers_for_a_frame_of(most + 9);
        client.publish(RawPublish { key: b"q", flags: flags::HEADERS, properties, ..RawPublish::default() });
        let problem = format!("{{frame_too_large,{},{}}}", most + 1, most - 8);
        let text = format!("FRAME_ERROR - type 2, all octets = <<>>: {problem}");
        assert_eq!(client.closed(), Close { connection: true, code: 501, text });
    }
}

pub(crate) async fn a_content_header_that_the_broker_makes_larger_than_the_frame_is_sent(broker: &Target) {
    for frame_max in [4096, 0] {
        let mut client = RawClient::open(broker.address(), broker.vhost(), frame_max);
        client.declare(b"q", &[]);
        client.select_confirms();
        let properties = headers_for_a_frame_of(client.frame_max());
        let letter = letter(&mut client, flags::HEADERS, &properties).await;
        assert!(letter.properties.len() > client.frame_max(), "{}", letter.properties.len());
        client.close();
    }
}

pub(crate) async fn a_content_header_larger_than_the_receivers_frame_is_sent(broker: &Target) {
    let mut sender = client(broker);
    let mut receiver = RawClient::open(broker.address(), broker.vhost(), 4096);
    let (properties, body) = (&headers_for_a_frame_of(100_000), &[b'b'; 10_000]);
    let message = RawPublish { key: b"q", flags: flags::HEADERS, properties, body, ..RawPublish::default() };
    sender.publish(message);
    sender.confirmed();
    receiver.consume(b"q", b"c", true);
    let sizes = std::array::from_fn(|_| receiver.next_frame().unwrap().payload.len());
    let [_, header, bodies @ ..]: [usize; 5] = sizes;
    assert_eq!((header, bodies), (100_000 - 8, [4088, 4088, 1824]));
    // The message is returned to a sender whose frame size it fits.
    receiver.select_confirms();
    let properties = &headers_for_a_frame_of(4096 + 8);
    receiver.publish(RawPublish {
        key: b"nowhere",
        mandatory: true,
        flags: flags::HEADERS,
        properties,
        ..RawPublish::default()
    });
    assert_eq!(receiver.returned().properties, *properties);
}

pub(crate) async fn a_quorum_queue_counts_in_a_header_of_its_own_whatever_came_in_it(broker: &Target) {
    let mut client = client(broker);
    client.declare(b"quorum", &[text("x-queue-type", b"quorum")]);
    let count = |count: i64| field(b"x-delivery-count", &integer(count));
    let (z, a) = (field(b"z", b"V"), field(b"a", &nested_arrays(1000)));
    let cases = [
        (vec![z.clone(), a.clone(), z.clone()], vec![a.clone(), z.clone(), z.clone()]),
        (vec![z.clone(), count(19), text("x-delivery-count", b"19")], vec![text("x-delivery-count", b"19"), z]),
    ];
    for (sent, kept) in cases {
        let flags = flags::HEADERS | flags::CORRELATION_ID;
        let properties = &[&table(&sent)[..], b"\x02\xe9a"].concat();
        client.publish(RawPublish { key: b"quorum", flags, properties, ..RawPublish::default() });
        client.confirmed();
        for earlier in 0..3 {
            let message = eventually_unacked(&mut client).await;
            // The count comes before headers whose names sort after it, and before another header of its own name.
            let at = kept.iter().position(|field| field[1..] >= b"x-delivery-count"[..]).unwrap();
            let mut headers = kept.clone();
            headers.insert(at, count(earlier));
            assert!(message.properties == [&table(&headers)[..], b"\x02\xe9a"].concat(), "{earlier}");
            client.reject(message.tag(), true);
        }
        let tag = eventually_unacked(&mut client).await.tag();
        client.ack(tag);
    }
    client.close();
}

/// The next message of the queue `quorum`, unacknowledged. A requeued message is not available at once.
async fn eventually_unacked(client: &mut RawClient) -> RawMessage {
    let shared = std::cell::RefCell::new((client, None));
    eventually("a message in the queue", async || {
        let (client, found) = &mut *shared.borrow_mut();
        *found = client.get_unacked(b"quorum");
        found.is_some()
    })
    .await;
    shared.into_inner().1.unwrap()
}
