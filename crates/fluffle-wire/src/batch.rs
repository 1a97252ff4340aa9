use std::fmt;

use bytes::Bytes;
use prost::encoding::{encode_varint, encoded_len_varint};

use crate::frames::Frames;
use crate::headers::{ITEM_TYPES, ItemTypes};
use crate::reading::TYPED;
use crate::{ContentType, DecodeError, DecodeErrorKind, EncodeError, EncodeErrorKind, Encoded, Incoming, Label, Wire};

/// Collects messages into one body, each behind its length as a varint.
///
/// The framing is Protobuf's own for streams (`writeDelimitedTo` and `parseDelimitedFrom` in other languages). It is
/// the same for every codec.
///
/// ```
/// use fluffle_wire::Wire;
/// use protos::usgs::Quake;
///
/// let wire = Wire::<Quake>::protobuf();
/// let mut batch = wire.batch();
/// for id in ["a", "b", "c"] {
///     batch.push(&Quake { id: id.into(), ..Quake::default() })?;
/// }
/// let sent = batch.finish()?;
/// assert_eq!(sent.items, 3);
///
/// let received = wire.decode_batch(&sent.incoming())?;
/// let ids: Result<Vec<_>, _> = received.iter().map(|quake| quake.map(|q| q.id)).collect();
/// assert_eq!(ids?, ["a", "b", "c"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct BatchBuilder<M> {
    wire: Wire<M>,
    body: Vec<u8>,
    /// Bytes of complete items. Any bytes after them belong to an item whose codec failed or panicked.
    whole: usize,
    /// Holds one item while it is encoded, if the codec does not know lengths beforehand.
    scratch: Vec<u8>,
    items: usize,
    /// The types of the items, if the codec has several.
    types: ItemTypes,
    /// The media type of the items, if the codec has several types. All items of a batch have the same.
    media_type: String,
    /// The size at which the batch is full, unless it is empty.
    most_bytes: usize,
    most_items: usize,
}

impl<M> Wire<M> {
    /// Encodes many messages into one body, each behind its length.
    ///
    /// Without messages the body is empty, which is a valid batch of none.
    ///
    /// # Errors
    ///
    /// The same as for [`encode`](Wire::encode), with the index of the item; and [`EncodeErrorKind::BatchFull`] if the
    /// messages are too many or too large for one body. To fill several bodies one after the other, use
    /// [`batch`](Wire::batch).
    pub fn encode_batch<'a>(&self, messages: impl IntoIterator<Item = &'a M>) -> Result<Encoded, EncodeError>
    where
        M: 'a,
    {
        let mut batch = self.batch();
        for (index, message) in messages.into_iter().enumerate() {
            batch.push(message).map_err(|e| e.at_item(index))?;
        }
        batch.finish()
    }

    /// An empty batch to fill.
    pub fn batch(&self) -> BatchBuilder<M> {
        BatchBuilder::new(self.clone())
    }

    /// Opens a batch. Each message is decoded when it is asked for.
    ///
    /// A body without `content_type` is read as a batch, because the caller asks for one. A batch is Fluffle's own
    /// format, so no wrapper is asked.
    ///
    /// # Errors
    ///
    /// The same as for [`decode`](Wire::decode), for faults of the whole body, and [`DecodeErrorKind::TooManyItems`]. A
    /// fault of one message is returned when that message is reached.
    pub fn decode_batch(&self, incoming: &Incoming<'_>) -> Result<Batch<M>, DecodeError> {
        self.check_batching(incoming, true)?;
        self.check_types_agree(incoming)?;
        let label = Label::from(incoming);
        let format = self.format_of(&label).ok_or_else(|| self.hinted(self.wrong_format(&label), incoming))?;
        self.check_type(format, &label)?;
        self.check_before_unpacking(incoming)?;
        let body = self.unpack(incoming)?;
        Batch::open(self.clone(), incoming, body)
    }
}

impl<M> BatchBuilder<M> {
    pub(crate) fn new(wire: Wire<M>) -> Self {
        let (most_bytes, most_items) = (usize::MAX, wire.bounds().batch_items);
        Self {
            wire,
            body: Vec::new(),
            whole: 0,
            scratch: Vec::new(),
            items: 0,
            types: ItemTypes::default(),
            media_type: String::new(),
            most_bytes,
            most_items,
        }
    }

