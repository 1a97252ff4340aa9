//! Direct reply-to: answers without a reply queue (<https://www.rabbitmq.com/docs/direct-reply-to>).

use conformance::{Chan, Target, refusal, table, text};
use lapin::BasicProperties;

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

/// Asks, and returns the address the server sees.
async fn ask(client: &Chan, server: &Chan) -> String {
    let properties = BasicProperties::default().with_reply_to(REPLY_TO.into());
    client.publish_with("", "rpc", "question", properties).await.unwrap();
    let question = server.get("rpc").await.unwrap();
    question.properties.reply_to().as_ref().unwrap().to_string()
}
