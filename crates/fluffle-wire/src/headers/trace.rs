use std::fmt::Write;

use super::{HeaderValue, TRACEPARENT, TRACESTATE};

/// The span that sent a message, in the form of W3C Trace Context (<https://www.w3.org/TR/trace-context/>).
///
/// ```
/// use fluffle_wire::headers::TraceContext;
///
/// let context: TraceContext = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse()?;
/// assert!(context.sampled());
/// // A message sent while this one is handled names the new span as parent, in the same trace.
/// let sent_on = context.with_span([1, 2, 3, 4, 5, 6, 7, 8])?;
/// assert_eq!(sent_on.traceparent(), "00-4bf92f3577b34da6a3ce929d0e0e4736-0102030405060708-01");
/// # Ok::<(), fluffle_wire::headers::InvalidTrace>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TraceContext {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    flags: u8,
    state: Option<String>,
}

/// Why a text or an id is not a valid trace context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTrace {
    /// Not in the form that the specification requires.
    #[error("a traceparent reads 00-<32 hex digits>-<16 hex digits>-<2 hex digits>, in lower case")]
    Form,
    /// Version 255 is forbidden.
    #[error("traceparent version ff is forbidden")]
    Version,
    /// A trace id or span id of zeros.
    #[error("trace id and span id must not be all zeros")]
    Zero,
    /// Not a list of at most 32 `key=value` members in at most 512 printable characters.
    #[error("a tracestate has at most 32 key=value members in at most 512 printable ASCII characters")]
    State,
}

impl TraceContext {
    /// The longest `tracestate` that is kept, in characters: 512, which the specification asks every system to carry.
    pub const STATE_CHARS: usize = 512;
    /// The most members of a `tracestate`: 32, as the specification says.
    pub const STATE_MEMBERS: usize = 32;

    /// A span of a trace.
    ///
    /// # Errors
    ///
    /// [`InvalidTrace::Zero`] if either id is all zeros.
    pub fn new(trace_id: [u8; 16], span_id: [u8; 8], sampled: bool) -> Result<Self, InvalidTrace> {
        if trace_id == [0; 16] || span_id == [0; 8] {
            return Err(InvalidTrace::Zero);
        }
        Ok(Self { trace_id, span_id, flags: sampled.into(), state: None })
    }

    /// The same trace with another span as the parent of what follows. The caller must choose the id at random.
    ///
    /// # Errors
    ///
    /// [`InvalidTrace::Zero`] if the id is all zeros.
    pub fn with_span(&self, span_id: [u8; 8]) -> Result<Self, InvalidTrace> {
        if span_id == [0; 8] {
            return Err(InvalidTrace::Zero);
        }
        Ok(Self { span_id, ..self.clone() })
    }

    /// The same span with this `tracestate`.
    ///
    /// # Errors
    ///
    /// [`InvalidTrace::State`] if `state` exceeds the limits, or is not a list of `key=value`.
    pub fn with_state(self, state: &str) -> Result<Self, InvalidTrace> {
        let state = state.trim();
        let mut members = 0;
        let well_formed = state.len() <= Self::STATE_CHARS
            && state.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t'))
            && state.split(',').map(str::trim).filter(|member| !member.is_empty()).all(|member| {
                members += 1;
                member.split_once('=').is_some_and(|(key, _)| !key.is_empty())
            });
        if !well_formed || members > Self::STATE_MEMBERS {
            return Err(InvalidTrace::State);
        }
        Ok(Self { state: (members > 0).then(|| state.to_owned()), ..self })
    }

    /// Reads both headers.
    ///
    /// If `traceparent` is absent or invalid, the result is `None`: the message starts a new trace, as the
    /// specification asks. If only `tracestate` is invalid, it is dropped and the rest is kept.
    pub fn read<'a>(header: impl Fn(&'static str) -> Option<HeaderValue<'a>>) -> Option<Self> {
        let context: Self = header(TRACEPARENT)?.as_str()?.trim().parse().ok()?;
        let state = header(TRACESTATE).and_then(|value| value.as_str());
        match state.map(|state| context.clone().with_state(state)) {
            Some(Ok(with_state)) => Some(with_state),
            _ => Some(context),
        }
    }

    /// The id of the trace.
    pub fn trace_id(&self) -> [u8; 16] {
        self.trace_id
    }

    /// The id of the trace as logs and pages show it: 32 digits, in lower case.
    pub fn trace_id_hex(&self) -> String {
        let mut text = String::new();
        push_hex(&mut text, &self.trace_id);
        text
    }

    /// The id of the span that sent the message. It is the parent of the spans that handle it.
    pub fn span_id(&self) -> [u8; 8] {
        self.span_id
    }

    /// Whether the sender records this trace.
    pub fn sampled(&self) -> bool {
        self.flags & 1 == 1
    }

    /// The `tracestate`: data that tracing systems added.
    pub fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }

    /// The `traceparent` header. Always of version 00, whatever version was read.
    pub fn traceparent(&self) -> String {
        let mut text = String::with_capacity(55);
        text.push_str("00-");
        push_hex(&mut text, &self.trace_id);
        text.push('-');
        push_hex(&mut text, &self.span_id);
        text.push('-');
        push_hex(&mut text, &[self.flags]);
        text
    }
}

impl std::str::FromStr for TraceContext {
    type Err = InvalidTrace;

    /// Reads a `traceparent`. If its version is later than 00, the part that version 00 defines is read, as the
    /// specification asks.
    fn from_str(text: &str) -> Result<Self, InvalidTrace> {
        let mut parts = text.splitn(5, '-');
        let mut part = || parts.next().ok_or(InvalidTrace::Form);
        let [version] = hex(part()?)?;
        let (trace_id, span_id, [flags]) = (hex(part()?)?, hex(part()?)?, hex(part()?)?);
        match (version, parts.next()) {
            (0xff, _) => return Err(InvalidTrace::Version),
            (0, Some(_)) => return Err(InvalidTrace::Form),
            _ => {}
        }
        // Version 00 defines only the flag "sampled". The other flags must not be passed on.
        Self::new(trace_id, span_id, flags & 1 == 1)
    }
}

/// Reads exactly `N` bytes of lower-case hex.
fn hex<const N: usize>(text: &str) -> Result<[u8; N], InvalidTrace> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Ok(byte - b'0'),
        b'a'..=b'f' => Ok(byte - b'a' + 10),
        _ => Err(InvalidTrace::Form),
    };
    let mut bytes = [0; N];
    let (pairs, odd) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != N || !odd.is_empty() {
        return Err(InvalidTrace::Form);
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Ok(bytes)
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
}
