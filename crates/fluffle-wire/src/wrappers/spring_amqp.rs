use crate::incoming::present;
use crate::text::shown;
use crate::{DecodeError, Incoming, Label, Opened, Wrapper};

/// JSON of Spring AMQP's `Jackson2JsonMessageConverter` (and of `JacksonJsonMessageConverter`, since version 4): the
/// header `__TypeId__` names the class, and the body is the object.
///
/// The type of the message is what stands in `__TypeId__`: the name of the class (`com.shop.OrderPlaced`), or the id
/// that the sender's `DefaultClassMapper` gives it. Say which type is meant with `type_alias`.
///
/// Not read, with an error that says so: collections and maps (`__ContentTypeId__`, `__KeyTypeId__`), text that is not
/// UTF-8 (`setDefaultCharset`), and serialized Java objects (`application/x-java-serialized-object`), which the default
/// `SimpleMessageConverter` sends.
///
/// A body compressed by Spring's `GZipPostProcessor` is unpacked.
///
/// ```
/// use bytes::Bytes;
/// use fluffle_wire::{Headers, Incoming, Wire, wrappers::SpringAmqp, headers::HeaderValue};
/// use protos::usgs::Alert;
///
/// struct OfSpring;
/// impl Headers for OfSpring {
///     fn header(&self, name: &str) -> Option<HeaderValue<'_>> {
///         (name == "__TypeId__").then_some(HeaderValue::Str("gov.usgs.QuakeAlert"))
///     }
/// }
///
/// let body = Bytes::from_static(br#"{"quakeId":"us2000cmy3"}"#);
/// let sent = Incoming {
///     content_type: Some("application/json"),
///     content_encoding: Some("UTF-8"),
///     headers: Some(&OfSpring),
///     ..Incoming::unlabelled(&body)
/// };
/// let wire = Wire::<Alert>::json().accepts(SpringAmqp).type_alias("gov.usgs.QuakeAlert", "usgs.v1.Alert");
/// assert_eq!(wire.decode(&sent)?.quake_id, "us2000cmy3");
/// # Ok::<(), fluffle_wire::DecodeError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpringAmqp;

const NAME: &str = "SpringAmqp";

/// What Spring calls JSON; the second one in old versions.
const JSON: [&str; 2] = ["application/json", "text/x-json"];

impl Wrapper for SpringAmqp {
    fn name(&self) -> &str {
        NAME
    }

    fn open(&self, incoming: &Incoming<'_>) -> Result<Option<Opened>, DecodeError> {
        let label = Label::from(incoming);
        let is = |media_type: &str| label.content_type.is_some_and(|found| found.is(media_type));
        let fault = |why: String| Err(DecodeError::wrapper(NAME, why));
        if is("application/x-java-serialized-object") {
            let set = "let the sender use Jackson2JsonMessageConverter instead of SimpleMessageConverter: \
                       rabbitTemplate.setMessageConverter(new Jackson2JsonMessageConverter())";
            return fault(format!("it is a serialized Java object, which only Java reads; {set}"));
        }
        let Some(class) = present(incoming.header("__TypeId__")) else { return Ok(None) };
        if !JSON.into_iter().any(is) {
            return Ok(None);
        }
        if ["__ContentTypeId__", "__KeyTypeId__"].into_iter().any(|name| incoming.header(name).is_some()) {
            let class = shown(class);
            return fault(format!("it is a collection ({class}); let the sender publish each element by itself"));
        }
        if let Some(charset) = charset(incoming) {
            let charset = shown(charset);
            return fault(format!("its text is in {charset}; let the sender call setDefaultCharset(\"UTF-8\")"));
        }
        label.expect_utf8()?;
        let content_type = Some("application/json".to_owned());
        Ok(Some(Opened { content_type, ..Opened::new(incoming.body.clone()) }.named(class)))
    }
}

/// Spring writes the charset into `content_encoding`. `None` if it is one whose bytes are UTF-8.
fn charset<'a>(incoming: &Incoming<'a>) -> Option<&'a str> {
    present(incoming.content_encoding).filter(|charset| charset.eq_ignore_ascii_case("iso-8859-1"))
}
