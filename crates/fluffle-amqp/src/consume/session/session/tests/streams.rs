//! Sessions that read a stream.

use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};

use super::*;
use crate::{Offsets, StreamReader};

fn reading() -> Arc<SharedSettings> {
    let reader = StreamReader::new("r", Offsets::in_memory().unwrap());
    settings(consume().stream(reader))
}

impl Running {
    fn deliver_offset(&self, tag: u64, offset: i64) {
        let mut headers = FieldTable::default();
        headers.insert("x-stream-offset".into(), AMQPValue::LongLongInt(offset));
        let mut delivery = Delivery::mock(tag, "".into(), "q".into(), false, b"body".to_vec());
        delivery.properties = BasicProperties::default().with_headers(headers);
        self.deliver.send(Some(delivery)).unwrap();
    }
}

/// The first offset that is not done.
fn next_of(settings: &SharedSettings) -> Option<u64> {
    settings.reader.as_ref().unwrap().progress.offsets().next
}

#[tokio::test]
async fn acks_are_written_in_order_only() {
    local(async {
        let session = Running::start(&reading(), 1);
        for tag in 1..=3 {
            session.deliver_offset(tag, tag as i64 + 10);
        }
        let (_, slow) = session.taken().await;
        for _ in 2..=3 {
            session.taken().await.1.answer(Outcome::Handled(None));
        }
        tokio::time::sleep(crate::consume::settle::acks::MOST_HELD_BACK * 3).await;
        session.says(&[]).await;
        assert_eq!(next_of(&session.settings), Some(11));
        slow.answer(Outcome::Handled(None));
        session.says(&["ack up to 3"]).await;
        assert_eq!((next_of(&session.settings), session.stats().handled), (Some(14), 3));
    })
    .await;
}

#[tokio::test]
async fn a_drain_sends_nothing_back_to_a_stream() {
    local(async {
        let session = Running::start(&reading(), 1);
        session.deliver_offset(1, 0);
        session.deliver_offset(2, 1);
        let (_, begun) = session.taken().await;
        session.drain.send_replace(true);
        session.says(&["cancel"]).await;
        begun.answer(Outcome::Handled(None));
        let (said, settings) = (session.said.clone(), Arc::clone(&session.settings));
        assert!(matches!(session.drained().await, End::Drained));
        assert_eq!((said.all(), next_of(&settings)), (vec!["cancel".to_owned(), "ack 1".to_owned()], Some(1)));
        assert_eq!(settings.reader.as_ref().unwrap().progress.offsets().kept, Some(1), "kept before the session ends");
    })
    .await;
}

#[tokio::test]
async fn an_open_breaker_closes_the_channel_of_a_stream_and_sends_nothing_back() {
    local(async {
        let breaker = CircuitBreaker::new("backend").ratio(0.5).unwrap().window(Window::last(2));
        let retry = Retry::exponential(3, Duration::from_secs(1), 1.0).unwrap();
        let terms = consume().retry(retry.in_process_below(Duration::from_secs(2)).unwrap()).circuit_breaker(breaker);
        let reader = StreamReader::new("r", Offsets::in_memory().unwrap());
        let session = Running::start(&settings(terms.stream(reader)), 1);
        for tag in 1..=3 {
            session.deliver_offset(tag, tag as i64);
        }
        for _ in 0..2 {
            session.taken().await.1.answer(Outcome::Failed(Failure::retry("away")));
        }
        let (said, settings) = (session.said.clone(), Arc::clone(&session.settings));
        let end = timeout(Duration::from_secs(5), session.end).await.expect("it ends").unwrap();
        assert!(matches!(end, End::Paused));
        assert_eq!((said.all(), next_of(&settings)), (vec!["close channel".to_owned()], Some(1)));
    })
    .await;
}

#[tokio::test]
async fn a_queue_that_gives_no_offsets_ends_the_session() {
    local(async {
        let session = Running::start(&reading(), 1);
        session.deliver(1);
        let said = session.said.clone();
        let end = timeout(Duration::from_secs(5), session.end).await.expect("it ends").unwrap();
        assert!(matches!(end, End::NotAStream));
        assert!(said.all().is_empty(), "the message goes back with the channel: {:?}", said.all());
    })
    .await;
}
