//! What actions do to the service.

use std::{
    net::Shutdown,
    sync::{Arc, Mutex, atomic::Ordering, mpsc},
};

use fluffle::prelude::*;
use fluffle_telemetry::status::Action;

use crate::{
    client::{begin_post, code, header, json, post, rest, right},
    security::PAUSE,
    service::{DEAD, Served, TOKEN, logged, status, until, with_actions},
};

#[test]
fn a_pause_and_a_resume_are_done_and_said() {
    let served = Served::start(with_actions());
    let paused = post(&served, "/actions/pause", &right(&served), PAUSE);
    assert_eq!(code(&paused), 200, "{paused}");
    assert_eq!(json(&paused)["words"], "The consumers of orders are paused; nothing of theirs is in hand.");
    assert!(served.is_paused());
    let resumed = post(&served, "/actions/resume", &right(&served), PAUSE);
    assert_eq!(json(&resumed)["words"], "The consumers of orders take messages again.");
    assert!(!served.is_paused());
    let again = post(&served, "/actions/resume", &right(&served), PAUSE);
    assert_eq!(json(&again)["words"], "The consumers of orders were not stopped.");
}

#[test]
fn what_is_not_there_is_not_found_and_named() {
    let served = Served::start(with_actions());
    for action in ["pause", "resume", "replay"] {
        let answer = post(&served, &format!("/actions/{action}"), &right(&served), "{\"queue\":\"nothing\"}");
        assert_eq!(code(&answer), 404, "{action}: {answer}");
        assert!(json(&answer)["error"].as_str().unwrap().contains("nothing"), "{answer}");
    }
}

/// The consumer has a dead-letter queue of its own, which is not `orders.dead`.
#[test]
fn a_replay_that_does_not_say_so_is_a_dry_run_of_the_consumers_own_dead_letters() {
    let served = Served::start(with_actions());
    served.publish(&["a", "b"]);
    until("both are dead", || served.dead_letters() == 2);
    served.rejects.store(false, Ordering::SeqCst);

    let dry = post(&served, "/actions/replay", &right(&served), PAUSE);
    assert_eq!(code(&dry), 200, "{dry}");
    assert!(json(&dry)["words"].as_str().unwrap().contains("nothing was sent"), "{dry}");
    let line = json(&dry)["lines"][0].as_str().unwrap().to_owned();
    assert!(line.starts_with(&format!("{DEAD}: 2 looked at: 2 would be replayed")), "{line}");
    assert_eq!(served.dead_letters(), 2);

    let real = post(&served, "/actions/replay", &right(&served), "{\"queue\":\"orders\",\"dry_run\":false}");
    assert_eq!(code(&real), 200, "{real}");
    assert!(json(&real)["lines"][0].as_str().unwrap().contains(": 2 replayed"), "{real}");
    assert_eq!(served.dead_letters(), 0);
    served.picture("both are handled", |picture| {
        picture.queues[0].outcomes.iter().any(|one| one.outcome == "handled" && one.messages == 2)
    });
}

#[test]
fn a_killed_node_is_restarted() {
    let served = Served::start(status().token("0123456789abcdef").allow([Action::Kill]));
    let headers = format!("Origin: http://{}\nAuthorization: Bearer 0123456789abcdef\n", served.host());
    let node = "app/handlers/orders/0";
    let killed = post(&served, "/actions/kill", &headers, &format!("{{\"node\":\"{node}\"}}"));
    assert_eq!(code(&killed), 200, "{killed}");
    let picture = served.picture("it is a story with an end", |picture| {
        picture.stories.iter().any(|story| story.recovered_in.is_some())
    });
    assert_eq!(picture.stories[0].node, node);
    let nothing = post(&served, "/actions/kill", &headers, "{\"node\":\"app/nothing\"}");
    assert!(code(&nothing) == 404 && nothing.contains("app/nothing"), "{nothing}");
}

/// Answers when the test says so.
struct Waits(Arc<Mutex<mpsc::Receiver<()>>>);

impl Actor for Waits {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Waits {
    type Result = Result<(), Failure>;

    fn handle(&mut self, _: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        // An error means that the test has ended.
        let _ = self.0.lock().unwrap().recv();
        Ok(())
    }
}

/// A service with a consumer of `slow`, whose handler is at work until the sender is dropped or sends.
fn with_slow_handler() -> (Served, mpsc::Sender<()>) {
    let (go, wait) = mpsc::channel();
    let wait = Arc::new(Mutex::new(wait));
    let mut out = None;
    let served = Served::start_with(with_actions(), |app| {
        let app = app.topology(Topology::new().queue(Queue::quorum("orders")).queue(Queue::quorum("slow")));
        out = Some(app.publisher::<String>(Route::queue("slow")));
        app.consume(Consume::queue("slow"), move || Waits(Arc::clone(&wait)))
    });
    served.block_on(out.unwrap().publish("a".to_owned())).unwrap();
    served.picture("the handler is at work", |picture| {
        picture.queues.iter().any(|queue| queue.name == "slow" && queue.in_hand == 1 && queue.waiting == 0)
    });
    (served, go)
}

const SLOW: &str = "{\"queue\":\"slow\"}";

#[test]
fn an_action_goes_on_when_its_asker_goes_away_and_the_log_says_how_it_ended_and_who_asked() {
    let (served, go) = with_slow_handler();
    let asker = begin_post(&served, "/actions/pause", &right(&served), SLOW);
    let peer = format!("peer={}", asker.local_addr().unwrap());
    served.picture("the pause has begun", |picture| {
        picture.queues.iter().any(|queue| queue.name == "slow" && queue.state == "paused")
    });
    // Closed with an answer outstanding.
    asker.shutdown(Shutdown::Both).unwrap();
    drop(asker);
    let lines = || -> Vec<String> { logged().lines().filter(|l| l.contains(&peer)).map(str::to_owned).collect() };
    assert!(lines().len() == 1 && lines()[0].contains("was asked for an action"), "{:?}", lines());
    go.send(()).unwrap();
    until("the end is logged", || lines().len() == 2);
    let end = &lines()[1];
    assert!(end.contains("The consumers of slow are paused") && end.contains("action=\"pause\""), "{end}");
}

#[test]
fn an_action_that_fails_is_logged_with_the_reason() {
    let served = Served::start(with_actions());
    let asker = begin_post(&served, "/actions/pause", &right(&served), "{\"queue\":\"nothing\"}");
    let peer = format!("peer={}", asker.local_addr().unwrap());
    assert_eq!(code(&rest(asker)), 404);
    let log = logged();
    let line = log.lines().find(|line| line.contains(&peer) && line.contains("could not act")).expect("it is logged");
    assert!(line.contains("WARN") && line.contains("nothing"), "{line}");
    assert!(!log.contains(TOKEN), "the token is in no line");
}

#[test]
fn actions_above_the_limit_are_refused_until_one_ends() {
    let (served, go) = with_slow_handler();
    // Each waits for the handler.
    let waiting: Vec<_> = (0..4).map(|_| begin_post(&served, "/actions/pause", &right(&served), SLOW)).collect();
    until("a fifth is refused", || {
        let fifth = post(&served, "/actions/resume", &right(&served), PAUSE);
        code(&fifth) == 503 && fifth.contains("4 actions") && header(&fifth, "retry-after") == Some("5")
    });
    go.send(()).unwrap();
    for one in waiting {
        let answer = rest(one);
        assert_eq!(code(&answer), 200, "{answer}");
    }
    assert_eq!(code(&post(&served, "/actions/resume", &right(&served), PAUSE)), 200);
}
