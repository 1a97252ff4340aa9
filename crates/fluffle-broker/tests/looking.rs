//! Inspecting queues, and waiting until all are settled.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::Duration;

use common::{channel, consume, durable, publish, run};
use fluffle_broker::{Broker, BrokerError, Value};
use futures_util::StreamExt;
use lapin::{
    BasicProperties,
    options::{BasicAckOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, ShortString},
};

const SHORT: Duration = Duration::from_millis(50);
const LONG: Duration = Duration::from_secs(15);

fn table(fields: impl IntoIterator<Item = (&'static str, AMQPValue)>) -> FieldTable {
    fields.into_iter().fold(FieldTable::default(), |mut table, (name, value)| {
        table.insert(name.into(), value);
        table
    })
}

#[test]
fn what_lies_in_a_queue_is_shown_as_it_was_published_and_stays_there() {
    let broker = Broker::start().unwrap();
    run(async {
        let channel = channel(&broker).await;
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        durable(&channel, "q").await;
        let headers = table([
            ("text", AMQPValue::LongString("words".into())),
            ("number", AMQPValue::ShortInt(-7)),
            ("inner", AMQPValue::FieldTable(table([("yes", AMQPValue::Boolean(true))]))),
        ]);
        let properties = BasicProperties::default()
            .with_message_id("m-1".into())
            .with_type("usgs.v1.Quake".into())
            .with_priority(4)
            .with_timestamp(1_700_000_000)
            .with_headers(headers);
        let (exchange, key) = (ShortString::from(""), ShortString::from("q"));
        let options = BasicPublishOptions::default();
        channel.basic_publish(exchange, key, options, b"body", properties).await.unwrap().await.unwrap();
    });
    for _ in 0..2 {
        let messages = broker.messages("q").unwrap();
        let [message] = &messages[..] else { panic!("{messages:?}") };
        assert_eq!((&message.exchange[..], &message.routing_key[..], &message.body[..]), ("", "q", &b"body"[..]));
        assert_eq!((message.message_id.as_deref(), message.kind.as_deref()), (Some("m-1"), Some("usgs.v1.Quake")));
        assert_eq!((message.priority, message.timestamp), (Some(4), Some(1_700_000_000)));
        assert_eq!(message.headers["text"].as_text(), Some("words"));
        assert_eq!(message.headers["number"].as_int(), Some(-7));
        let Value::Table(inner) = &message.headers["inner"] else { panic!("{:?}", message.headers) };
        assert_eq!(inner["yes"], Value::Bool(true));
    }
}

#[test]
fn messages_are_shown_in_the_order_of_their_delivery() {
    let broker = Broker::start().unwrap();
    run(async {
        let channel = channel(&broker).await;
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let arguments = table([("x-max-priority", AMQPValue::LongInt(9))]);
        channel.queue_declare("q".into(), options, arguments).await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        for (body, priority) in [(b"a", 1), (b"b", 9), (b"c", 1)] {
            let properties = BasicProperties::default().with_priority(priority);
            let options = BasicPublishOptions::default();
            channel.basic_publish("".into(), "q".into(), options, body, properties).await.unwrap().await.unwrap();
        }
    });
    let bodies: Vec<_> = broker.messages("q").unwrap().into_iter().map(|message| message.body).collect();
    assert_eq!(bodies, ["b", "a", "c"]);
}

#[test]
fn a_queue_that_is_not_there_is_an_error_that_names_it() {
    let error = Broker::start().unwrap().messages("nowhere").unwrap_err();
    assert!(matches!(&error, BrokerError::NoQueue { queue } if queue == "nowhere"), "{error:?}");
}

#[test]
fn settled_waits_for_what_is_unacked_and_for_what_a_consumer_is_yet_to_take() {
    let broker = Broker::start().unwrap();
    run(async {
        let channel = channel(&broker).await;
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        durable(&channel, "q").await;
        broker.settled(LONG).await.unwrap();
        publish(&channel, "q", b"one", true).await;
        // The queue has never had a consumer, so its message is at rest, like a dead letter.
        broker.settled(LONG).await.unwrap();
        let mut consumer = consume(&channel, "q").await;
        let delivery = consumer.next().await.unwrap().unwrap();
        let error = broker.settled(SHORT).await.unwrap_err();
        assert!(error.to_string().contains("q: 0 ready, 1 unacked, 1 consumer"), "{error}");
        delivery.ack(BasicAckOptions::default()).await.unwrap();
        broker.settled(LONG).await.unwrap();
        // The consumer is away, as during a restart of its channel, so the message is not at rest.
        channel.basic_cancel(consumer.tag(), Default::default()).await.unwrap();
        publish(&channel, "q", b"two", true).await;
        let error = broker.settled(SHORT).await.unwrap_err();
        assert!(error.to_string().contains("q: 1 ready, 0 unacked, 0 consumers"), "{error}");
    });
}

#[test]
fn a_message_that_waits_for_its_retry_is_not_settled_and_its_dead_letter_is() {
    let broker = Broker::start().unwrap();
    run(async {
        let channel = channel(&broker).await;
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        durable(&channel, "dead").await;
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let arguments = table([
            ("x-message-ttl", AMQPValue::LongInt(300)),
            ("x-dead-letter-exchange", AMQPValue::LongString("".into())),
            ("x-dead-letter-routing-key", AMQPValue::LongString("dead".into())),
        ]);
        channel.queue_declare("later".into(), options, arguments).await.unwrap();
        publish(&channel, "later", b"one", true).await;
        assert_eq!(broker.snapshot().unwrap().unsettled().count(), 1);
        broker.settled(LONG).await.unwrap();
        assert_eq!(broker.messages("dead").unwrap().len(), 1);
    });
}

#[test]
fn a_stream_is_shown_with_its_offsets_and_settled_when_its_consumers_have_all_of_it() {
    let broker = Broker::start().unwrap();
    run(async {
        let channel = channel(&broker).await;
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let arguments = table([
            ("x-queue-type", AMQPValue::LongString("stream".into())),
            ("x-stream-max-segment-size-bytes", AMQPValue::LongInt(1)),
        ]);
        channel.queue_declare("q".into(), options, arguments).await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        for body in ["a", "b", "c"] {
            publish(&channel, "q", body.as_bytes(), true).await;
        }
        let stream = broker.snapshot().unwrap().queue("q").unwrap().clone();
        assert_eq!((stream.ready, stream.ready_bytes, stream.unacked, stream.offsets), (3, 3, 0, Some(0..5)));
        assert!(stream.at_rest, "nobody reads it");
        let shown: Vec<_> = broker.messages("q").unwrap();
        let shown: Vec<_> = shown.into_iter().map(|message| (message.stream_offset, message.body)).collect();
        assert_eq!(shown, [(Some(0), "a".into()), (Some(2), "b".into()), (Some(4), "c".into())]);

        channel.basic_qos(2, Default::default()).await.unwrap();
        let arguments = table([("x-stream-offset", AMQPValue::LongString("first".into()))]);
        let consumer = channel.basic_consume("q".into(), "".into(), Default::default(), arguments).await;
        let mut consumer = consumer.unwrap();
        for expected in [false, true, true] {
            let stream = broker.snapshot().unwrap().queue("q").unwrap().clone();
            assert_eq!((stream.ready, stream.consumers, stream.at_rest), (3, 1, expected));
            let delivery = consumer.next().await.unwrap().unwrap();
            delivery.ack(BasicAckOptions::default()).await.unwrap();
            // Answered when the ack has been handled.
            channel.basic_qos(2, Default::default()).await.unwrap();
        }
        let state = broker.snapshot().unwrap();
        assert_eq!(state.unsettled().count(), 0, "{state:?}");
    });
}
