//! How a `Wire` reads messages.

use bytes::Bytes;

use crate::headers::TraceContext;
use crate::incoming::present;
use crate::text::shown;
use crate::wire::Format;
use crate::{ContentType, DecodeError, DecodeErrorKind, Incoming, Label, Opened, Wire, gzip, hint};

/// A message that was read.
#[derive(Clone, Debug)]
pub struct Read<M> {
    /// The message.
    pub message: M,
    /// The uncompressed size of the body, in bytes.
    pub bytes: usize,
    /// The span that sent the message, if a [wrapper](crate::Wrapper) tells it.
    pub trace: Option<TraceContext>,
    /// The content type of the message in its wrapper, if it came in one that tells it.
    pub content_type: Option<String>,
}

impl<M> Wire<M> {
    /// Decodes one message.
    ///
    /// If a label is absent, the body is trusted to be right: a body without `content_type` and `type` is read as this
    /// wire's own format and type. If a label is present, it must fit.
    ///
    /// # Errors
    ///
    /// One kind of [`DecodeErrorKind`] for each way in which labels, size, gzip or bytes can be wrong. The text says
    /// what was found and what was expected. Decoding never panics and takes no memory past the [`Limits`].
    ///
    /// [`Limits`]: crate::Limits
    pub fn decode(&self, incoming: &Incoming<'_>) -> Result<M, DecodeError> {
        self.read(incoming).map(|read| read.message)
    }

    /// Like [`decode`](Wire::decode), and also tells the size of the body and what a wrapper says about the message.
    ///
    /// # Errors
    ///
    /// The same as for [`decode`](Wire::decode).
    pub fn read(&self, incoming: &Incoming<'_>) -> Result<Read<M>, DecodeError> {
        let (own, labels) = (&self.own, &self.own.labels);
        let is_own = incoming.content_type == Some(&labels.single) && incoming.type_name == Some(&labels.type_name);
        let unpacked;
        let body = if is_uncompressed(incoming) {
            self.check_size(incoming)?;
            incoming.body
        } else {
            self.check_before_unpacking(incoming)?;
            unpacked = self.unpack(incoming)?;
            &unpacked
        };
        let read = |message| Read { message, bytes: body.len(), trace: None, content_type: None };
        if is_own {
            return Ok(read(own.codec.decode(body)?));
        }
        match self.open(&Incoming { body, ..*incoming })? {
            Some((wrapper, opened)) => {
                let label = Label::new(opened.content_type.as_deref(), self.first_known(&opened.type_names));
                let message = self.decode_labelled(&label, &opened.body).map_err(|e| e.within(wrapper))?;
                Ok(Read { trace: opened.trace, content_type: opened.content_type, ..read(message) })
            }
            None => {
                self.check_batching(incoming, false)?;
                self.check_types_agree(incoming)?;
                let message = self.decode_labelled(&Label::from(incoming), body);
                Ok(read(message.map_err(|e| self.hinted(e, incoming))?))
            }
        }
    }

