//! Field tables from other software: any types, any names, any depth.

use conformance::{
    Target,
    raw::{Fields, RawPublish, array, field, flags, integer, long_string, nested_arrays, nested_tables, table},
};

use crate::foreign::{client, comes_as_it_was, internal, refused, through};

fn double(number: f64) -> Vec<u8> {
    [b"d", &number.to_be_bytes()[..]].concat()
}

fn float(number: f32) -> Vec<u8> {
    [b"f", &number.to_be_bytes()[..]].concat()
}

/// A header `k` with this value.
fn header(value: &[u8]) -> Vec<u8> {
    table(&[field(b"k", value)])
}

/// Values of every type that RabbitMQ supports.
fn every_type() -> Vec<Vec<u8>> {
    let fixed: [&[u8]; 14] = [
        b"t\x01",
        // Every value except 0 is true.
        b"t\x02",
        b"b\xff",
        b"B\xff",
        b"s\xff\xff",
        b"u\xff\xff",
        b"I\xff\xff\xff\xff",
        b"i\xff\xff\xff\xff",
        b"l\xff\xff\xff\xff\xff\xff\xff\xff",
        b"L\xff\xff\xff\xff\xff\xff\xff\xff",
        b"D\x02\0\0\0\x05",
        b"T\0\0\0\0\0\0\0\x01",
        b"x\0\0\0\x01\xff",
        b"V",
    ];
    let mut all: Vec<Vec<u8>> = fixed.map(<[u8]>::to_vec).into();
    all.extend([float(0.1), double(0.1), double(-0.0), long_string(b"\xe9"), array(&[]), nested_tables(1)]);
    all
}

pub(crate) async fn headers_of_every_type_and_of_any_name_are_delivered_as_they_came(broker: &Target) {
    for value in every_type() {
        comes_as_it_was(broker, flags::HEADERS, &header(&value));
    }
    let fields = [field(b"z", b"V"), field(b"\xe9", b"V"), field(b"", b"V"), field(b"z", &integer(2))];
    comes_as_it_was(broker, flags::HEADERS, &table(&fields));
}

pub(crate) async fn arrays_and_tables_of_any_depth_are_delivered_as_they_came(broker: &Target) {
    for value in
        [nested_arrays(65), nested_arrays(1000), nested_arrays(20_000), nested_tables(1000), nested_tables(5000)]
    {
        comes_as_it_was(broker, flags::HEADERS, &header(&value));
    }
    let copies = table(&[field(b"CC", &nested_arrays(1000))]);
    comes_as_it_was(broker, flags::HEADERS, &copies);
}