    /// Makes the batch full at this many bytes before gzip, or this many messages, if the [`Limits`](crate::Limits)
    /// allow more. If the first message is larger than that, it is accepted and stays alone.
    #[must_use]
    pub fn at_most(mut self, bytes: usize, items: usize) -> Self {
        self.most_bytes = bytes;
        self.most_items = items.max(1).min(self.wire.bounds().batch_items);
        self
    }

    /// Reserves memory for a body of this many bytes.
    #[must_use]
    pub fn with_capacity(mut self, bytes: usize) -> Self {
        self.body.reserve_exact(bytes);
        self
    }

    /// Adds a message. If it returns an error, nothing was added and the batch stays usable.
    ///
    /// # Errors
    ///
    /// [`EncodeErrorKind::BatchFull`] if the batch has no room left: finish it and push again.
    /// [`EncodeErrorKind::TooLarge`] if the message would not even fit alone.
    /// [`EncodeErrorKind::Unrepresentable`] if the codec cannot write it.
    /// [`EncodeErrorKind::LabelTooLong`] if the type's name does not fit into AMQP.
    pub fn push(&mut self, message: &M) -> Result<(), EncodeError> {
        self.wire.check_label(self.wire.batch_label())?;
        if self.items >= self.most_items {
            return Err(self.full("items", self.items, self.most_items));
        }
        let type_name = self.wire.codec().type_of(message);
        if let Some(name) = &type_name {
            let media_type = self.wire.codec().media_type_of(message);
            if self.items == 0 {
                self.media_type.clear();
                self.media_type.push_str(media_type);
            } else if self.media_type != media_type {
                return Err(self.full("messages of one media type, and the next has another:", self.items, self.items));
            } else if !self.types.has_room_for(name) {
                return Err(self.full("bytes in the header of its types", ItemTypes::MOST, ItemTypes::MOST));
            }
        }
        self.body.truncate(self.whole);
        self.append(message)?;
        self.whole = self.body.len();
        self.items += 1;
        if let Some(name) = &type_name {
            self.types.push(name);
        }
        Ok(())
    }

    /// Writes a message behind its length. If it fails, the caller must ignore the bytes it wrote.
    fn append(&mut self, message: &M) -> Result<(), EncodeError> {
        let Some(len) = self.wire.codec().encoded_len(message) else {
            self.scratch.clear();
            self.wire.codec().encode(message, &mut self.scratch)?;
            self.frame(self.scratch.len())?;
            self.body.extend_from_slice(&self.scratch);
            return Ok(());
        };
        self.frame(len)?;
        let start = self.body.len();
        self.wire.codec().encode(message, &mut self.body)?;
        let actual = self.body.len() - start;
        if actual != len {
            let why = format!("the codec announced {len} bytes and wrote {actual}: its encoded_len is wrong");
            return Err(EncodeError::unrepresentable(self.wire.type_name(), why));
        }
        Ok(())
    }

    /// How many messages are in the batch.
    pub fn len(&self) -> usize {
        self.items
    }

    /// Whether the batch holds no message.
    pub fn is_empty(&self) -> bool {
        self.items == 0
    }

    /// The size of the body so far, before gzip, in bytes.
    pub fn bytes(&self) -> usize {
        self.whole
    }

    /// Whether the batch takes no further message.
    pub fn is_full(&self) -> bool {
        self.items >= self.most_items || self.whole >= self.most_bytes
    }

    /// Returns the finished batch and leaves this builder empty, to be filled again.
    ///
    /// # Errors
    ///
    /// [`EncodeErrorKind::LabelTooLong`] if the type's name does not fit into AMQP. Size and count were checked by
    /// [`push`](Self::push).
    pub fn finish(&mut self) -> Result<Encoded, EncodeError> {
        self.body.truncate(std::mem::take(&mut self.whole));
        // The next batch is likely to be as large as this one.
        let next = Vec::with_capacity(self.body.len());
        let body = std::mem::replace(&mut self.body, next);
        let types = std::mem::take(&mut self.types);
        self.wire.seal_batch(body, std::mem::take(&mut self.items), &types, &self.media_type)
    }

    /// Returns the finished batch and consumes the builder.
    ///
    /// # Errors
    ///
    /// The same as for [`finish`](Self::finish).
    pub fn seal(mut self) -> Result<Encoded, EncodeError> {
        self.body.truncate(self.whole);
        if self.body.capacity() / 2 > self.body.len() {
            // The body may stay in memory for as long as the message waits for its confirm.
            self.body.shrink_to_fit();
        }
        self.wire.seal_batch(self.body, self.items, &self.types, &self.media_type)
    }

