//! Who a client is: PLAIN, AMQPLAIN and EXTERNAL.

use amq_protocol::{
    protocol::connection::StartOk,
    types::{AMQPValue, FieldTable, parsing::parse_field_table},
};

use super::shared::Settings;
use crate::engine::Reader;

/// The mechanisms offered, in the order of preference.
pub(crate) const MECHANISMS: &str = "PLAIN AMQPLAIN EXTERNAL";

/// The user that a client has proved to be. EXTERNAL has nothing to look at, there being no TLS: it
/// names a known user, or is the first one.
pub(crate) fn user(settings: &Settings, offer: &StartOk) -> Option<String> {
    let response = offer.response.as_bytes();
    let known = |name: &str, password: &str| {
        settings.users.iter().any(|(user, secret)| user == name && secret == password).then(|| name.to_owned())
    };
    match offer.mechanism.as_str() {
        "PLAIN" => {
            let mut parts = std::str::from_utf8(response).ok()?.split('\0');
            let (_, name, password) = (parts.next()?, parts.next()?, parts.next()?);
            known(name, password)
        }
        "AMQPLAIN" => {
            let table = bare_table(response)?;
            known(&text(&table, "LOGIN")?, &text(&table, "PASSWORD")?)
        }
        "EXTERNAL" => {
            let name = std::str::from_utf8(response).ok()?;
            let mut users = settings.users.iter().map(|(user, _)| user);
            if name.is_empty() { users.next().cloned() } else { users.find(|user| *user == name).cloned() }
        }
        _ => None,
    }
}

/// A table that comes without the length it usually begins with.
fn bare_table(bytes: &[u8]) -> Option<FieldTable> {
    let mut whole = u32::try_from(bytes.len()).ok()?.to_be_bytes().to_vec();
    whole.extend_from_slice(bytes);
    Reader::new(&whole).table()?;
    parse_field_table(&whole[..]).ok().map(|(_, table)| table)
}

fn text(table: &FieldTable, name: &str) -> Option<String> {
    match table.inner().get(name)? {
        AMQPValue::LongString(text) => String::from_utf8(text.as_bytes().to_vec()).ok(),
        _ => None,
    }
}
