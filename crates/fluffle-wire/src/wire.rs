use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use prost::{Message, Name};

use crate::headers::ItemTypes;
use crate::text::shown;
use crate::{Codec, EncodeError, EncodeErrorKind, Encoded, Gzip, Label, Limits, Protobuf, Wrapper, gzip};

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
/// // The label says what the body is: nothing is guessed.
/// assert_eq!(protobuf.decode(&json.encode(&alert)?.incoming())?, alert);
/// assert!(protobuf.strict().decode(&json.encode(&alert)?.incoming()).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Wire<M> {
    /// The format that is written; it is read too.
    pub(crate) own: Format<M>,
    pub(crate) reading: Arc<Reading<M>>,
    gzip: Gzip,
    trend: Arc<gzip::Trend>,
    pub(crate) limits: Limits,
}

/// A codec, and the labels that go with what it writes.
pub(crate) struct Format<M> {
    pub(crate) codec: Arc<dyn Codec<M>>,
    pub(crate) labels: Arc<Labels>,
}

/// The labels that go into a message's properties, built once.
pub(crate) struct Labels {
    pub(crate) single: Arc<str>,
    pub(crate) batch: Arc<str>,
    pub(crate) type_name: Arc<str>,
}

/// What a [`Wire`] reads in addition to what it writes.
pub(crate) struct Reading<M> {
    pub(crate) formats: Vec<Format<M>>,
    pub(crate) wrappers: Vec<Arc<dyn Wrapper>>,
    /// The name on the wire → the name of the type.
    pub(crate) aliases: BTreeMap<String, String>,
}

impl<M> Format<M> {
    fn new(codec: impl Codec<M> + 'static) -> Self {
        let type_name = codec.type_name();
        let single = format!("{}; proto={type_name}", codec.media_type());
        let batch = format!("{single}; encoding=delimited");
        let labels = Labels { single: single.into(), batch: batch.into(), type_name: type_name.into() };
        Self { codec: Arc::new(codec), labels: Arc::new(labels) }
    }
}

impl<M: Message + Name + Default> Wire<M> {
    /// Protobuf, no gzip, default limits. With the feature `json`, also reads proto3 JSON, if its label says so and
    /// the type's descriptor is linked into the program (`fluffle_build::compile` does that;
    /// [`descriptors!`](crate::descriptors) by hand). For Protobuf alone see [`strict`](Wire::strict).
    pub fn protobuf() -> Self {
        let wire = Self::new(Protobuf);
        #[cfg(feature = "json")]
        let wire = wire.reads(crate::linked_json::LinkedJson::default());
        wire
    }
}

#[cfg(feature = "json")]
impl<M: prost_reflect::ReflectMessage + Name + Default> Wire<M> {
    /// Proto3 JSON, no gzip, default limits.
    pub fn json() -> Self {
        Self::new(crate::Json)
    }
}

#[cfg(feature = "json")]
impl<M: serde::Serialize + serde::de::DeserializeOwned> Wire<M> {
    /// JSON as serde writes it, for a type without Protobuf. `type_name` is the name of the type on the wire, the same
    /// for all services: `shop.OrderPlaced`. No gzip, default limits. See [`SerdeJson`](crate::SerdeJson).
    pub fn serde_json(type_name: impl Into<std::borrow::Cow<'static, str>>) -> Self {
        Self::new(crate::SerdeJson::new(type_name))
    }
}

impl<M> Wire<M> {
    /// Any codec, no gzip, default limits.
    pub fn new(codec: impl Codec<M> + 'static) -> Self {
        let reading = Arc::new(Reading::default());
        Self { own: Format::new(codec), reading, gzip: Gzip::Off, trend: Arc::default(), limits: Limits::default() }
    }

