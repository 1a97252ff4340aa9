use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use prost::{Message, Name};

use crate::incoming::present;
use crate::text::shown;
use crate::{
    Batch, BatchBuilder, Codec, ContentType, DecodeError, DecodeErrorKind, EncodeError, EncodeErrorKind, Encoded, Gzip,
    Incoming, Limits, Protobuf, gzip,
};

/// How messages of one type are written and read: a [`Codec`], a [`Gzip`] policy and [`Limits`].
///
/// Cheap to clone, and may be shared between threads. Make one for each publisher or consumer.
///
/// ```
/// use fluffle_wire::{Gzip, Limits, Wire};
/// use protos::usgs::Alert;
///
/// let protobuf = Wire::<Alert>::protobuf();
/// let json = Wire::<Alert>::json().gzip(Gzip::auto()).limits(Limits { encoded: 64 * 1024, ..Limits::default() });
///
/// let alert = Alert { quake_id: "us2000cmy3".into(), ..Alert::default() };
/// assert_eq!(json.encode(&alert)?.body, r#"{"quakeId":"us2000cmy3"}"#.as_bytes());
/// // The label says what the body is, so a consumer of the other format refuses it instead of guessing.
/// assert!(protobuf.decode(&json.encode(&alert)?.incoming()).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Wire<M> {
    codec: Arc<dyn Codec<M>>,
    labels: Arc<Labels>,
    gzip: Gzip,
    trend: Arc<gzip::Trend>,
    limits: Limits,
}

/// The labels that go into a message's properties, built once.
struct Labels {
    single: Arc<str>,
    batch: Arc<str>,
    type_name: Arc<str>,
}

impl<M: Message + Name + Default> Wire<M> {
    /// Protobuf, no gzip, default limits.
    pub fn protobuf() -> Self {
        Self::new(Protobuf)
    }
}

#[cfg(feature = "json")]
impl<M: prost_reflect::ReflectMessage + Name + Default> Wire<M> {
    /// Proto3 JSON, no gzip, default limits.
    pub fn json() -> Self {
        Self::new(crate::Json)
    }
}

impl<M> Wire<M> {
    /// Any codec, no gzip, default limits.
    pub fn new(codec: impl Codec<M> + 'static) -> Self {
        let type_name = codec.type_name();
        let single = format!("{}; proto={type_name}", codec.media_type());
        let batch = format!("{single}; encoding=delimited");
        let labels = Labels { single: single.into(), batch: batch.into(), type_name: type_name.into() };
        Self {
            codec: Arc::new(codec),
            labels: Arc::new(labels),
            gzip: Gzip::Off,
            trend: Arc::default(),
            limits: Limits::default(),
        }
    }

    /// When to compress bodies that are sent. Default [`Gzip::Off`].
    #[must_use]
    pub fn gzip(self, gzip: Gzip) -> Self {
        Self { gzip, trend: Arc::default(), ..self }
    }

    /// Sets the bounds on what is sent and accepted.
    #[must_use]
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// The full name of the message type, as written to the `type` property.
    pub fn type_name(&self) -> &str {
        &self.labels.type_name
    }

    /// The `content_type` of one message.
    pub fn content_type(&self) -> &str {
        &self.labels.single
    }

    /// Encodes one message.
    ///
    /// # Errors
    ///
    /// [`EncodeErrorKind::TooLarge`] past [`Limits::encoded`] or [`Limits::decompressed`],
    /// [`EncodeErrorKind::Unrepresentable`] if the codec cannot write the message, [`EncodeErrorKind::LabelTooLong`] if
    /// the type's name does not fit into AMQP.
    pub fn encode(&self, message: &M) -> Result<Encoded, EncodeError> {
        let mut raw = Vec::new();
        if let Some(len) = self.codec.encoded_len(message) {
            self.check_raw(len)?;
            raw.reserve_exact(len);
        }
        self.codec.encode(message, &mut raw)?;
        self.seal(raw, 1, &self.labels.single)
    }

    /// Decodes one message.
    ///
    /// If a label is absent, the body is trusted to be right: a body without `content_type` and `type` is read as this
    /// codec's format and this type. If a label is present, it must fit.
    ///
    /// # Errors
    ///
    /// One kind of [`DecodeErrorKind`] for each way in which labels, size, gzip or bytes can be wrong. The text says
    /// what was found and what was expected. Decoding never panics and takes no memory past the [`Limits`].
    pub fn decode(&self, incoming: &Incoming<'_>) -> Result<M, DecodeError> {
        self.decode_sized(incoming).map(|(message, _)| message)
    }

