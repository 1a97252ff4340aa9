use bytes::Bytes;
use serde_json::value::RawValue;

use crate::incoming::present;
use crate::text::shown;
use crate::wrappers::object::{self, Fault, Object};
use crate::{DecodeError, Incoming, Label, Opened, Wrapper};

/// Tasks of [Celery](https://docs.celeryq.dev), in version 2 of its message protocol, as JSON. The header `task` is the
/// name of the task, and the type of the message: say which type is meant with `type_alias`.
///
/// The body of a task is `[args, kwargs, embed]`. Which part of it is the message, the consumer says:
///
/// | | sent by | the message is |
/// |---|---|---|
/// | `Celery::new()` | `send_task("shop.place", kwargs={"orderId": "o-17"})` | the keyword arguments, an object |
/// | [`Celery::argument`] | `send_task("shop.place", args=[{"orderId": "o-17"}])` | the only positional argument |
/// | [`Celery::arguments`] | `send_task("shop.place", args=["o-17", 4995])` | the positional arguments, an array |
///
/// A task with other arguments beside these is refused, because they would be lost.
///
/// Fluffle reads tasks and is no Celery worker. So a task is refused if more than its handler is asked for: if it has
/// an `eta` (countdowns and Celery's own retries too), or callbacks, errbacks, a chain or a chord. `expires` is left to
/// the broker, which Celery tells the same. A result is not sent.
///
/// Also refused, with an error that says what to set: pickle, YAML and MessagePack (`task_serializer`), and compressed
/// tasks (`task_compression`), whose labels do not say which format they are in. Celery's markers for values that JSON
/// lacks (`{"__type__": "datetime", …}`, `{"bytes": …, "__base64__": true}`) are left in the message.
///
/// ```
/// use bytes::Bytes;
/// use fluffle_wire::{Headers, Incoming, Wire, wrappers::Celery, headers::HeaderValue};
/// use protos::usgs::Alert;
///
/// struct OfCelery;
/// impl Headers for OfCelery {
///     fn header(&self, name: &str) -> Option<HeaderValue<'_>> {
///         [("task", "usgs.tasks.alert"), ("id", "c0ffee")].iter().find(|(found, _)| *found == name)
///             .map(|(_, value)| HeaderValue::Str(value))
///     }
/// }
///
/// let body = Bytes::from_static(br#"[[], {"quakeId": "us2000cmy3"}, {"callbacks": null, "chain": null}]"#);
/// let sent = Incoming {
///     content_type: Some("application/json"),
///     content_encoding: Some("utf-8"),
///     headers: Some(&OfCelery),
///     ..Incoming::unlabelled(&body)
/// };
/// let wire = Wire::<Alert>::json().accepts(Celery::new()).type_alias("usgs.tasks.alert", "usgs.v1.Alert");
/// assert_eq!(wire.decode(&sent)?.quake_id, "us2000cmy3");
/// # Ok::<(), fluffle_wire::DecodeError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Celery {
    message: Part,
}

/// Which part of a task is the message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Part {
    #[default]
    Keywords,
    Argument,
    Arguments,
}

impl Celery {
    /// The keyword arguments are the message.
    pub fn new() -> Self {
        Self::default()
    }

    /// The only positional argument is the message.
    pub fn argument() -> Self {
        Self { message: Part::Argument }
    }

    /// The positional arguments are the message, as an array: for a tuple, read by serde.
    pub fn arguments() -> Self {
        Self { message: Part::Arguments }
    }
}

const NAME: &str = "Celery";

impl Wrapper for Celery {
    fn name(&self) -> &str {
        NAME
    }

    fn open(&self, incoming: &Incoming<'_>) -> Result<Option<Opened>, DecodeError> {
        let media_type = Label::from(incoming).media_type().map(str::to_ascii_lowercase).unwrap_or_default();
        let task = present(incoming.header("task"));
        if task.is_none() && media_type != PICKLE {
            return Ok(None);
        }
        let opened = check_format(incoming, &media_type).and_then(|()| {
            let task = task.ok_or("it has no header `task`")?;
            present(incoming.header("id")).ok_or("it has no header `id`")?;
            let body = self.message(incoming)?;
            Ok(Opened { content_type: Some("application/json".to_owned()), ..Opened::new(body) }.named(task))
        });
        opened.map(Some).map_err(|why| DecodeError::wrapper(NAME, why))
    }
}

const PICKLE: &str = "application/x-python-serialize";

fn check_format(incoming: &Incoming<'_>, media_type: &str) -> Result<(), Fault> {
    if let Some(compression) = present(incoming.header("compression")) {
        return Err(format!("it is compressed ({}); remove task_compression from the sender", shown(compression)));
    }
    if let Some(eta) = present(incoming.header("eta")) {
        let eta = shown(eta);
        return Err(format!("it is not to run before {eta}; let the sender publish it when it is to run"));
    }
    let serializer = match media_type {
        "application/json" => return Ok(()),
        PICKLE => "pickle, which only Python reads",
        "application/x-yaml" => "YAML",
        "application/x-msgpack" => "MessagePack",
        _ => return Err(format!("its content type is {:?}, expected \"application/json\"", shown(media_type))),
    };
    Err(format!("it is in {serializer}; let the sender set task_serializer = 'json'"))
}

impl Celery {
    fn message(&self, incoming: &Incoming<'_>) -> Result<Bytes, Fault> {
        let text = std::str::from_utf8(object::text(incoming)?).map_err(|_| "its body is not UTF-8".to_owned())?;
        let task: &RawValue = serde_json::from_str(text).map_err(|_| "its body is not JSON".to_owned())?;
        let parts = object::array(task, 3).map_err(|why| format!("its body: {why}"))?;
        let &[args, kwargs, embed] = parts.as_slice() else {
            return Err(format!("its body has {} elements, expected [args, kwargs, embed]", parts.len()));
        };
        expect(args, '[', "args", "an array")?;
        expect(kwargs, '{', "kwargs", "an object")?;
        check_embed(embed)?;
        let (other, how) = match self.message {
            Part::Keywords => (args, "positional arguments; read them with Celery::argument or Celery::arguments"),
            Part::Argument | Part::Arguments => (kwargs, "keyword arguments; read them with Celery::new"),
        };
        if !object::is_empty(other) {
            return Err(format!("it has {how}"));
        }
        let message = match self.message {
            Part::Keywords => kwargs,
            Part::Arguments => args,
            Part::Argument => match object::array(args, 1).as_deref() {
                Ok([only]) => only,
                _ => return Err("it does not have exactly one positional argument".into()),
            },
        };
        Ok(object::slice(incoming.body, message.get()))
    }
}

fn expect(value: &RawValue, first: char, name: &str, expected: &str) -> Result<(), Fault> {
    if value.get().starts_with(first) {
        return Ok(());
    }
    Err(format!("its `{name}` is {}, expected {expected}", object::kind(value)))
}

/// Work that would be lost, because only a worker of Celery does it.
fn check_embed(embed: &RawValue) -> Result<(), Fault> {
    const NAMES: &[&str] = &["callbacks", "errbacks", "chain", "chord"];
    if object::is_empty(embed) {
        return Ok(());
    }
    let embed = Object::read(embed.get().as_bytes(), NAMES, false).map_err(|why| format!("its `embed`: {why}"))?;
    match NAMES.iter().find(|name| embed.get(name).is_some_and(|work| !object::is_empty(work))) {
        Some(name) => Err(format!("it has `{name}`, which only a worker of Celery runs")),
        None => Ok(()),
    }
}
