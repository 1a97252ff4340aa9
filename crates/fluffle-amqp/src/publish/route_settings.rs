//! The settings of a route from a file or the environment.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Unexpected, Visitor};

use crate::{
    base::written::{Choice, Flag, GzipWritten, LimitsWritten, Size, Span, Switchable, Whole, Word, Written, YEAR, or},
    flow::flow_written::RateLimitWritten,
    publish::{
        batching::BatchingSettings,
        passing::Republish,
        route::{Confirms, Key, Route},
    },
};

/// The settings of a [`Route`] from a file or the environment, by serde: [`Route::settings`].
///
/// A key has the name of its setter:
///
/// | key | value |
/// |---|---|
/// | `name`, `key`, `key_template` | text |
/// | `confirms` | `"off"`, `"each"`, or how many messages may be on the wire: a whole number of at least 1 |
/// | `confirm_timeout` | 1 ms to 365 d |
/// | `deadline` | 0 s to 365 d |
/// | `batch` | `false`, `true`, or the settings of a [`Batching`](crate::Batching) |
/// | `lanes`, `mailbox` | a whole number of at least 1 |
/// | `max_bytes_in_flight` | a size, 1 byte to 4 GiB |
/// | `rate_limit` | `false`, or as in [`ConsumeSettings`](crate::ConsumeSettings) |
/// | `mandatory`, `persistent` | `true`, `false` |
/// | `republish` | `"never"`, `"elections"`, `"full"` |
/// | `gzip` | `"off"`, `"on"`, `"auto"`, or `{ mode = "auto", level = 1, min_size = "1KiB" }` |
/// | `limits` | `encoded`, `decompressed`, `ratio`, `batch_items`: [`Limits`](fluffle_wire::Limits) |
///
/// The exchange is not among them, because the topology has the same name: if it is to be set, have a field for it in
/// your own settings. Journals and codecs are code.
///
/// How values are written, and what a key overrides: see [`ConsumeSettings`](crate::ConsumeSettings).
///
/// ```
/// use fluffle_amqp::{Route, RouteSettings};
///
/// let settings: RouteSettings = toml::from_str(r#"
///     confirms = 256
///     deadline = "10s"
///     gzip = "auto"
///     batch = { linger = "20ms" }
/// "#)?;
/// let route = Route::<String>::exchange("quakes").settings(&settings);
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table with the settings of a route")]
pub struct RouteSettings {
    name: Option<String>,
    key: Option<String>,
    key_template: Option<String>,
    confirms: Option<ConfirmsWritten>,
    confirm_timeout: Option<Span<1>>,
    deadline: Option<Span<0, YEAR>>,
    batch: Option<Switchable<BatchingSettings>>,
    lanes: Option<Whole<usize, 1>>,
    mailbox: Option<Whole<usize, 1>>,
    max_bytes_in_flight: Option<Size<1, { 4 << 30 }>>,
    rate_limit: Option<Switchable<RateLimitWritten>>,
    mandatory: Option<Flag>,
    persistent: Option<Flag>,
    republish: Option<Word<Republish>>,
    gzip: Option<GzipWritten>,
    limits: Option<LimitsWritten>,
}

impl Choice for Republish {
    const WORDS: &'static [(&'static str, Self)] =
        &[("never", Self::Never), ("elections", Self::Elections), ("full", Self::Full)];
}

impl<T> Route<T> {
    /// Overrides what the settings name, and leaves the rest as the code says. A setter that is called afterwards
    /// overrides the settings.
    ///
    /// ```
    /// use fluffle_amqp::{Confirms, Route, RouteSettings};
    ///
    /// let settings: RouteSettings = toml::from_str("confirms = 'each'")?;
    /// let route = Route::<String>::exchange("ledger")
    ///     .confirms(Confirms::Window(64))     // unless the settings say something else
    ///     .settings(&settings)
    ///     .mandatory(true);                   // whatever the settings say
    /// # Ok::<(), toml::de::Error>(())
    /// ```
    #[must_use]
    pub fn settings(self, settings: &RouteSettings) -> Self {
        // Neither side with `..`: a setting that nothing reads does not compile, nor does a knob without a setting.
        let RouteSettings {
            name,
            key,
            key_template,
            confirms,
            confirm_timeout,
            deadline,
            batch,
            lanes,
            mailbox,
            max_bytes_in_flight,
            rate_limit,
            mandatory,
            persistent,
            republish,
            gzip,
            limits,
        } = settings.clone();
        let mut wire = self.wire;
        if let Some(gzip) = gzip {
            wire = wire.gzip(gzip.value());
        }
        if let Some(limits) = limits {
            let code = *wire.bounds();
            wire = wire.limits(limits.over(code));
        }
        Self {
            // The topology has the same name.
            exchange: self.exchange,
            key: key.map_or(self.key, |key| Key::Fixed(key.into())),
            key_template: key_template.map(Into::into).or(self.key_template),
            mandatory: or(mandatory, self.mandatory),
            persistent: or(persistent, self.persistent),
            confirms: or(confirms, self.confirms),
            confirm_timeout: or(confirm_timeout, self.confirm_timeout),
            name: name.or(self.name),
            // A journal is an open file.
            journal: self.journal,
            batching: Switchable::over(batch, self.batching, |batch, code| code.unwrap_or_default().settings(batch)),
            lanes: or(lanes, self.lanes),
            mailbox: or(mailbox, self.mailbox),
            max_bytes: or(max_bytes_in_flight, self.max_bytes),
            rate_limit: Switchable::over(rate_limit, self.rate_limit, |limit, _| limit.value()),
            deadline: or(deadline, self.deadline),
            republish: or(republish, self.republish),
            wire,
        }
    }
}

/// `"off"`, `"each"`, or the number of a window.
#[derive(Clone, Copy, Debug)]
struct ConfirmsWritten(Confirms);

impl Written for ConfirmsWritten {
    type Value = Confirms;

    fn value(self) -> Confirms {
        self.0
    }
}

impl<'de> Deserialize<'de> for ConfirmsWritten {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordOrNumber;

        impl Visitor<'_> for WordOrNumber {
            type Value = ConfirmsWritten;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(r#""off", "each", or a whole number of at least 1"#)
            }

            fn visit_i64<E: de::Error>(self, written: i64) -> Result<ConfirmsWritten, E> {
                let messages = usize::try_from(written).ok().filter(|messages| *messages > 0);
                let window = messages.map(Confirms::Window).map(ConfirmsWritten);
                window.ok_or_else(|| E::invalid_value(Unexpected::Signed(written), &self))
            }

            fn visit_u64<E: de::Error>(self, written: u64) -> Result<ConfirmsWritten, E> {
                match i64::try_from(written) {
                    Ok(written) => self.visit_i64(written),
                    Err(_) => Err(E::invalid_value(Unexpected::Unsigned(written), &self)),
                }
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ConfirmsWritten, E> {
                match (text, text.parse()) {
                    ("off", _) => Ok(ConfirmsWritten(Confirms::Off)),
                    ("each", _) => Ok(ConfirmsWritten(Confirms::Each)),
                    (_, Ok(messages)) => self.visit_i64(messages),
                    (_, Err(_)) => Err(E::invalid_value(Unexpected::Str(text), &self)),
                }
            }
        }

        deserializer.deserialize_any(WordOrNumber)
    }
}

#[cfg(test)]
mod tests;
