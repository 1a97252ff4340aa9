//! The stories of restarts: which node ended and why, what went down with it, and when it was back.

use std::time::{Duration, Instant};

use fluffle_supervise::{Event, ExitReason, What};

use crate::insight::ring::Ring;

/// The most stories that are kept.
const STORIES: usize = 50;

/// The most messages and siblings that a story names.
const NAMED: usize = 5;

/// Nodes that end so soon before a node above them, or beside it, ended with it.
const TOGETHER: Duration = Duration::from_secs(1);

/// How long after a recovery deliveries that come again are counted as its.
const AFTERMATH: Duration = Duration::from_secs(10);

/// Totals of the whole service, from which a story takes what was added since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) redelivered: u64,
    pub(crate) republished: u64,
}

impl Totals {
    fn since(self, earlier: Self) -> Self {
        Self {
            redelivered: self.redelivered.saturating_sub(earlier.redelivered),
            republished: self.republished.saturating_sub(earlier.republished),
        }
    }
}

/// One exit that nobody asked for, and what came of it.
#[derive(Clone, Debug)]
pub(crate) struct Story {
    pub(crate) at: Instant,
    pub(crate) node: String,
    pub(crate) reason: String,
    /// How often the node ended before it was ready again.
    pub(crate) exits: u32,
    /// Ids of messages that its handler had in hand.
    pub(crate) in_hand: Vec<String>,
    pub(crate) siblings: Vec<String>,
    pub(crate) recovered_in: Option<Duration>,
    before: Totals,
    /// What came again, once the aftermath is over.
    came_again: Option<Totals>,
}

impl Story {
    /// What was delivered and published again because of it, as far as is known.
    pub(crate) fn came_again(&self, now: Totals) -> Totals {
        self.came_again.unwrap_or_else(|| now.since(self.before))
    }

    fn is_open(&self) -> bool {
        self.recovered_in.is_none()
    }

    /// The path of the node's supervisor.
    fn parent(&self) -> &str {
        parent(&self.node)
    }

    /// Whether both are handlers of one consumer. Each handler fails by itself: a message that is tried again may end
    /// the next one while the first is not back yet.
    fn is_beside(&self, path: &str) -> bool {
        self.node.contains("/handlers/") && parent(path) == self.parent()
    }
}

/// The last stories of a service.
#[derive(Debug)]
pub(crate) struct Stories {
    ring: Ring<Story>,
    /// Messages in the hand of handlers that crashed, by consumer, of which the exit is not told yet.
    early: Ring<(Instant, String, String)>,
}

impl Default for Stories {
    fn default() -> Self {
        Self { ring: Ring::new(STORIES), early: Ring::new(STORIES) }
    }
}

impl Stories {
    /// Takes an event of the tree. `totals` are those of this moment.
    pub(crate) fn record(&mut self, event: &Event, totals: Totals) {
        match &event.what {
            What::Exited { reason } if reason.is_normal() => self.sibling(event),
            // The failure below was told already; this is its consequence.
            What::Exited { reason: ExitReason::Escalated(_) } => self.sibling(event),
            What::Exited { reason } => self.exited(event, &reason.to_string(), totals),
            What::Ready => self.ready(event),
            _ => {}
        }
    }

    /// A handler crashed with this message in hand. That may be told before the exit of the handler, or after it.
    pub(crate) fn crashed(&mut self, at: Instant, consumer: &str, message: &str) {
        let handlers = handlers(consumer);
        // A story that has the message already is of the attempt before.
        let is_its = |story: &&mut Story| {
            story.is_open() && story.node.contains(&handlers) && !story.in_hand.iter().any(|known| known == message)
        };
        match self.ring.iter_mut().rev().find(is_its) {
            Some(story) => name(&mut story.in_hand, message),
            None => self.early.push((at, handlers, message.to_owned())),
        }
    }

    /// Ends what is long over. To be called from time to time.
    pub(crate) fn settle(&mut self, now: Instant, totals: Totals) {
        for story in self.ring.iter_mut().filter(|story| story.came_again.is_none()) {
            let recovered = story.recovered_in.map(|after| story.at + after);
            if recovered.is_some_and(|recovered| now.saturating_duration_since(recovered) >= AFTERMATH) {
                story.came_again = Some(totals.since(story.before));
            }
        }
    }