    /// Also reads bodies in the format of `codec`, if their content type names it. What is written does not change,
    /// except [`encode_like`](Wire::encode_like).
    ///
    /// ```
    /// use fluffle_wire::{Incoming, Json, Wire};
    /// use protos::usgs::Alert;
    ///
    /// let wire = Wire::new(fluffle_wire::Protobuf).reads(Json);
    /// let body = bytes::Bytes::from_static(br#"{"quakeId":"us2000cmy3"}"#);
    /// let sent = Incoming { content_type: Some("application/json"), ..Incoming::unlabelled(&body) };
    /// let alert: Alert = wire.decode(&sent)?;
    /// assert_eq!(alert.quake_id, "us2000cmy3");
    /// # Ok::<(), fluffle_wire::DecodeError>(())
    /// ```
    #[must_use]
    pub fn reads(self, codec: impl Codec<M> + 'static) -> Self {
        let format = Format::new(codec);
        self.reading(|reading| reading.formats.push(format))
    }

    /// Also reads messages in this [wrapper](Wrapper).
    #[must_use]
    pub fn accepts(self, wrapper: impl Wrapper + 'static) -> Self {
        self.reading(|reading| reading.wrappers.push(Arc::new(wrapper)))
    }

    /// Also reads messages whose `type` (or `proto` parameter) is `alias`, as messages of type `type_name`: for a type
    /// that was renamed, and for names that others use.
    ///
    /// ```
    /// use fluffle_wire::{Incoming, Wire};
    /// use protos::usgs::Alert;
    ///
    /// let wire = Wire::<Alert>::protobuf().type_alias("quake-alert", "usgs.v1.Alert");
    /// let body = bytes::Bytes::new();
    /// assert!(wire.decode(&Incoming { type_name: Some("quake-alert"), ..Incoming::unlabelled(&body) }).is_ok());
    /// ```
    #[must_use]
    pub fn type_alias(self, alias: impl Into<String>, type_name: impl Into<String>) -> Self {
        let (alias, type_name) = (alias.into(), type_name.into());
        self.reading(|reading| {
            reading.aliases.insert(alias, type_name);
        })
    }

    /// Reads nothing but the format that it writes: forgets what [`reads`](Wire::reads) and
    /// [`accepts`](Wire::accepts) added. Aliases stay.
    #[must_use]
    pub fn strict(self) -> Self {
        self.reading(|reading| {
            reading.formats.clear();
            reading.wrappers.clear();
        })
    }

    fn reading(mut self, change: impl FnOnce(&mut Reading<M>)) -> Self {
        let mut reading = Reading::clone(&self.reading);
        change(&mut reading);
        self.reading = Arc::new(reading);
        self
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
        &self.own.labels.type_name
    }

    /// The `content_type` of one message.
    pub fn content_type(&self) -> &str {
        &self.own.labels.single
    }

    /// Encodes one message.
    ///
    /// # Errors
    ///
    /// [`EncodeErrorKind::TooLarge`] past [`Limits::encoded`] or [`Limits::decompressed`],
    /// [`EncodeErrorKind::Unrepresentable`] if the codec cannot write the message, [`EncodeErrorKind::LabelTooLong`] if
    /// the type's name does not fit into AMQP.
    pub fn encode(&self, message: &M) -> Result<Encoded, EncodeError> {
        self.encode_as(&self.own, message)
    }

    /// Appends the bytes of one message, without gzip and labels, and without a look at the limits.
    ///
    /// # Errors
    ///
    /// [`EncodeErrorKind::Unrepresentable`] if the codec cannot write the message.
    pub fn encode_bytes(&self, message: &M, into: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.own.codec.encode(message, into)
    }

    /// Encodes one message in the format that `content_type` names: the answer to a request is in the format of the
    /// request. If this wire does not [read](Wire::reads) that format, or no content type is given, writes its own.
    ///
    /// # Errors
    ///
    /// The same as for [`encode`](Wire::encode).
    pub fn encode_like(&self, content_type: Option<&str>, message: &M) -> Result<Encoded, EncodeError> {
        let format = self.format_of(&Label::new(content_type, None)).unwrap_or(&self.own);
        self.encode_as(format, message)
    }