    /// Like [`decode`](Wire::decode), and also returns the uncompressed size of the message in bytes.
    ///
    /// # Errors
    ///
    /// The same as for [`decode`](Wire::decode).
    pub fn decode_sized(&self, incoming: &Incoming<'_>) -> Result<(M, usize), DecodeError> {
        self.check_labels(incoming, false)?;
        match self.unpack(incoming)? {
            Some(raw) => {
                let raw = Bytes::from(raw);
                Ok((self.codec.decode(&raw)?, raw.len()))
            }
            None => Ok((self.codec.decode(incoming.body)?, incoming.body.len())),
        }
    }

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
    /// A body without `content_type` is read as a batch, because the caller asks for one.
    ///
    /// # Errors
    ///
    /// The same as for [`decode`](Wire::decode), for faults of the whole body, and [`DecodeErrorKind::TooManyItems`]. A
    /// fault of one message is returned when that message is reached.
    pub fn decode_batch(&self, incoming: &Incoming<'_>) -> Result<Batch<M>, DecodeError> {
        self.check_labels(incoming, true)?;
        let body = self.unpack(incoming)?.map_or_else(|| incoming.body.clone(), Bytes::from);
        Batch::open(self.clone(), body)
    }

    pub(crate) fn codec(&self) -> &dyn Codec<M> {
        &*self.codec
    }

    pub(crate) fn bounds(&self) -> &Limits {
        &self.limits
    }

    /// Checks that the label fits into AMQP's short strings, whose length is one byte.
    pub(crate) fn check_label(&self, content_type: &str) -> Result<(), EncodeError> {
        if content_type.len() <= 255 {
            return Ok(());
        }
        Err(EncodeError::new(
            EncodeErrorKind::LabelTooLong,
            format!(
                "the content type of {} is {} bytes long, AMQP has room for 255; shorten the package or message name",
                shown(self.type_name()),
                content_type.len()
            ),
        ))
    }

    pub(crate) fn batch_label(&self) -> &str {
        &self.labels.batch
    }

    pub(crate) fn seal_batch(&self, raw: Vec<u8>, items: usize) -> Result<Encoded, EncodeError> {
        self.seal(raw, items, &self.labels.batch)
    }

    /// Compresses the body if the policy says so, and adds the labels.
    fn seal(&self, raw: Vec<u8>, items: usize, content_type: &Arc<str>) -> Result<Encoded, EncodeError> {
        self.check_label(content_type)?;
        let raw_len = raw.len();
        self.check_raw(raw_len)?;
        let (body, content_encoding) = match self.pack(&raw) {
            Some(packed) => (packed, Some("gzip")),
            None => (raw, None),
        };
        if body.len() > self.limits.encoded {
            return Err(self.too_large(body.len(), self.limits.encoded, "Limits::encoded"));
        }
        Ok(Encoded {
            body: body.into(),
            content_type: Arc::clone(content_type),
            content_encoding,
            type_name: Arc::clone(&self.labels.type_name),
            raw_len,
            items,
        })
    }

    /// The compressed body. `None` if the policy is not to compress it, or if the receiver's limits would refuse it
    /// compressed.
    fn pack(&self, raw: &[u8]) -> Option<Vec<u8>> {
        let packed = match self.gzip {
            Gzip::Off => return None,
            Gzip::On(level) => gzip::compress(raw, level, self.limits.encoded)?,
            Gzip::Auto { min_size, .. } if raw.len() < min_size || !self.trend.tries() => return None,
            Gzip::Auto { level, .. } => {
                let packed = gzip::compress(raw, level, raw.len() - raw.len() / 10);
                self.trend.learn(packed.is_some());
                packed?
            }
        };
        (raw.len() <= self.limits.by_ratio(packed.len())).then_some(packed)
    }