    /// Of the names of a type, the first that this wire knows; if it knows none, the first, for the error.
    fn first_known<'a>(&self, names: &'a [String]) -> Option<&'a str> {
        names.iter().find(|name| self.reads_type(name)).or(names.first()).map(String::as_str)
    }

    /// The error, and how to accept the message, if its labels tell in which format of others it is.
    pub(crate) fn hinted(&self, error: DecodeError, incoming: &Incoming<'_>) -> DecodeError {
        let accepted = |name: &str| self.reading.wrappers.iter().any(|wrapper| wrapper.name() == name);
        match hint::how_to_accept(incoming, error.kind(), accepted, cfg!(feature = "json")) {
            Some(how) => error.hinted(&how),
            None => error,
        }
    }

    /// Decodes a body that is not compressed and in no wrapper, with these labels. The sizes are not checked.
    ///
    /// # Errors
    ///
    /// [`DecodeErrorKind::ContentType`] and [`DecodeErrorKind::TypeName`] if a label does not fit, and the errors of
    /// the codec.
    pub fn decode_labelled(&self, label: &Label<'_>, body: &Bytes) -> Result<M, DecodeError> {
        let format = self.format_of(label).ok_or_else(|| self.wrong_format(label))?;
        let label = Label { type_name: self.check_type(format, label)?, ..*label };
        format.codec.decode_labelled(&label, body)
    }

    /// Whether this wire reads messages that are labelled with this type.
    pub fn reads_type(&self, type_name: &str) -> bool {
        self.own.codec.reads_type(self.resolve(type_name))
    }

    /// Decodes one item of a batch, as [`RawItems`](crate::RawItems) yields it. `batch` is the message that held the
    /// batch. If the types of its items are told one by one ([`item_types`](crate::Batch::item_types)), its `type_name`
    /// must be that of the item.
    ///
    /// # Errors
    ///
    /// [`DecodeErrorKind::Malformed`] if the bytes are not such a message.
    pub fn decode_item(&self, batch: &Incoming<'_>, raw: &Bytes) -> Result<M, DecodeError> {
        self.decode_frame(batch.content_type, batch.type_name, raw)
    }

    pub(crate) fn decode_frame(
        &self,
        content_type: Option<&str>,
        type_name: Option<&str>,
        raw: &Bytes,
    ) -> Result<M, DecodeError> {
        let labels = &self.own.labels;
        if content_type == Some(&labels.batch) && type_name.is_none_or(|name| *name == *labels.type_name) {
            return self.own.codec.decode(raw);
        }
        let incoming = Incoming { content_type, type_name, ..Incoming::unlabelled(raw) };
        self.decode_labelled(&Label::from(&incoming), raw)
    }

    /// The label of one item of this batch, as a message of its own: the content type without `encoding`.
    pub fn item_content_type(&self, batch: &Incoming<'_>) -> String {
        match present(batch.content_type) {
            Some(label) if *label != *self.own.labels.batch => ContentType::parse(label).without("encoding"),
            _ => self.own.labels.single.to_string(),
        }
    }

    /// The format that reads bodies with this content type; this wire's own, if there is none.
    pub(crate) fn format_of(&self, label: &Label<'_>) -> Option<&Format<M>> {
        let Some(media_type) = label.media_type() else { return Some(&self.own) };
        std::iter::once(&self.own).chain(&self.reading.formats).find(|format| format.codec.accepts(media_type))
    }

    /// The message and the name of its wrapper, if it is in one.
    fn open(&self, incoming: &Incoming<'_>) -> Result<Option<(&str, Opened)>, DecodeError> {
        for wrapper in &self.reading.wrappers {
            if let Some(opened) = wrapper.open(incoming)? {
                return Ok(Some((wrapper.name(), opened)));
            }
        }
        Ok(None)
    }

    /// The name of the type that `name` is an alias of; `name` itself, if it is none.
    fn resolve<'a>(&'a self, name: &'a str) -> &'a str {
        self.reading.aliases.get(name).map_or(name, String::as_str)
    }

    pub(crate) fn check_type<'a>(
        &'a self,
        format: &Format<M>,
        label: &Label<'a>,
    ) -> Result<Option<&'a str>, DecodeError> {
        let Some(found) = label.type_name else { return Ok(None) };
        let name = self.resolve(found);
        if name == &*self.own.labels.type_name || format.codec.reads_type(name) {
            return Ok(Some(name));
        }
        // The codec of several types names all of them.
        let names: Vec<_> = self.type_name().split(" | ").map(|name| format!("{name:?}")).collect();
        let same = if names.len() == 1 { "if they are the same type" } else { "if it is another name of one of them" };
        let (found, one) = (shown(found), names.first().map_or("", String::as_str));
        Err(DecodeError::new(
            DecodeErrorKind::TypeName,
            format!("the type is {found:?}, expected {}; {same}, say type_alias({found:?}, {one})", names.join(" or ")),
        ))
    }

    pub(crate) fn wrong_format(&self, label: &Label<'_>) -> DecodeError {
        let found = label.media_type().unwrap_or_default();
        let known = std::iter::once(&self.own).chain(&self.reading.formats).map(|format| format.codec.media_type());
        let known: Vec<_> = known.map(|media_type| format!("{media_type:?}")).collect();
        let wrappers: Vec<_> = self.reading.wrappers.iter().map(|wrapper| wrapper.name()).collect();
        let accepted = if wrappers.is_empty() { String::new() } else { format!(", or {}", wrappers.join(" or ")) };
        DecodeError::new(
            DecodeErrorKind::ContentType,
            format!("content_type is {:?}, expected {}{accepted}", shown(found), known.join(" or ")),
        )
    }

    /// `type` and the `proto` parameter of the content type must name the same type, if both are present.
    pub(crate) fn check_types_agree(&self, incoming: &Incoming<'_>) -> Result<(), DecodeError> {
        let proto = present(incoming.content_type).map(ContentType::parse).and_then(|label| label.parameter("proto"));
        match (present(incoming.type_name), present(proto)) {
            (Some(one), Some(other)) if self.resolve(one) != self.resolve(other) => Err(DecodeError::new(
                DecodeErrorKind::TypeName,
                format!("type is {:?}, and the proto parameter of content_type is {:?}", shown(one), shown(other)),
            )),
            _ => Ok(()),
        }
    }

    pub(crate) fn check_batching(&self, incoming: &Incoming<'_>, batch: bool) -> Result<(), DecodeError> {
        let Some(label) = present(incoming.content_type) else { return Ok(()) };
        let wrong = match ContentType::parse(label).parameter("encoding") {
            Some(encoding) if !BATCHES.iter().any(|known| encoding.eq_ignore_ascii_case(known)) => {
                format!(
                    "the encoding parameter of content_type is {:?}; expected delimited, typed, or none",
                    shown(encoding)
                )
            }
            Some(_) if !batch => "the body is a batch (encoding=delimited), expected one message".to_owned(),
            None if batch => "the body is one message, expected a batch (encoding=delimited)".to_owned(),
            _ => return Ok(()),
        };
        Err(DecodeError::new(DecodeErrorKind::Batching, wrong))
    }

    fn check_size(&self, incoming: &Incoming<'_>) -> Result<(), DecodeError> {
        let (len, limit) = (incoming.body.len(), self.limits.encoded);
        if len > limit {
            return Err(DecodeError::new(
                DecodeErrorKind::TooLarge,
                format!("the body has {len} bytes, the limit is {limit} (Limits::encoded)"),
            ));
        }
        Ok(())
    }

    /// Refuses a body that is too large, or that no format and no wrapper reads, before it is unpacked.
    pub(crate) fn check_before_unpacking(&self, incoming: &Incoming<'_>) -> Result<(), DecodeError> {
        self.check_size(incoming)?;
        let label = Label::from(incoming);
        if self.reading.wrappers.is_empty() && self.format_of(&label).is_none() {
            return Err(self.hinted(self.wrong_format(&label), incoming));
        }
        Ok(())
    }

    /// The unpacked body; the body itself, if it is not compressed.
    pub(crate) fn unpack(&self, incoming: &Incoming<'_>) -> Result<Bytes, DecodeError> {
        match present(incoming.content_encoding) {
            None => Ok(incoming.body.clone()),
            Some(label) if is_one_of(label, &NO_COMPRESSION) => Ok(incoming.body.clone()),
            Some(label) if is_gzip(label) => gzip::decompress(incoming.body, &self.limits).map(Bytes::from),
            Some(label) => Err(DecodeError::new(
                DecodeErrorKind::ContentEncoding,
                format!("content_encoding is {:?}; expected gzip, or none", shown(label)),
            )),
        }
    }
}

