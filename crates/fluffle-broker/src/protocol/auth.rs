//! Authentication of clients: PLAIN, AMQPLAIN and EXTERNAL.

use amq_protocol::protocol::connection::StartOk;

use super::shared::Settings;
use crate::engine::Table;

/// The offered mechanisms, in the order of preference.
pub(crate) const MECHANISMS: &str = "PLAIN AMQPLAIN EXTERNAL";

/// Returns the authenticated user. EXTERNAL cannot check anything, because there is no TLS: the client names any known
/// user, or gets the first one.
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
            // This table comes without its usual length in front.
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