    /// The unpacked body, or `None` if it is not compressed.
    fn unpack(&self, incoming: &Incoming<'_>) -> Result<Option<Vec<u8>>, DecodeError> {
        let len = incoming.body.len();
        if len > self.limits.encoded {
            let limit = self.limits.encoded;
            return Err(DecodeError::new(
                DecodeErrorKind::TooLarge,
                format!("the body has {len} bytes, the limit is {limit} (Limits::encoded)"),
            ));
        }
        match present(incoming.content_encoding) {
            None => Ok(None),
            Some(label) if is_one_of(label, &NO_COMPRESSION) => Ok(None),
            Some(label) if is_one_of(label, &GZIP) => gzip::decompress(incoming.body, &self.limits).map(Some),
            Some(label) => Err(DecodeError::new(
                DecodeErrorKind::ContentEncoding,
                format!("content_encoding is {:?}; expected gzip, or none", shown(label)),
            )),
        }
    }

    fn check_raw(&self, len: usize) -> Result<(), EncodeError> {
        if len > self.limits.decompressed {
            return Err(self.too_large(len, self.limits.decompressed, "Limits::decompressed"));
        }
        if self.gzip == Gzip::Off && len > self.limits.encoded {
            return Err(self.too_large(len, self.limits.encoded, "Limits::encoded"));
        }
        Ok(())
    }

    fn too_large(&self, len: usize, limit: usize, name: &str) -> EncodeError {
        EncodeError::new(
            EncodeErrorKind::TooLarge,
            format!("this {} takes {len} bytes, the limit is {limit} ({name})", self.type_name()),
        )
    }

    fn check_labels(&self, incoming: &Incoming<'_>, batch: bool) -> Result<(), DecodeError> {
        let expected = if batch { &self.labels.batch } else { &self.labels.single };
        if let Some(label) = present(incoming.content_type)
            && *label != **expected
        {
            self.check_content_type(label, batch)?;
        }
        match present(incoming.type_name) {
            Some(found) if *found != *self.labels.type_name => Err(self.wrong_type(found, "type")),
            _ => Ok(()),
        }
    }

    fn check_content_type(&self, label: &str, batch: bool) -> Result<(), DecodeError> {
        let found = ContentType::parse(label);
        if !self.codec.accepts(found.media_type()) {
            return Err(DecodeError::new(
                DecodeErrorKind::ContentType,
                format!("content_type is {:?}, expected {:?}", shown(label), self.codec.media_type()),
            ));
        }
        if let Some(proto) = found.parameter("proto")
            && *proto != *self.labels.type_name
        {
            return Err(self.wrong_type(proto, "the proto parameter of content_type"));
        }
        let wrong = match found.parameter("encoding") {
            Some(encoding) if !encoding.eq_ignore_ascii_case("delimited") => {
                format!("the encoding parameter of content_type is {:?}; expected delimited, or none", shown(encoding))
            }
            Some(_) if !batch => "the body is a batch (encoding=delimited), expected one message".to_owned(),
            None if batch => "the body is one message, expected a batch (encoding=delimited)".to_owned(),
            _ => return Ok(()),
        };
        Err(DecodeError::new(DecodeErrorKind::Batching, wrong))
    }

    fn wrong_type(&self, found: &str, place: &str) -> DecodeError {
        DecodeError::new(
            DecodeErrorKind::TypeName,
            format!("{place} is {:?}, expected {:?}", shown(found), self.type_name()),
        )
    }
}

/// Content encodings that mean gzip.
const GZIP: [&str; 2] = ["gzip", "x-gzip"];

/// Content encodings that do not compress. Some clients write a text encoding (Spring AMQP `UTF-8`, kombu `utf-8` and
/// `binary`) or a mail transfer encoding (RFC 2045, section 6.1) here, although AMQP's property is for compression.
const NO_COMPRESSION: [&str; 9] =
    ["identity", "binary", "8bit", "7bit", "utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1"];

fn is_one_of(label: &str, known: &[&str]) -> bool {
    known.iter().any(|one| label.eq_ignore_ascii_case(one))
}

impl<M> Clone for Wire<M> {
    fn clone(&self) -> Self {
        let (codec, labels, trend) = (Arc::clone(&self.codec), Arc::clone(&self.labels), Arc::clone(&self.trend));
        Self { codec, labels, trend, ..*self }
    }
}

impl<M> fmt::Debug for Wire<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire")
            .field("content_type", &self.content_type())
            .field("gzip", &self.gzip)
            .field("limits", &self.limits)
            .finish()
    }
}