/// Values of the parameter `encoding` that mean a batch: of one type, and of several.
const BATCHES: [&str; 2] = ["delimited", TYPED];

/// The value of the parameter `encoding` that means a batch of several types.
pub(crate) const TYPED: &str = "typed";

/// Content encodings that mean gzip.
const GZIP: [&str; 2] = ["gzip", "x-gzip"];

/// Content encodings that do not compress. Some clients write a text encoding (Spring AMQP `UTF-8`, kombu `utf-8` and
/// `binary`) or a mail transfer encoding (RFC 2045, section 6.1) here, although AMQP's property is for compression.
const NO_COMPRESSION: [&str; 9] =
    ["identity", "binary", "8bit", "7bit", "utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1"];

fn is_one_of(label: &str, known: &[&str]) -> bool {
    known.iter().any(|one| label.eq_ignore_ascii_case(one))
}

/// Whether the label says gzip. Spring AMQP's `GZipPostProcessor` adds the text encoding: `gzip, UTF-8`, and
/// `gzip:UTF-8` before version 2.3.
fn is_gzip(label: &str) -> bool {
    match label.split_once([',', ':']) {
        Some((one, other)) => is_one_of(one.trim(), &GZIP) && is_one_of(other.trim(), &NO_COMPRESSION),
        None => is_one_of(label, &GZIP),
    }
}

fn is_uncompressed(incoming: &Incoming<'_>) -> bool {
    present(incoming.content_encoding).is_none_or(|label| is_one_of(label, &NO_COMPRESSION))
}
