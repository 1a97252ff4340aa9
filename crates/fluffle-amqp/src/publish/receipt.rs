//! The receipt of an accepted message, and the id that it carries.

use std::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    ops::Deref,
    sync::Arc,
};

use once_cell::race::OnceBox;

use crate::publish::{
    error::{PublishError, PublishErrorKind},
    outcome::Pending,
};

/// The broker has confirmed the message. With [`Confirms::Off`](crate::Confirms::Off): the message is written to the
/// socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirmed {
    /// The message's id.
    pub id: MessageId,
}

/// The id of a message, as text: it dereferences to `str`. The id of a message in a batch, `<id>/<index>`, is put
/// together when it is first read.
#[derive(Clone)]
pub struct MessageId(Source);

#[derive(Clone)]
enum Source {
    Claim(Claim),
    Text(Box<str>),
}

/// Which message of which pending message or envelope a receipt is for.
#[derive(Clone)]
pub(crate) struct Claim {
    pending: Arc<Pending>,
    /// The item of the envelope, if it is one.
    index: Option<u32>,
    text: OnceBox<String>,
}

impl Claim {
    /// For a message that travels by itself.
    pub(crate) fn whole(pending: Arc<Pending>) -> Self {
        Self { pending, index: None, text: OnceBox::new() }
    }

    /// For item `index` of an envelope.
    pub(crate) fn item(pending: Arc<Pending>, index: u32) -> Self {
        Self { pending, index: Some(index), text: OnceBox::new() }
    }

    pub(crate) fn id(&self) -> &str {
        match self.index {
            None => &self.pending.id,
            Some(index) => self.text.get_or_init(|| Box::new(format!("{}/{index}", self.pending.id))),
        }
    }
}

impl MessageId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Source::Claim(claim) => claim.id(),
            Source::Text(text) => text,
        }
    }
}

impl From<&str> for MessageId {
    fn from(text: &str) -> Self {
        Self(Source::Text(text.into()))
    }
}

impl Deref for MessageId {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl From<MessageId> for String {
    fn from(id: MessageId) -> Self {
        id.as_str().to_owned()
    }
}

impl PartialEq for MessageId {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for MessageId {}

impl PartialEq<str> for MessageId {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for MessageId {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl PartialEq<MessageId> for &str {
    fn eq(&self, other: &MessageId) -> bool {
        *self == other.as_str()
    }
}

impl PartialOrd for MessageId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for MessageId {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for MessageId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// An accepted message on its way, from [`Publisher::enqueue`](crate::Publisher::enqueue). Dropping the receipt
/// withdraws nothing. An example is at [`Publisher`](crate::Publisher).
#[must_use = "the message may still fail: await `confirmed`, or drop the receipt on purpose and watch the stats"]
pub struct Receipt<T> {
    pub(crate) message: T,
    claim: Claim,
}

impl<T> Receipt<T> {
    pub(crate) fn new(message: T, claim: Claim) -> Self {
        Self { message, claim }
    }

    /// The message's id. The id of a message in a batch is `<id of the envelope>/<index>`.
    pub fn id(&self) -> &str {
        self.claim.id()
    }

    /// Waits for the broker's confirm, up to the route's deadline. The deadline counts from the call that accepted the
    /// message. In a batch, it counts from the time at which the batch is due.
    ///
    /// # Errors
    /// [`PublishError`], with the message.
    pub async fn confirmed(self) -> Result<Confirmed, PublishError<T>> {
        match self.claim.pending.confirmed().await {
            Ok(()) => Ok(Confirmed { id: MessageId(Source::Claim(self.claim)) }),
            Err(kind) => Err(self.failed(kind)),
        }
    }

    /// Waits until the message is in the publisher's journal, as safe as the journal's flush policy says. From then on
    /// it is published whatever happens to this process. Returns at once for a publisher without a journal. A message
    /// in a batch is written to the journal when its batch is sent.
    ///
    /// # Errors
    /// [`PublishError`], with the message, if the message did not get into the journal and will not be published.
    ///
    /// # Cancellation
    /// If the future is dropped, the message is published all the same, and its outcome is not reported.
    pub async fn journaled(self) -> Result<Self, PublishError<T>> {
        match self.claim.pending.journaled().await {
            Ok(()) => Ok(self),
            Err(kind) => Err(self.failed(kind)),
        }
    }

    pub(crate) fn failed(self, kind: PublishErrorKind) -> PublishError<T> {
        PublishError {
            target: self.claim.pending.target().into(),
            id: self.claim.id().to_owned(),
            message: self.message,
            kind,
        }
    }
}

impl<T> fmt::Debug for Receipt<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receipt")
            .field("id", &self.claim.id())
            .field("target", &self.claim.pending.target())
            .finish_non_exhaustive()
    }
}
