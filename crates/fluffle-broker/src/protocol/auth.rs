//! Who a client is: PLAIN, AMQPLAIN and EXTERNAL.

use amq_protocol::protocol::connection::StartOk;

use super::shared::Settings;
use crate::engine::Table;

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
            // A table that comes without the length it usually begins with.
            let table = Table::read(response)?;
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

fn text(table: &Table, name: &str) -> Option<String> {
    String::from_utf8(table.get(name)?.text()?.to_vec()).ok()
}
