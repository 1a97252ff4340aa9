//! What the broker answers when it will not do as it is told: codes and texts are RabbitMQ's.

use std::fmt::Display;

/// A failed command: it closes the channel it came on, or the whole connection for hard errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: u16,
    pub(crate) text: String,
}

impl Refusal {
    pub(crate) fn not_found(what: &str, name: &str, vhost: &str) -> Self {
        Self { code: 404, text: format!("NOT_FOUND - no {what} '{name}' in vhost '{vhost}'") }
    }

    pub(crate) fn access(text: impl Display) -> Self {
        Self { code: 403, text: format!("ACCESS_REFUSED - {text}") }
    }

    pub(crate) fn precondition(text: impl Display) -> Self {
        Self { code: 406, text: format!("PRECONDITION_FAILED - {text}") }
    }

    pub(crate) fn locked(queue: &str, vhost: &str) -> Self {
        let text = format!(
            "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{queue}' in vhost '{vhost}'. It could be \
             originally declared on another connection or the exclusive property value does not match that of the \
             original declaration."
        );
        Self { code: 405, text }
    }

    pub(crate) fn frame(text: impl Display) -> Self {
        Self { code: 501, text: format!("FRAME_ERROR - {text}") }
    }

    pub(crate) fn syntax(text: impl Display) -> Self {
        Self { code: 502, text: format!("SYNTAX_ERROR - {text}") }
    }

    pub(crate) fn command_invalid(text: impl Display) -> Self {
        Self { code: 503, text: format!("COMMAND_INVALID - {text}") }
    }

    pub(crate) fn channel(text: impl Display) -> Self {
        Self { code: 504, text: format!("CHANNEL_ERROR - {text}") }
    }

    pub(crate) fn unexpected_frame(text: impl Display) -> Self {
        Self { code: 505, text: format!("UNEXPECTED_FRAME - {text}") }
    }

    pub(crate) fn not_allowed(text: impl Display) -> Self {
        Self { code: 530, text: format!("NOT_ALLOWED - {text}") }
    }

    pub(crate) fn not_implemented(text: impl Display) -> Self {
        Self { code: 540, text: format!("NOT_IMPLEMENTED - {text}") }
    }

    /// Hard errors end the connection (AMQP 0-9-1 section 1.2).
    pub(crate) fn is_hard(&self) -> bool {
        matches!(self.code, 320 | 402 | 501..=599)
    }
}
