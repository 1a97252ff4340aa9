//! Direct reply-to: answers without a reply queue (<https://www.rabbitmq.com/docs/direct-reply-to>).

use conformance::{
    Chan, Target,
    raw::{self, Fields, RawClient, RawPublish, field, flags, nested_arrays},
    refusal, table, text,
};
use lapin::BasicProperties;

use crate::foreign;

const REPLY_TO: &str = "amq.rabbitmq.reply-to";

pub(crate) async fn an_answer_reaches_the_asking_channel(broker: &Target) {
    let (client, server) = (broker.channel().await, broker.channel().await);
    server.queue("rpc").await;
    let mut replies = client.consume_no_ack(REPLY_TO).await;
    let reply_to = ask(&client, &server).await;
    assert!(reply_to.starts_with("amq.rabbitmq.reply-to."), "{reply_to}");
    let answer = BasicProperties::default().with_correlation_id("1".into());
    server.publish_with("", &reply_to, "answer", answer).await.unwrap();
    let delivery = replies.next().await;
    assert_eq!((text(&delivery.data).as_str(), delivery.routing_key.as_str()), ("answer", reply_to.as_str()));
    assert_eq!(delivery.properties.correlation_id().as_ref().unwrap().as_str(), "1");
}

pub(crate) async fn asking_before_consuming_is_406(broker: &Target) {
    let channel = broker.channel().await;
    let properties = BasicProperties::default().with_reply_to(REPLY_TO.into());
    let refused = refusal(channel.publish_with("", "rpc", "question", properties).await);
    assert_eq!(refused, (406, "PRECONDITION_FAILED - fast reply consumer does not exist".into()));
}

pub(crate) async fn consuming_replies_with_acknowledgements_is_406(broker: &Target) {
    let channel = broker.channel().await;
    let refused = refusal(channel.basic_consume(REPLY_TO.into(), "".into(), Default::default(), table! {}).await);
    assert_eq!(refused, (406, "PRECONDITION_FAILED - reply consumer cannot acknowledge".into()));
}

pub(crate) async fn a_second_reply_consumer_on_the_channel_is_406(broker: &Target) {
    let channel = broker.channel().await;
    let _replies = channel.consume_no_ack(REPLY_TO).await;
    let options = lapin::options::BasicConsumeOptions { no_ack: true, ..Default::default() };
    let refused = refusal(channel.basic_consume(REPLY_TO.into(), "".into(), options, table! {}).await);
    assert_eq!(refused, (406, "PRECONDITION_FAILED - reply consumer already set".into()));
}

pub(crate) async fn the_pseudo_queue_can_be_declared_and_is_empty(broker: &Target) {
    let channel = broker.channel().await;
    let queue = channel.declare(REPLY_TO, Default::default(), table! {}).await.unwrap();
    assert_eq!((queue.name().as_str(), queue.message_count(), queue.consumer_count()), (REPLY_TO, 0, 1));
}

pub(crate) async fn a_server_can_ask_whether_the_client_still_listens(broker: &Target) {
    let (client, server) = (broker.channel().await, broker.channel().await);
    server.queue("rpc").await;
    let replies = client.consume_no_ack(REPLY_TO).await;
    let reply_to = ask(&client, &server).await;
    server.inspect(&reply_to).await.unwrap();
    replies.cancel().await;
    client.quit().await;
    assert_eq!(refusal(server.inspect(&reply_to).await).0, 404);
}

/// Sends a request, and returns the address that the server sees.
async fn ask(client: &Chan, server: &Chan) -> String {
    let properties = BasicProperties::default().with_reply_to(REPLY_TO.into());
    client.publish_with("", "rpc", "question", properties).await.unwrap();
    let question = server.get("rpc").await.unwrap();
    question.properties.reply_to().as_ref().unwrap().to_string()
}

/// A client that waits for answers, a client that has its address, and the address.
fn asked(broker: &Target) -> (RawClient, RawClient, Vec<u8>) {
    let (mut client, mut server) = (foreign::client(broker), foreign::client(broker));
    client.consume(REPLY_TO.as_bytes(), b"answers", true);
    let properties = Fields::new().short(REPLY_TO.as_bytes()).into_bytes();
    client.publish(RawPublish { key: b"q", flags: flags::REPLY_TO, properties: &properties, ..RawPublish::default() });
    client.confirmed();
    let address = server.get(b"q").unwrap().properties[1..].to_vec();
    (client, server, address)
}

pub(crate) async fn a_mandatory_answer_is_delivered_and_returned(broker: &Target) {
    let (mut client, mut server, address) = asked(broker);
    let (flags, properties) = (flags::MESSAGE_ID, b"\x02\xe9a");
    let answer = RawPublish { key: &address, flags, properties, body: b"answer", ..RawPublish::default() };
    server.publish(RawPublish { mandatory: true, ..answer });
    let returned = server.returned();
    let method = Fields::method(60, 50).word(312).short(b"NO_ROUTE").short(b"").short(&address).into_bytes();
    assert_eq!((returned.method, &returned.body[..]), (method, &b"answer"[..]));
    server.confirmed();
    server.publish(answer);
    server.confirmed();
    for _ in 0..2 {
        let delivered = client.delivery();
        assert_eq!(
            (delivered.flags, &delivered.properties[..], &delivered.body[..]),
            (flags, &properties[..], &b"answer"[..])
        );
    }
    server.close();
}

pub(crate) async fn an_answer_to_nobody_is_returned_if_it_is_mandatory(broker: &Target) {
    let (client, mut server, address) = asked(broker);
    client.close();
    let nobody: [&[u8]; 5] = [
        &address,
        REPLY_TO.as_bytes(),
        b"amq.rabbitmq.reply-to.word",
        b"amq.rabbitmq.reply-to\xe9",
        b"amq.rabbitmq.reply-to.",
    ];
    for key in nobody {
        // Nobody reports when the channel with the address is closed.
        server.publish(RawPublish { key, mandatory: true, ..RawPublish::default() });
        server.returned();
        server.confirmed();
        server.publish(RawPublish { key, ..RawPublish::default() });
        server.confirmed();
    }
    server.close();
}

pub(crate) async fn an_address_of_two_words_that_is_none_is_541(broker: &Target) {
    for key in [&b"amq.rabbitmq.reply-to.two.words"[..], b"amq.rabbitmq.reply-to.\xe9.\xe9"] {
        let mut server = foreign::client(broker);
        server.publish(RawPublish { key, ..RawPublish::default() });
        assert_eq!(server.closed().code, 541);
    }
}

pub(crate) async fn a_question_keeps_its_other_properties(broker: &Target) {
    let mut client = foreign::client(broker);
    client.consume(REPLY_TO.as_bytes(), b"answers", true);
    let headers = raw::table(&[field(b"z", b"V"), field(b"\xe9", &nested_arrays(1000)), field(b"a", b"V")]);
    let reply_to = Fields::new().short(REPLY_TO.as_bytes()).into_bytes();
    client.publish(RawPublish {
        key: b"q",
        flags: flags::HEADERS | flags::REPLY_TO | flags::MESSAGE_ID,
        properties: &[&headers[..], &reply_to, b"\x02\xe9a"].concat(),
        ..RawPublish::default()
    });
    client.confirmed();
    let asked = client.get(b"q").unwrap();
    assert_eq!(asked.flags, flags::HEADERS | flags::REPLY_TO | flags::MESSAGE_ID);
    assert!(asked.properties.starts_with(&headers) && asked.properties.ends_with(b"\x02\xe9a"));
    client.close();
}