    /// Like [`seal`](Self::seal), but a batch of one message becomes that message, as [`Wire::encode`] gives it.
    ///
    /// # Errors
    ///
    /// The same as for [`finish`](Self::finish).
    pub fn seal_compact(mut self) -> Result<Encoded, EncodeError> {
        if self.items != 1 {
            return self.seal();
        }
        self.body.truncate(self.whole);
        let length = self.body.iter().take_while(|byte| **byte >= 0x80).count() + 1;
        self.body.drain(..length);
        self.body.shrink_to_fit();
        self.wire.seal_own(self.body, self.types.common().map(|name| (name, &*self.media_type)))
    }

    /// Writes the length of an item if the item fits.
    fn frame(&mut self, len: usize) -> Result<(), EncodeError> {
        let limits = self.wire.bounds();
        // Counted before gzip, so that a full batch is noticed before it is compressed.
        let limit = limits.encoded.min(limits.decompressed);
        let needed = encoded_len_varint(len as u64).saturating_add(len);
        if needed > limit {
            return Err(EncodeError::new(
                EncodeErrorKind::TooLarge,
                format!("this {} takes {needed} bytes in a batch, the limit is {limit}", self.wire.type_name()),
            ));
        }
        let limit = if self.items == 0 { limit } else { limit.min(self.most_bytes) };
        if self.body.len() + needed > limit {
            return Err(self.full("bytes", self.body.len(), limit));
        }
        self.body.reserve(needed);
        encode_varint(len as u64, &mut self.body);
        Ok(())
    }

    fn full(&self, what: &str, have: usize, limit: usize) -> EncodeError {
        EncodeError::new(
            EncodeErrorKind::BatchFull,
            format!("the batch is full at {have} {what} (limit {limit}): finish it, then push this message again"),
        )
    }
}

impl<M> fmt::Debug for BatchBuilder<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchBuilder")
            .field("wire", &self.wire)
            .field("items", &self.items)
            .field("bytes", &self.whole)
            .finish()
    }
}

/// A received batch: the unpacked body. Each message is decoded when it is asked for.
///
/// If a message does not decode, only that message is lost. If a *length* is damaged, the batch ends there, because the
/// start of the next message is unknown: the messages before it are good, and the last item is an error of kind
/// [`DecodeErrorKind::Framing`].
#[derive(Clone)]
pub struct Batch<M> {
    wire: Wire<M>,
    content_type: Option<Box<str>>,
    type_name: Option<Box<str>>,
    types: ItemTypes,
    body: Bytes,
    items: usize,
}

impl<M> Batch<M> {
    /// Walks the lengths once, so that the count is known and too many items are refused before any is decoded.
    pub(crate) fn open(wire: Wire<M>, incoming: &Incoming<'_>, body: Bytes) -> Result<Self, DecodeError> {
        let most = wire.bounds().batch_items;
        let items = Frames { rest: &body, index: 0 }.take(most.saturating_add(1)).count();
        if items > most {
            return Err(DecodeError::new(
                DecodeErrorKind::TooManyItems,
                format!("the batch has more than {most} messages (Limits::batch_items)"),
            ));
        }
        let (content_type, type_name) = (incoming.content_type.map(Box::from), incoming.type_name.map(Box::from));
        let is_typed = incoming.content_type.is_some_and(|label| {
            ContentType::parse(label).parameter("encoding").is_some_and(|encoding| encoding.eq_ignore_ascii_case(TYPED))
        });
        let types = match incoming.header(ITEM_TYPES).map(ItemTypes::parse) {
            Some(types) if is_typed && types.len() >= items => types,
            _ if is_typed => return Err(without_types(items)),
            _ => ItemTypes::default(),
        };
        Ok(Self { wire, content_type, type_name, types, body, items })
    }

    /// How many items [`iter`](Batch::iter) yields, including those that do not decode.
    pub fn len(&self) -> usize {
        self.items
    }

    /// Whether the batch has no items.
    pub fn is_empty(&self) -> bool {
        self.items == 0
    }

