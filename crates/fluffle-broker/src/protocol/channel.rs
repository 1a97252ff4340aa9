//! The state of a channel: open, perhaps with a message being received, or closing.

use std::rc::Rc;

use bytes::{Bytes, BytesMut};

use super::frame::{FrameKind, Publish};
use crate::engine::{ChannelKey, Publication, Reader, Refusal};

/// Body frames of at least this size are kept without a copy. Smaller ones are copied, so that a small message does not
/// keep a whole read buffer alive.
const SHARED_BODY: usize = 16 << 10;

/// The most memory that is reserved for a body because of its header alone.
const TRUSTED: u64 = 1 << 20;

/// RabbitMQ's text if a frame other than a content header arrives.
pub(crate) const NO_HEADER: &str = "expected content header for class 60, got non content header frame instead";

#[derive(Debug)]
pub(crate) enum ChannelState {
    Open(Box<OpenChannel>),
    /// `channel.close` was sent: everything except its answer is ignored.
    Closing,
}

#[derive(Debug)]
pub(crate) struct OpenChannel {
    pub(crate) key: ChannelKey,
    pub(crate) content: Option<Content>,
    /// Exchange and routing key of the last publish. The next message probably has the same, and then shares the names.
    pub(crate) route: (Rc<[u8]>, Rc<[u8]>),
}

/// A message whose frames are being received.
#[derive(Debug)]
pub(crate) struct Content {
    mandatory: bool,
    /// The size of the body, and the encoded property list.
    header: Option<(u64, Bytes)>,
    single: Bytes,
    joined: BytesMut,
}

impl OpenChannel {
    pub(crate) fn new(key: ChannelKey) -> Self {
        Self { key, content: None, route: (Rc::new([]), Rc::new([])) }
    }

    /// The kind of frame that must come next.
    pub(crate) fn expected(&self) -> FrameKind {
        match &self.content {
            None => FrameKind::Method,
            Some(Content { header: None, .. }) => FrameKind::Header,
            Some(_) => FrameKind::Body,
        }
    }

    /// Starts a message.
    pub(crate) fn begin(&mut self, publish: &Publish<'_>) {
        if *self.route.0 != *publish.exchange {
            self.route.0 = publish.exchange.into();
        }
        if *self.route.1 != *publish.key {
            self.route.1 = publish.key.into();
        }
        let (single, joined) = (Bytes::new(), BytesMut::new());
        self.content = Some(Content { mandatory: publish.mandatory, header: None, single, joined });
    }

    /// Handles an expected content header. Returns the message if it has no body.
    pub(crate) fn header(&mut self, payload: &Bytes, limit: u64) -> Result<Option<Publication>, Refusal> {
        let Some(content) = self.content.as_mut() else { return Ok(None) };
        let mut reader = Reader::new(payload);
        let fields = reader.u16().zip(reader.u16()).zip(reader.u32().zip(reader.u32()));
        let Some(((class, weight), (high, low))) = fields else {
            return Err(Refusal::frame("content header cut short"));
        };
        if weight != 0 {
            return Err(Refusal::unexpected_frame(NO_HEADER));
        }
        if class != 60 {
            let text = format!("expected content header for class 60, got one for class {class} instead");
            return Err(Refusal::unexpected_frame(text));
        }
        let size = u64::from(high) << 32 | u64::from(low);
        if size > limit {
            let text = format!("message size {size} is larger than configured max size {limit}");
            return Err(Refusal::precondition(text));
        }
        let properties = Bytes::copy_from_slice(payload.get(12..).unwrap_or_default());
        content.header = Some((size, properties));
        Ok(self.finish())
    }

    /// Handles an expected body frame. Returns the message if the body is complete.
    pub(crate) fn body(&mut self, payload: Bytes) -> Result<Option<Publication>, Refusal> {
        let Some(content) = self.content.as_mut() else { return Ok(None) };
        let Some((size, _)) = content.header else { return Ok(None) };
        if content.held() as u64 + payload.len() as u64 > size {
            return Err(Refusal::frame("content body larger than its header says"));
        }
        if content.held() == 0 && payload.len() as u64 == size {
            content.single = if payload.len() < SHARED_BODY { Bytes::copy_from_slice(&payload) } else { payload };
        } else {
            if content.joined.is_empty() {
                content.joined.reserve(size.min(TRUSTED) as usize);
            }
            content.joined.extend_from_slice(&payload);
        }
        Ok(self.finish())
    }

    fn finish(&mut self) -> Option<Publication> {
        let content = self
            .content
            .take_if(|content| content.header.as_ref().is_some_and(|(size, _)| content.held() as u64 == *size))?;
        let (_, properties) = content.header?;
        let body = if content.joined.is_empty() { content.single } else { content.joined.freeze() };
        let (exchange, key) = self.route.clone();
        Some(Publication { exchange, key, mandatory: content.mandatory, properties, body })
    }
}

impl Content {
    /// How many bytes of the body have been received.
    pub(crate) fn held(&self) -> usize {
        self.single.len() + self.joined.len()
    }
}
