//! How a handler ended that panicked or stopped with a message in hand.

use std::{any::Any, sync::Arc};

use fluffle_supervise::Panicked;
use fluffle_wire::headers::error_chain;

/// How a handler ended before it answered, as far as that is known: its panic, or `None`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Crash(Option<Arc<Panic>>);

#[derive(Debug, thiserror::Error)]
#[error("the {whose} panicked: {text}")]
struct Panic {
    whose: &'static str,
    text: String,
}

impl Crash {
    /// The crash of the handler actor that is being dropped on this thread.
    pub(crate) fn of_the_actor() -> Self {
        Panicked::of_the_actor_being_dropped().map_or_else(Self::default, |panic| Self::new("handler", panic.message()))
    }

    /// The crash of a `ResponseFuture`, which runs outside its actor, with the payload of its panic.
    pub(crate) fn of_a_future(payload: &(dyn Any + Send)) -> Self {
        Self::new("handler", Panicked::message_of(payload))
    }

    /// Of a middleware around the handler.
    pub(crate) fn of_a_middleware(payload: &(dyn Any + Send)) -> Self {
        Self::new("middleware around the handler", Panicked::message_of(payload))
    }

    fn new(whose: &'static str, text: &str) -> Self {
        Self(Some(Arc::new(Panic { whose, text: text.to_owned() })))
    }

    /// This crash, or `other` if this one's panic is not known.
    pub(crate) fn or(self, other: &Self) -> Self {
        if self.0.is_some() { self } else { other.clone() }
    }

    /// The text for logs and dead letters: one line of at most 2 KiB.
    pub(crate) fn text(&self) -> String {
        match &self.0 {
            Some(panic) => error_chain(&**panic),
            None => "the handler ended with this message in hand, or one of its futures panicked".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_any_length_is_cut_between_characters() {
        let crash = Crash::of_a_future(&"x\u{e9}".repeat(4_000));
        assert!(crash.text().starts_with("the handler panicked: x\u{e9}x"));
        assert!(crash.text().len() <= 2048);
        assert!(Crash::default().text().contains("ended"));
        assert_eq!(Crash::default().or(&crash).text(), crash.text());
    }
}