    /// The newest first, each with a remark if there is one.
    pub(crate) fn newest(&self) -> impl Iterator<Item = (&Story, Option<String>)> {
        let all: Vec<_> = self.ring.iter().rev().collect();
        let remarks: Vec<_> = (0..all.len()).map(|n| remark(&all[n..])).collect();
        all.into_iter().zip(remarks)
    }

    fn exited(&mut self, event: &Event, reason: &str, totals: Totals) {
        let path: &str = &event.path;
        // The same node, again, before it was ready.
        if let Some(story) = self.ring.iter_mut().rev().find(|story| story.is_open() && story.node == path) {
            story.exits += 1;
            reason.clone_into(&mut story.reason);
            return;
        }
        // A node that fails below the supervisor of one that has just failed: a channel of a lost connection.
        let is_part = |story: &&mut Story| story.is_open() && is_below(path, story.parent()) && !story.is_beside(path);
        if let Some(story) = self.ring.iter_mut().rev().find(is_part) {
            name(&mut story.siblings, path);
            return;
        }
        let mut siblings = Vec::new();
        let mut story = Story {
            at: event.at,
            node: path.to_owned(),
            reason: reason.to_owned(),
            exits: 1,
            in_hand: Vec::new(),
            siblings: Vec::new(),
            recovered_in: None,
            before: totals,
            came_again: None,
        };
        // The channels of a lost connection may fail a moment before the connection does.
        self.ring.remove_if(|other| {
            let together = event.at.saturating_duration_since(other.at) < TOGETHER;
            let is_below = is_below(&other.node, story.parent()) && !story.is_beside(&other.node);
            let is_part = other.is_open() && together && is_below;
            if is_part {
                siblings.push(other.node.clone());
                story.before = other.before;
            }
            is_part
        });
        siblings.iter().for_each(|sibling| name(&mut story.siblings, sibling));
        self.early.remove_if(|(at, handlers, message)| {
            let is_its = path.contains(&**handlers);
            if is_its && event.at.saturating_duration_since(*at) < TOGETHER {
                name(&mut story.in_hand, message);
            }
            is_its
        });
        self.ring.push(story);
    }

    /// A node that was stopped, because one beside it failed.
    fn sibling(&mut self, event: &Event) {
        let of =
            |story: &&mut Story| story.is_open() && story.node != *event.path && is_below(&event.path, story.parent());
        if let Some(story) = self.ring.iter_mut().rev().find(of) {
            name(&mut story.siblings, &event.path);
        }
    }

    fn ready(&mut self, event: &Event) {
        if let Some(story) = self.ring.iter_mut().rev().find(|story| story.is_open() && story.node == *event.path) {
            story.recovered_in = Some(event.at.saturating_duration_since(story.at));
        }
    }
}

/// What the paths of a consumer's handlers have in common.
fn handlers(consumer: &str) -> String {
    format!("/handlers/{consumer}/")
}

