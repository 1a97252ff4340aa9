//! A session that has nothing in hand.

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

/// How often the session is polled in an hour, once it has been at rest for a while.
async fn polls_of_an_hour(session: &Running) -> usize {
    sleep(Duration::from_secs(10)).await;
    let before = session.polls.get();
    sleep(HOUR).await;
    session.polls.get() - before
}

#[tokio::test(start_paused = true)]
async fn a_session_with_nothing_in_hand_runs_no_timer_and_one_with_a_delivery_does() {
    local(async {
        let session = Running::start(&settings(consume()), 1);
        assert_eq!(polls_of_an_hour(&session).await, 0, "it has just begun");
        session.deliver(1);
        let (_, ticket) = session.taken().await;
        assert!(polls_of_an_hour(&session).await >= 3600, "a delivery in hand has time limits");
        ticket.answer(Outcome::Handled(None));
        session.says(&["ack 1"]).await;
        assert_eq!(polls_of_an_hour(&session).await, 0, "it has handled a delivery");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn after_a_long_rest_what_waits_for_a_handler_is_given_back_in_time() {
    local(async {
        let session = Running::start(&settings(consume().give_back_after(Duration::ZERO)), 1);
        assert_eq!(polls_of_an_hour(&session).await, 0);
        for tag in 1..=2 {
            session.deliver(tag);
        }
        session.says(&["requeue 1", "requeue 2"]).await;
    })
    .await;
}
