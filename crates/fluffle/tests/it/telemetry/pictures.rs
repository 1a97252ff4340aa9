//! The picture of a service: what the status page shows.

use std::time::Duration;

use fluffle::{
    prelude::*,
    telemetry::{
        Telemetry,
        status::picture::{NodeView, Picture},
    },
};

use crate::support::*;

fn find<'a>(node: &'a NodeView, path: &str) -> Option<&'a NodeView> {
    if node.path == path { Some(node) } else { node.children.iter().find_map(|child| find(child, path)) }
}

async fn seen(telemetry: &Telemetry, what: &str, is_it: impl Fn(&Picture) -> bool) -> std::sync::Arc<Picture> {
    until(what, || telemetry.picture().is_some_and(|picture| is_it(&picture))).await;
    telemetry.picture().unwrap()
}

#[actix::test]
async fn it_shows_tree_queues_publishers_connections_and_that_all_is_well() {
    let (vhost, telemetry) = (vhost(), Telemetry::new());
    let (app, out) = app(vhost.url());
    let (factory, _record) = handlers(|_| Act::Block(Duration::from_millis(1)));
    let service = started(app.telemetry(&telemetry).consume(Consume::queue("q").instances(2), factory)).await;
    publish(&out, &["a", "b", "c"]).await;
    let picture = seen(&telemetry, "three are handled", |picture| {
        let outcomes = picture.queues.iter().flat_map(|queue| &queue.outcomes);
        outcomes.filter(|one| one.outcome == "handled").any(|one| one.messages == 3)
    })
    .await;
    assert_eq!(picture.process.state, "running");
    assert!(picture.health.live.is_empty() && picture.health.ready.is_empty(), "{:?}", picture.health);
    let queue = &picture.queues[0];
    assert_eq!((&*queue.name, &*queue.state, queue.handlers), ("q", "consuming", 2));
    assert!(["healthy", "idle"].contains(&queue.verdict.kind), "{:?}", queue.verdict);
    assert!(queue.stages.iter().any(|stage| stage.stage == "handle" && stage.count > 0), "{:?}", queue.stages);
    let slowest = queue.messages.iter().find(|message| message.why != "failed").unwrap();
    assert!(slowest.id.is_some() && slowest.waterfall.iter().any(|(stage, took)| *stage == "handle" && *took >= 1.0));
    assert!(slowest.detail.is_none(), "no formatter, no content");
    let names: Vec<_> = picture.publishers.iter().map(|publisher| &*publisher.name).collect();
    assert_eq!(names, ["q", "q/copies"]);
    let up: Vec<_> = picture.connections.iter().map(|connection| (&*connection.name, connection.up)).collect();
    assert_eq!(up, [("publish-0", true), ("consume-0", true)]);
    assert!(picture.connections.iter().all(|connection| !connection.endpoint.as_ref().unwrap().contains('@')));
    let consumer = find(&picture.tree, "app/consume/consume-0/channels/q/consumer").unwrap();
    assert_eq!(consumer.state, "running");
    assert!(picture.stories.is_empty());
    service.shutdown().await.unwrap();
    let last = seen(&telemetry, "the service has ended", |picture| picture.process.state == "ended").await;
    assert!(!last.health.live.is_empty());
}

#[actix::test]
async fn a_message_that_crashes_its_handler_is_a_story_with_its_id_and_a_failed_message() {
    let (vhost, telemetry) =
        (vhost(), Telemetry::new().describe_messages(|attempt| Some(format!("{} bytes", attempt.body.len()))));
    let (app, out) = app(vhost.url());
    let (factory, _record) = handlers(|_| Act::Panic);
    let consume = Consume::queue("q").retry(retry(3)).handler_backoff(fast());
    let service = started(app.telemetry(&telemetry).consume(consume, factory)).await;
    soon("published", out.publish_with("a".to_owned(), MessageOptions::new().id("poison"))).await.unwrap();
    let picture = seen(&telemetry, "three crashes are told", |picture| {
        picture.stories.len() == 3 && picture.stories.iter().all(|story| story.recovered_in.is_some())
    })
    .await;
    let story = &picture.stories[0];
    assert!(story.node.starts_with("app/handlers/q/") && story.reason.contains("scripted panic"), "{story:?}");
    assert_eq!(story.in_hand, ["poison"]);
    assert!(story.remark.as_ref().unwrap().contains("poison"), "{story:?}");
    let failed: Vec<_> = picture.queues[0].messages.iter().filter(|message| message.why == "failed").collect();
    assert_eq!(failed.len(), 3);
    assert_eq!((failed[0].outcome, failed[0].attempt, failed[0].id.as_deref()), ("crashed", 3, Some("poison")));
    assert!(failed[0].failure.as_ref().unwrap().contains("scripted panic"));
    assert_eq!(failed[0].detail.as_deref(), Some(&*format!("{} bytes", encoded("a").0.len())));
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_lost_connection_is_a_story_and_a_paused_consumer_a_verdict() {
    let (vhost, telemetry) = (vhost(), Telemetry::new());
    let (app, out) = app(vhost.url());
    let (factory, _record) = handlers(|_| Act::Ok);
    let service = started(app.telemetry(&telemetry).consume(Consume::queue("q"), factory)).await;
    publish(&out, &["a"]).await;
    vhost.close_connections("a test");
    let picture = seen(&telemetry, "both connections are back", |picture| {
        let back = picture.stories.iter().filter(|story| story.recovered_in.is_some());
        back.filter(|story| story.node.ends_with("/socket")).count() == 2
    })
    .await;
    assert_eq!(picture.stories.len(), 2, "one for each connection: {:?}", picture.stories);
    soon("paused", service.pause_consumer("q")).await.unwrap();
    seen(&telemetry, "it is paused", |picture| picture.queues[0].verdict.kind == "paused").await;
    until("the next step of the history has the queue", || {
        telemetry.history().unwrap().series.iter().any(|series| series.of == "queue" && series.name == "q")
    })
    .await;
    service.shutdown().await.unwrap();
}
