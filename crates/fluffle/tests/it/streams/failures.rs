//! What becomes of messages of a stream that fail.

use fluffle::{prelude::*, wire::headers};

use super::*;

#[actix::test]
async fn a_failed_message_is_retried_beside_the_stream_and_the_rest_goes_on() {
    let vhost = vhost();
    let (_publishing, _out) = stream_of(&vhost, numbers(0..5)).await;
    let (factory, mut record) =
        handlers(
            |seen| if seen.text == "2" && seen.attempt < 3 { Act::Err(Failure::retry("not yet")) } else { Act::Ok },
        );
    let store = Offsets::in_memory().unwrap();
    let service = started(reading(&vhost, events(reader(&store)), factory)).await;
    let mut seen = Vec::new();
    for _ in 0..7 {
        seen.push(next(&mut record).await);
    }
    let attempts: Vec<u32> = seen.iter().filter(|one| one.text == "2").map(|one| one.attempt).collect();
    assert_eq!(attempts, [1, 2, 3]);
    until("all is kept", || status(&service).kept == Some(5)).await;
    service.shutdown().await.unwrap();
    assert_eq!(Raw::connect(vhost.url()).await.ready("events.r").await, 0);
}

#[actix::test]
async fn poison_is_a_dead_letter_and_a_replay_goes_to_the_readers_own_queue() {
    let vhost = vhost();
    let (publishing, _out) = stream_of(&vhost, numbers(0..3)).await;
    let is_mended = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mended = std::sync::Arc::clone(&is_mended);
    let (factory, mut record) = handlers(move |seen| match &*seen.text {
        "1" if !mended.load(std::sync::atomic::Ordering::SeqCst) => Act::Panic,
        _ => Act::Ok,
    });
    let store = Offsets::in_memory().unwrap();
    let service = started(reading(&vhost, events(reader(&store)), factory)).await;
    texts(&mut record, 5).await;
    let dead = || service.consumers().iter().map(|(_, stats)| stats.dead_lettered).sum::<u64>();
    until("a dead letter", || dead() == 1).await;
    until("all is kept", || status(&service).kept == Some(3)).await;
    let letter = Raw::connect(vhost.url()).await.take("events.r.dead").await;
    assert_eq!(letter.header(headers::REASON).as_deref(), Some("attempts-exhausted"));
    assert_eq!(letter.header("x-stream-offset").as_deref(), Some("1"));
    Raw::connect(vhost.url()).await.put("events.r.dead", &letter.body, letter.properties).await;

    is_mended.store(true, std::sync::atomic::Ordering::SeqCst);
    let replayed = service.replay(fluffle::amqp::Replay::from("events.r.dead")).await.unwrap();
    assert_eq!(replayed.replayed, 1, "{replayed}");
    let again = next(&mut record).await;
    assert_eq!((&*again.text, again.attempt), ("1", 1));
    service.shutdown().await.unwrap();
    publishing.shutdown().await.unwrap();
    let (factory, mut record) = handlers(|_| Act::Ok);
    let other = StreamReader::new("other", Offsets::in_memory().unwrap());
    let service = started(reading(&vhost, events(other), factory)).await;
    texts(&mut record, 3).await;
    service.shutdown().await.unwrap();
    assert!(record.try_recv().is_err(), "nothing was published into the stream");
}

/// Of a classic queue that refuses a second message.
fn full() -> lapin::types::FieldTable {
    let mut arguments = lapin::types::FieldTable::default();
    arguments.insert("x-queue-type".into(), lapin::types::AMQPValue::LongString("classic".into()));
    arguments.insert("x-max-length".into(), lapin::types::AMQPValue::LongLongInt(1));
    arguments.insert("x-overflow".into(), lapin::types::AMQPValue::LongString("reject-publish".into()));
    arguments
}

#[actix::test]
async fn the_offset_does_not_pass_a_failed_message_whose_copy_is_not_confirmed() {
    let vhost = vhost();
    let (_publishing, _out) = stream_of(&vhost, numbers(0..3)).await;
    let raw = Raw::connect(vhost.url()).await;
    let durable = lapin::options::QueueDeclareOptions { durable: true, ..Default::default() };
    let store = Offsets::in_memory().unwrap();
    let (factory, mut record) =
        handlers(|seen| if seen.text == "1" { Act::Err(Failure::reject("never")) } else { Act::Ok });
    let topology = Topology::new()
        .queue(Queue::stream("events"))
        .queue(Queue::classic("events.r.dead").max_length(1).overflow(fluffle::amqp::Overflow::RejectPublish));
    let app = App::new(broker(vhost.url())).topology(topology).consume(events(reader(&store)), factory);
    raw.channel().queue_declare("events.r.dead".into(), durable, full()).await.unwrap();
    raw.put("events.r.dead", b"in the way", Default::default()).await;
    let service = started(app).await;
    texts(&mut record, 3).await;
    until("0 and 2 are done", || status(&service).kept == Some(1)).await;
    let nacked = || service.publishers().iter().map(|(_, stats)| stats.nacked).sum::<u64>();
    until("the copy was refused more than once", || nacked() > 1).await;
    assert_eq!(status(&service).next, Some(1), "the dead letter has no place yet");
    assert_eq!(raw.take("events.r.dead").await.body, b"in the way");
    until("all is kept", || status(&service).kept == Some(3)).await;
    service.shutdown().await.unwrap();
}
