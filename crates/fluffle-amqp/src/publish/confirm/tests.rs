use crate::publish::confirm::*;
use lapin::{BasicProperties, message::Delivery};

fn returned(id: &str) -> Option<BasicReturnMessage> {
    let mut delivery = Delivery::mock(0, "x".into(), "k".into(), false, Vec::new());
    delivery.properties = BasicProperties::default().with_message_id(id.into());
    Some(BasicReturnMessage { delivery, reply_code: 312, reply_text: "NO_ROUTE".into() })
}

fn ack(sequence: u64, carried: Option<BasicReturnMessage>) -> Resolved {
    let message = message(&format!("m{sequence}"), "x", "k");
    Resolved::new(sequence, message, Ok(Confirmation::Ack(carried)))
}

fn message(id: &str, exchange: &str, key: &str) -> Arc<Prepared> {
    Arc::new(Prepared::new(id, exchange, key, BasicProperties::default(), bytes::Bytes::new()))
}

fn decide(judge: &mut Judge, mut resolved: Vec<Resolved>, nothing_left: bool) -> Vec<(u64, ConfirmVerdict)> {
    let mut verdicts = Vec::new();
    judge.decide(&mut resolved, nothing_left, &mut verdicts);
    verdicts
}

fn judge() -> Judge {
    Judge { requested: true, ..Judge::default() }
}

fn shown(verdicts: Vec<(u64, ConfirmVerdict)>) -> Vec<(u64, &'static str)> {
    let mut shown: Vec<_> = verdicts
        .iter()
        .map(|(sequence, verdict)| {
            let name = match verdict {
                ConfirmVerdict::Confirmed => "confirmed",
                ConfirmVerdict::Written => "written",
                ConfirmVerdict::Returned(_) => "returned",
                ConfirmVerdict::Nacked => "nacked",
                ConfirmVerdict::DoesNotFit(_) => "does not fit",
                ConfirmVerdict::Lost(_) => "lost",
            };
            (*sequence, name)
        })
        .collect();
    shown.sort_unstable();
    shown
}

#[tokio::test]
async fn of_many_published_at_once_each_has_a_verdict_of_its_own() {
    let test = crate::publish::tests::TestChannel::open().await;
    let mut confirms = ConfirmTracker::new(test.channel.clone(), FrameMax::default(), true);
    for round in 0..3 {
        let key = |number: u64| if number.is_multiple_of(7) { "nowhere" } else { "q" };
        for number in 0..500 {
            let id = format!("{round}/{number}");
            let properties = BasicProperties::default().with_message_id(id.as_str().into());
            let message = Prepared::new(id, "", key(number), properties, bytes::Bytes::from_static(b"body"));
            confirms.publish(number, message);
        }
        let mut verdicts = Vec::new();
        while verdicts.len() < 500 {
            let more = tokio::time::timeout(std::time::Duration::from_secs(30), confirms.settled());
            verdicts.extend(more.await.expect("a verdict in time"));
        }
        let told = |number| if key(number) == "q" { "confirmed" } else { "returned" };
        assert_eq!(shown(verdicts), (0..500).map(|number| (number, told(number))).collect::<Vec<_>>());
        assert!(confirms.is_empty() && confirms.spare.len() <= MOST_SPARE);
    }
    test.close().await;
}

#[test]
fn a_return_carried_by_another_messages_confirm_fails_its_owner_only() {
    // An ack with `multiple` covers 1..=3. Message 3 was returned, and lapin gave its return to message 1.
    let verdicts = decide(&mut judge(), vec![ack(3, None), ack(1, returned("m3")), ack(2, None)], true);
    assert_eq!(shown(verdicts), [(1, "confirmed"), (2, "confirmed"), (3, "returned")]);
}

#[test]
fn an_acked_message_waits_while_its_own_return_may_be_queued_behind_anothers() {
    // The returns of 1 and 2 are queued. The ack of 2 takes out the return of 1.
    let mut judge = judge();
    assert_eq!(shown(decide(&mut judge, vec![ack(2, returned("m1"))], false)), []);
    let verdicts = decide(&mut judge, vec![ack(1, returned("m2"))], false);
    assert_eq!(shown(verdicts), [(1, "returned"), (2, "returned")]);
}

#[test]
fn a_suspect_is_confirmed_once_the_queue_of_returns_was_seen_empty_after_it() {
    let mut judge = judge();
    assert_eq!(shown(decide(&mut judge, vec![ack(2, returned("m1"))], false)), []);
    assert_eq!(shown(decide(&mut judge, vec![ack(5, None)], false)), [(2, "confirmed"), (5, "confirmed")]);
}

#[test]
fn a_lost_channel_leaves_suspects_unknown_not_confirmed() {
    let mut judge = judge();
    assert_eq!(shown(decide(&mut judge, vec![ack(2, returned("m1"))], false)), []);
    let gone = lapin::Error::from(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
    let lost = Resolved::new(1, message("m1", "x", "k"), Err(gone));
    assert_eq!(shown(decide(&mut judge, vec![lost], true)), [(1, "lost"), (2, "lost")]);
}

#[test]
fn not_requested_on_a_confirm_channel_is_never_success() {
    let one = || Resolved::new(1, message("m1", "x", "k"), Ok(Confirmation::NotRequested));
    assert_eq!(shown(decide(&mut judge(), vec![one()], true)), [(1, "lost")]);
    assert_eq!(shown(decide(&mut Judge::default(), vec![one()], true)), [(1, "written")]);
}

#[test]
fn two_copies_under_one_id_keep_their_own_verdicts() {
    let mut other = ack(2, None);
    other.message = message("m1", "", "elsewhere");
    let verdicts = decide(&mut judge(), vec![other, ack(1, returned("m1"))], true);
    assert_eq!(shown(verdicts), [(1, "returned"), (2, "confirmed")]);
}

#[test]
fn bookkeeping_is_empty_when_everything_is_judged() {
    let mut judge = judge();
    decide(&mut judge, vec![ack(1, returned("m2")), ack(2, None), ack(3, None)], true);
    assert!(judge.returned.is_empty() && judge.suspects.is_empty());
}
