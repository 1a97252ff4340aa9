//! Refusals of the broker. Codes and texts are those of RabbitMQ.

/// A failed command. It closes its channel, or for hard errors the whole connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: u16,
    /// Any bytes, because it may repeat what a client sent.
    pub(crate) text: Vec<u8>,
}

impl Refusal {
    fn new(code: u16, name: &str, text: impl Into<Vec<u8>>) -> Self {
        Self { code, text: [name.as_bytes(), b" - ", &text.into()].concat() }
    }

    pub(crate) fn not_found(what: &str, name: impl AsRef<[u8]>, vhost: &str) -> Self {
        let text = [b"no ", what.as_bytes(), b" '", name.as_ref(), b"' in vhost '", vhost.as_bytes(), b"'"];
        Self::new(404, "NOT_FOUND", text.concat())
    }

    pub(crate) fn no_last_queue() -> Self {
        Self::new(404, "NOT_FOUND", "no previously declared queue")
    }

    pub(crate) fn access(text: impl Into<Vec<u8>>) -> Self {
        Self::new(403, "ACCESS_REFUSED", text)
    }

    pub(crate) fn precondition(text: impl Into<Vec<u8>>) -> Self {
        Self::new(406, "PRECONDITION_FAILED", text)
    }

    pub(crate) fn locked(queue: &str, vhost: &str) -> Self {
        let text = format!(
            "cannot obtain exclusive access to locked queue '{queue}' in vhost '{vhost}'. It could be \
             originally declared on another connection or the exclusive property value does not match that of the \
             original declaration."
        );
        Self::new(405, "RESOURCE_LOCKED", text)
    }

    pub(crate) fn frame(text: impl Into<Vec<u8>>) -> Self {
        Self::new(501, "FRAME_ERROR", text)
    }

    pub(crate) fn command_invalid(text: impl Into<Vec<u8>>) -> Self {
        Self::new(503, "COMMAND_INVALID", text)
    }

    pub(crate) fn channel(text: impl Into<Vec<u8>>) -> Self {
        Self::new(504, "CHANNEL_ERROR", text)
    }

    pub(crate) fn unexpected_frame(text: impl Into<Vec<u8>>) -> Self {
        Self::new(505, "UNEXPECTED_FRAME", text)
    }

    pub(crate) fn not_allowed(text: impl Into<Vec<u8>>) -> Self {
        Self::new(530, "NOT_ALLOWED", text)
    }

    pub(crate) fn not_implemented(text: impl Into<Vec<u8>>) -> Self {
        Self::new(540, "NOT_IMPLEMENTED", text)
    }

    /// What RabbitMQ answers if its process for the channel or queue crashes over a client's input.
    pub(crate) fn internal() -> Self {
        Self { code: 541, text: b"INTERNAL_ERROR".to_vec() }
    }

    pub(crate) fn is_internal(&self) -> bool {
        self.code == 541
    }

    /// The broker stops.
    pub(crate) fn shutdown() -> Self {
        Self::new(320, "CONNECTION_FORCED", "broker forced connection closure with reason 'shutdown'")
    }

    /// A client exceeds a limit.
    pub(crate) fn too_much(text: impl Into<Vec<u8>>) -> Self {
        Self::new(506, "RESOURCE_ERROR", text)
    }

    /// The text for a log, with U+FFFD in place of bytes that are not UTF-8.
    pub(crate) fn shown(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.text)
    }

    /// Hard errors end the connection (AMQP 0-9-1 section 1.2).
    pub(crate) fn is_hard(&self) -> bool {
        matches!(self.code, 320 | 402 | 501..=599)
    }
}