    fn encode_as(&self, format: &Format<M>, message: &M) -> Result<Encoded, EncodeError> {
        let mut raw = Vec::new();
        if let Some(len) = format.codec.encoded_len(message) {
            self.check_raw(len)?;
            raw.reserve_exact(len);
        }
        format.codec.encode(message, &mut raw)?;
        let type_name = format.codec.type_of(message);
        let own = type_name.as_ref().map(|name| (name, format.codec.media_type_of(message)));
        self.seal_single(raw, &format.labels, own)
    }

    /// One message in the format that this wire writes. `own` are its type and its media type, if the codec has several
    /// types.
    pub(crate) fn seal_own(&self, raw: Vec<u8>, own: Option<(&Arc<str>, &str)>) -> Result<Encoded, EncodeError> {
        self.seal_single(raw, &self.own.labels, own)
    }

    /// `own` as for [`seal_own`](Self::seal_own).
    fn seal_single(
        &self,
        raw: Vec<u8>,
        labels: &Labels,
        own: Option<(&Arc<str>, &str)>,
    ) -> Result<Encoded, EncodeError> {
        match own {
            None => self.seal(raw, 1, &labels.single, &labels.type_name, None),
            Some((name, media_type)) => {
                let content_type = format!("{media_type}; proto={name}");
                self.seal(raw, 1, &content_type.into(), name, None)
            }
        }
    }

    pub(crate) fn codec(&self) -> &dyn Codec<M> {
        &*self.own.codec
    }

    /// The bounds on what is sent and accepted.
    pub fn bounds(&self) -> &Limits {
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
        &self.own.labels.batch
    }

    /// `types` are those of the items, and `media_type` is theirs, if the codec has several types.
    pub(crate) fn seal_batch(
        &self,
        raw: Vec<u8>,
        items: usize,
        types: &ItemTypes,
        media_type: &str,
    ) -> Result<Encoded, EncodeError> {
        match types.common() {
            None if types.is_empty() => self.seal(raw, items, &self.own.labels.batch, &self.own.labels.type_name, None),
            Some(name) => {
                let content_type = format!("{media_type}; proto={name}; encoding=delimited");
                self.seal(raw, items, &content_type.into(), name, None)
            }
            None => {
                // A reader that knows no batches of several types refuses this, and mistakes no item for its own type.
                let content_type = format!("{media_type}; encoding=typed");
                self.seal(raw, items, &content_type.into(), &"".into(), Some(types.header().into()))
            }
        }
    }

    /// Compresses the body if the policy says so, and adds the labels.
    fn seal(
        &self,
        raw: Vec<u8>,
        items: usize,
        content_type: &Arc<str>,
        type_name: &Arc<str>,
        item_types: Option<Arc<str>>,
    ) -> Result<Encoded, EncodeError> {
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
            type_name: Arc::clone(type_name),
            item_types,
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
}

impl<M> Clone for Format<M> {
    fn clone(&self) -> Self {
        Self { codec: Arc::clone(&self.codec), labels: Arc::clone(&self.labels) }
    }
}

impl<M> Clone for Wire<M> {
    fn clone(&self) -> Self {
        let (own, reading, trend) = (self.own.clone(), Arc::clone(&self.reading), Arc::clone(&self.trend));
        Self { own, reading, trend, ..*self }
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

impl<M> Default for Reading<M> {
    fn default() -> Self {
        Self { formats: Vec::new(), wrappers: Vec::new(), aliases: BTreeMap::new() }
    }
}

impl<M> Clone for Reading<M> {
    fn clone(&self) -> Self {
        let (formats, wrappers, aliases) = (self.formats.clone(), self.wrappers.clone(), self.aliases.clone());
        Self { formats, wrappers, aliases }
    }
}