fn name(names: &mut Vec<String>, name: &str) {
    if names.len() < NAMED && !names.iter().any(|known| known == name) {
        names.push(name.to_owned());
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

fn is_below(path: &str, supervisor: &str) -> bool {
    !supervisor.is_empty() && path.strip_prefix(supervisor).is_some_and(|rest| rest.starts_with('/'))
}

/// A remark on the first of `stories`, of which the later ones are older.
fn remark(stories: &[&Story]) -> Option<String> {
    let [story, older @ ..] = stories else { return None };
    let message = story.in_hand.first()?;
    let same =
        older.iter().filter(|other| parent(&other.node) == parent(&story.node) && other.in_hand.contains(message));
    match same.count() {
        0 => None,
        1 => Some(format!("message {message} was in hand when it ended before, too")),
        times => Some(format!("message {message} was in hand each of {} times", times + 1)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use fluffle_supervise::ExitError;

    use super::*;

    fn event(at: Instant, path: &str, what: What) -> Event {
        Event { at, path: path.into(), what }
    }

    fn failed(text: &'static str) -> What {
        What::Exited { reason: ExitReason::Failed(Arc::new(ExitError::transient(std::io::Error::other(text)))) }
    }

    const SOCKET: &str = "app/consume/consume-0/socket";
    const CHANNEL: &str = "app/consume/consume-0/channels/orders/channel";

    #[test]
    fn a_lost_connection_is_one_story_with_its_channels_whichever_fails_first() {
        let start = Instant::now();
        for order in [[SOCKET, CHANNEL], [CHANNEL, SOCKET]] {
            let mut stories = Stories::default();
            for (millis, path) in order.into_iter().enumerate() {
                let at = start + Duration::from_millis(millis as u64);
                stories.record(&event(at, path, failed("connection reset")), Totals::default());
            }
            let later = start + Duration::from_secs(1);
            stories.record(&event(later, SOCKET, failed("connection refused")), Totals::default());
            stories.record(&event(start + Duration::from_secs(3), SOCKET, What::Ready), Totals::default());
            let [(story, None)] = &stories.newest().collect::<Vec<_>>()[..] else { panic!("{order:?}: {stories:?}") };
            assert_eq!((&*story.node, &story.siblings[..]), (SOCKET, &[CHANNEL.to_owned()][..]));
            assert!(story.recovered_in.unwrap() >= Duration::from_millis(2_999));
            assert!(story.exits >= 2 && story.reason.contains("refused"), "{story:?}");
        }
    }

    #[test]
    fn what_comes_again_is_counted_until_a_while_after_the_recovery() {
        let (mut stories, start) = (Stories::default(), Instant::now());
        let totals = |redelivered| Totals { redelivered, republished: 1 };
        stories.record(&event(start, SOCKET, failed("reset")), totals(5));
        stories.record(&event(start, SOCKET, What::Ready), totals(5));
        stories.settle(start + Duration::from_secs(1), totals(9));
        assert_eq!(stories.newest().next().unwrap().0.came_again(totals(12)).redelivered, 7);
        stories.settle(start + AFTERMATH, totals(13));
        assert_eq!(stories.newest().next().unwrap().0.came_again(totals(99)).redelivered, 8);
    }

    #[test]
    fn the_message_that_ends_a_handler_again_and_again_is_named() {
        let (mut stories, start) = (Stories::default(), Instant::now());
        for second in 0..3 {
            let (at, node) = (start + Duration::from_secs(second), "app/handlers/orders/0");
            // The crash is told before the exit, or after it.
            if second == 1 {
                stories.crashed(at, "orders", "m-1");
            }
            stories.record(&event(at, node, failed("boom")), Totals::default());
            if second != 1 {
                stories.crashed(at, "orders", "m-1");
            }
            stories.record(&event(at, node, What::Ready), Totals::default());
        }
        let remarks: Vec<_> = stories.newest().map(|(_, remark)| remark).collect();
        assert_eq!(remarks[0].as_deref(), Some("message m-1 was in hand each of 3 times"));
        assert_eq!(remarks[2], None);
    }

    #[test]
    fn a_message_that_ends_one_handler_after_the_other_is_a_story_each_time() {
        let (mut stories, at) = (Stories::default(), Instant::now());
        for handler in 0..3 {
            let node = format!("app/handlers/q/{handler}");
            stories.crashed(at, "q", "m-1");
            stories.record(&event(at, &node, failed("boom")), Totals::default());
        }
        let told: Vec<_> = stories.newest().collect();
        assert_eq!(told.len(), 3);
        assert!(told.iter().all(|(story, _)| story.siblings.is_empty()));
        assert_eq!(told[0].1.as_deref(), Some("message m-1 was in hand each of 3 times"));
    }

    #[test]
    fn exits_on_request_are_no_stories_and_stories_are_bounded() {
        let (mut stories, at) = (Stories::default(), Instant::now());
        stories.record(&event(at, SOCKET, What::Exited { reason: ExitReason::Stopped }), Totals::default());
        assert_eq!(stories.newest().count(), 0);
        for node in 0..STORIES + 5 {
            stories.record(&event(at, &format!("app/{node}/x"), failed("no")), Totals::default());
        }
        assert_eq!(stories.newest().count(), STORIES);
    }
}
