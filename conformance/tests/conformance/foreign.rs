//! Messages that client libraries do not send and other software does: any bytes where AMQP has strings and tables.

use conformance::{
    Target,
    raw::{RawClient, RawPublish, flags},
};

/// A connection in bytes, with confirms and an empty queue `q`.
fn client(broker: &Target) -> RawClient {
    let mut client = RawClient::open(broker.address(), broker.vhost(), 0);
    client.declare(b"q", &[]);
    client.select_confirms();
    client
}

pub(crate) async fn a_property_that_is_not_utf8_is_delivered_as_it_came(broker: &Target) {
    let mut client = client(broker);
    client.publish(RawPublish {
        key: b"q",
        flags: flags::CORRELATION_ID,
        properties: b"\x03\xe9t\xe9",
        ..RawPublish::default()
    });
    client.confirmed();
    let message = client.get(b"q").unwrap();
    assert_eq!((message.flags, &message.properties[..]), (flags::CORRELATION_ID, &b"\x03\xe9t\xe9"[..]));
    client.close();
}