pub(crate) async fn a_value_of_an_unknown_type_is_541(broker: &Target) {
    for kind in [b'\0', b'U', b'Z', b'a', b'\xff'] {
        let value = [kind, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(refused(broker, flags::HEADERS, &header(&value)), internal(), "{kind}");
    }
}

pub(crate) async fn a_float_that_is_not_finite_is_541(broker: &Target) {
    let infinite =
        [double(f64::NAN), double(f64::INFINITY), double(f64::NEG_INFINITY), float(f32::NAN), float(f32::INFINITY)];
    for value in infinite {
        assert_eq!(refused(broker, flags::HEADERS, &header(&value)), internal());
        assert_eq!(refused(broker, flags::HEADERS, &header(&array(&[value]))), internal());
    }
}

pub(crate) async fn headers_whose_lengths_do_not_fit_are_541(broker: &Target) {
    let cases: [&[u8]; 7] = [
        b"\0\0\0\x02\x01k",
        b"\0\0\0\x02\x05k",
        b"\0\0\0\x08\x01kS\0\0\0\x05a",
        b"\0\0\0\x04\x01kI\0",
        b"\0\0\0\x09\x01kV",
        b"\0\0\0\x02\x01kV",
        b"\0\0\0\x09\x01kA\0\0\0\x02VI",
    ];
    for headers in cases {
        assert_eq!(refused(broker, flags::HEADERS, headers), internal(), "{headers:?}");
    }
}

pub(crate) async fn arguments_may_be_deep_too(broker: &Target) {
    let deep = field(b"k", &nested_arrays(1000));
    let mut client = client(broker);
    client.declare(b"deep", std::slice::from_ref(&deep));
    client.declare(b"deep", std::slice::from_ref(&deep));
    client.bind(b"q", b"amq.headers", b"", std::slice::from_ref(&deep));
    let publish = |levels: usize| table(&[field(b"k", &nested_arrays(levels))]);
    for (levels, matches) in [(1000, true), (1001, false)] {
        let (exchange, properties) = (b"amq.headers", &publish(levels));
        client.publish(RawPublish { exchange, flags: flags::HEADERS, properties, ..RawPublish::default() });
        client.confirmed();
        assert_eq!(client.get(b"q").is_some(), matches, "{levels}");
    }
    let consume = Fields::method(60, 20).word(0).short(b"q").short(b"c").octet(0);
    client.send(1, consume.bytes(&table(&[deep])));
    client.expect(1, (60, 21));
    client.close();
}

pub(crate) async fn arguments_that_cannot_be_read_end_the_connection_without_a_word(broker: &Target) {
    let mut client = client(broker);
    client.send(1, Fields::method(50, 10).word(0).short(b"").octet(4).bytes(&header(&double(f64::NAN))));
    assert_eq!(client.next_frame(), None);
}

pub(crate) async fn arguments_longer_than_their_method_are_501(broker: &Target) {
    for (arguments, shown) in
        [(&b"\0\0\0\x09\x01kV"[..], "0,0,0,9,1,107,86"), (b"\0\0\0\x01\x01kV", "0,0,0,1,1,107,86")]
    {
        let mut client = client(broker);
        client.send(1, Fields::method(50, 10).word(0).short(b"").octet(4).bytes(arguments));
        let text = format!("FRAME_ERROR - cannot decode <<0,0,0,4,{shown}>>");
        assert_eq!(client.closed().text, text);
    }
}

/// Whether a message with these headers reaches a queue bound with these arguments.
fn reaches(broker: &Target, arguments: &[Vec<u8>], headers: &[Vec<u8>]) -> bool {
    let mut client = client(broker);
    client.bind(b"q", b"amq.headers", b"", arguments);
    let (exchange, properties) = (b"amq.headers", &table(headers));
    client.publish(RawPublish { exchange, flags: flags::HEADERS, properties, ..RawPublish::default() });
    client.confirmed();
    let reached = client.get(b"q").is_some();
    client
        .send(1, Fields::method(50, 50).word(0).short(b"q").short(b"amq.headers").short(b"").bytes(&table(arguments)));
    client.expect(1, (50, 51));
    client.close();
    reached
}

pub(crate) async fn of_several_headers_of_one_name_each_serves_one_argument(broker: &Target) {
    let k = |number: i64| field(b"k", &integer(number));
    let any = field(b"x-match", &long_string(b"any"));
    let cases = [
        (vec![k(1)], vec![k(1), k(2)], true),
        (vec![k(2)], vec![k(1), k(2)], false),
        (vec![any.clone(), k(2)], vec![k(1), k(2)], false),
        (vec![k(1), k(2)], vec![k(1), k(2)], true),
        (vec![k(1), k(2)], vec![k(1)], false),
        (vec![any.clone(), k(1), k(2)], vec![k(1)], true),
        (vec![any, k(1), k(2)], vec![k(2)], false),
        (vec![field(b"\xe9", &integer(1))], vec![field(b"\xe9", &integer(1))], true),
    ];
    for (arguments, headers, expected) in cases {
        assert_eq!(reaches(broker, &arguments, &headers), expected, "{arguments:?} {headers:?}");
    }
}

pub(crate) async fn headers_are_compared_by_value_and_what_is_in_them_by_type(broker: &Target) {
    let pair = |fields: &[&[u8]]| {
        let fields: Vec<Vec<u8>> = fields.iter().map(|name| field(name, b"V")).collect();
        [b"F", &table(&fields)[..]].concat()
    };
    let even = 1_i64 << 53;
    let cases = [
        (long_string(b"a"), b"x\0\0\0\x01a".to_vec(), true),
        (integer(1), b"I\0\0\0\x01".to_vec(), true),
        (integer(1), b"T\0\0\0\0\0\0\0\x01".to_vec(), true),
        (integer(1), double(1.0), true),
        (integer(0), double(-0.0), true),
        (integer(even), double(even as f64), true),
        (integer(even + 1), double(even as f64), false),
        (integer(1), b"t\x01".to_vec(), false),
        (b"t\x01".to_vec(), b"t\x02".to_vec(), true),
        (array(&[integer(1)]), array(&[b"I\0\0\0\x01".to_vec()]), false),
        (array(&[integer(1)]), array(&[b"L\0\0\0\0\0\0\0\x01".to_vec()]), true),
        (pair(&[b"a", b"b"]), pair(&[b"b", b"a"]), false),
        (pair(&[]), array(&[]), true),
        (b"D\x01\0\0\0\x05".to_vec(), b"D\x02\0\0\0\x32".to_vec(), false),
        (b"V".to_vec(), integer(5), true),
        (integer(5), b"V".to_vec(), false),
    ];
    for (wanted, sent, expected) in cases {
        let reached = reaches(broker, &[field(b"k", &wanted)], &[field(b"k", &sent)]);
        assert_eq!(reached, expected, "{wanted:?} {sent:?}");
    }
}

pub(crate) async fn an_x_match_of_any_bytes_is_406(broker: &Target) {
    let cases: [(Vec<u8>, &[u8]); 2] = [
        (long_string(b"\xe9"), b"value <<\"\xe9\">>; expected all, any, all-with-x, or any-with-x"),
        (b"x\0\0\0\x03any".to_vec(), b"type binary (value <<\"any\">>); expected longstr"),
    ];
    for (mode, said) in cases {
        let mut client = client(broker);
        let bind = Fields::method(50, 20).word(0).short(b"q").short(b"amq.headers").short(b"").octet(0);
        client.send(1, bind.bytes(&table(&[field(b"x-match", &mode)])));
        let close = client.expect(1, (20, 40));
        let text = [b"PRECONDITION_FAILED - Invalid x-match field ", said].concat();
        assert_eq!(close, Fields::method(20, 40).word(406).short(&text).word(50).word(20).into_bytes());
    }
}

pub(crate) async fn without_its_secret_copies_a_message_keeps_its_other_headers(broker: &Target) {
    let (bcc, bool_of) = (field(b"BCC", &array(&[])), |octet| field(b"z", &[b't', octet]));
    let sent = table(&[field(b"z", b"V"), bcc, bool_of(2), field(b"a", b"V")]);
    let received = through(broker, flags::HEADERS, &sent).properties;
    // In their order, and in RabbitMQ's encoding.
    assert_eq!(received, table(&[field(b"z", b"V"), bool_of(1), field(b"a", b"V")]));
}