    /// The messages in order. Item `i` of a message `<id>` is known as `<id>/<i>`.
    pub fn iter(&self) -> Items<'_, M> {
        Items { batch: self, frames: Frames { rest: &self.body, index: 0 } }
    }

    /// The undecoded bytes of the items, from the first on.
    pub fn raw_items(&self) -> RawItems {
        RawItems { body: self.body.clone(), at: 0, index: 0, items: self.items }
    }

    /// The types of the items, if they are told one by one.
    pub fn item_types(&self) -> &ItemTypes {
        &self.types
    }

    /// The uncompressed size of the body, in bytes.
    pub fn bytes(&self) -> usize {
        self.body.len()
    }

    /// The bytes of item `index`, to pass them on unchanged (for example in a dead letter of this one message).
    ///
    /// The bytes share the batch's memory. `None` past the end, and for a broken frame.
    pub fn raw(&self, index: usize) -> Option<Bytes> {
        let frame = Frames { rest: &self.body, index: 0 }.nth(index)?.ok()?;
        Some(self.body.slice_ref(frame))
    }
}

impl<'a, M> IntoIterator for &'a Batch<M> {
    type Item = Result<M, DecodeError>;
    type IntoIter = Items<'a, M>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<M> fmt::Debug for Batch<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("wire", &self.wire)
            .field("items", &self.items)
            .field("bytes", &self.body.len())
            .finish()
    }
}

/// The messages of a [`Batch`], decoded one at a time.
pub struct Items<'a, M> {
    batch: &'a Batch<M>,
    frames: Frames<'a>,
}

impl<M> Iterator for Items<'_, M> {
    type Item = Result<M, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let index = self.frames.index;
        let frame = self.frames.next()?;
        let Batch { wire, content_type, type_name, types, body, .. } = self.batch;
        let type_name = types.get(index).or(type_name.as_deref());
        let decode = |frame| wire.decode_frame(content_type.as_deref(), type_name, &body.slice_ref(frame));
        Some(frame.and_then(decode).map_err(|e| e.at_item(index)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.batch.items - self.frames.index;
        (left, Some(left))
    }
}

impl<M> ExactSizeIterator for Items<'_, M> {}

impl<M> fmt::Debug for Items<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Items").field("batch", self.batch).field("next", &self.frames.index).finish()
    }
}

/// The undecoded items of a batch, one after the other, to decode them ([`Wire::decode_item`]) or to pass them on. The
/// iterator shares the batch's memory and borrows nothing, so it can be stored and continued later or on another
/// thread.
///
/// ```
/// use fluffle_wire::Wire;
/// use protos::usgs::Quake;
///
/// let wire = Wire::<Quake>::protobuf();
/// let sent = wire.encode_batch(&[Quake { id: "a".into(), ..Quake::default() }, Quake::default()])?;
/// let mut items = wire.decode_batch(&sent.incoming())?.raw_items();
/// let first = items.next().expect("there are two")?;
/// assert_eq!(wire.decode_item(&sent.incoming(), &first)?.id, "a");
/// assert_eq!((items.index(), items.len()), (1, 2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct RawItems {
    body: Bytes,
    at: usize,
    index: usize,
    items: usize,
}

impl RawItems {
    /// The index of the next item, from 0.
    pub fn index(&self) -> usize {
        self.index
    }

    /// How many items the batch has in all, including those already yielded and those that do not decode.
    pub fn len(&self) -> usize {
        self.items
    }

    /// Whether the batch has no items at all.
    pub fn is_empty(&self) -> bool {
        self.items == 0
    }

    /// The rest of the body: the next item's frame and everything after it. After a damaged frame, the rest begins with
    /// that frame.
    pub fn rest(&self) -> Bytes {
        self.body.slice(self.at.min(self.body.len())..)
    }
}

impl Iterator for RawItems {
    type Item = Result<Bytes, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.index >= self.items {
            return None;
        }
        let index = self.index;
        self.index += 1;
        let mut frames = Frames { rest: self.body.get(self.at..)?, index };
        Some(match frames.split() {
            Ok(frame) => {
                self.at = self.body.len() - frames.rest.len();
                Ok(self.body.slice_ref(frame))
            }
            Err(error) => Err(error.at_item(index)),
        })
    }
}

fn without_types(items: usize) -> DecodeError {
    DecodeError::new(
        DecodeErrorKind::Batching,
        format!(
            "the batch is of several types (encoding=typed), and its header {ITEM_TYPES} does not tell the types of \
             all its {items} items"
        ),
    )
}
