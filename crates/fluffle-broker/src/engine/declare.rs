//! Declaring, deleting and binding exchanges.

use std::rc::Rc;

use super::{
    ChannelKey, Engine, VhostKey, arguments,
    binding::{Binding, Destination},
    exchange::{Exchange, ExchangeKind, ExchangeSpec},
    refusal::Refusal,
    ring,
    table::Table,
};

/// `exchange.declare`.
#[derive(Debug)]
pub(crate) struct ExchangeDeclaration<'a> {
    pub(crate) name: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) passive: bool,
    pub(crate) durable: bool,
    pub(crate) auto_delete: bool,
    pub(crate) internal: bool,
    pub(crate) arguments: Table,
}

/// Checks `x-match`, the mode of a binding to a headers exchange.
fn check_match(arguments: &Table) -> Result<(), Refusal> {
    let Some(value) = arguments.get("x-match") else { return Ok(()) };
    match value.text() {
        Some(b"all" | b"any" | b"all-with-x" | b"any-with-x") => Ok(()),
        Some(mode) => {
            let (before, after) =
                ("Invalid x-match field value <<\"", "\">>; expected all, any, all-with-x, or any-with-x");
            Err(Refusal::precondition([before.as_bytes(), mode, after.as_bytes()].concat()))
        }
        None => Err(Refusal::precondition(format!(
            "Invalid x-match field type {} (value {}); expected longstr",
            arguments::type_name(value),
            if value.kind() == b'x' { format!("<<\"{}\">>", arguments::shown(value)) } else { arguments::shown(value) }
        ))),
    }
}

/// RabbitMQ calls a missing type invalid, rather than unknown, if its name is an atom of the Erlang node: in practice,
/// a word in lower case.
fn no_such_kind(kind: &str) -> Refusal {
    let word = !kind.is_empty() && kind.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let problem = if word { "invalid" } else { "unknown" };
    Refusal::command_invalid(format!("{problem} exchange type '{kind}'"))
}

fn not_on_default() -> Refusal {
    Refusal::access("operation not permitted on the default exchange")
}

impl Engine {
    pub(crate) fn declare_exchange(
        &mut self,
        channel: ChannelKey,
        wanted: ExchangeDeclaration<'_>,
    ) -> Result<(), Refusal> {
        let Some((vhost, vhost_name, _)) = self.place(channel) else { return Ok(()) };
        let Some(home) = self.vhosts.get_mut(vhost) else { return Ok(()) };
        let existing = home.exchanges.get(wanted.name);
        if wanted.passive {
            if wanted.name.is_empty() {
                return Err(not_on_default());
            }
            return existing.map(|_| ()).ok_or_else(|| Refusal::not_found("exchange", wanted.name, &vhost_name));
        }
        if wanted.name.is_empty() {
            return Err(not_on_default());
        }
        let Some(kind) = ExchangeKind::parse(wanted.kind) else {
            return Err(no_such_kind(wanted.kind));
        };
        if kind == ExchangeKind::ConsistentHash {
            ring::check(&wanted.arguments)?;
        }
        if let Some(existing) = existing {
            let entity = format!("exchange '{}' in vhost '{vhost_name}'", wanted.name);
            if existing.spec.kind != kind {
                let (received, current) = (format!("'{kind}'"), format!("'{}'", existing.spec.kind));
                return Err(arguments::inequivalent("type", &entity, &received, &current));
            }
            arguments::same_flag("durable", &entity, wanted.durable, existing.spec.durable)?;
            arguments::same_flag("auto_delete", &entity, wanted.auto_delete, existing.spec.auto_delete)?;
            arguments::same_flag("internal", &entity, wanted.internal, existing.spec.internal)?;
            let name = "alternate-exchange";
            let (received, current) = (wanted.arguments.get(name), existing.spec.arguments.get(name));
            return arguments::equivalent(name, &entity, received, current);
        }
        if wanted.name.starts_with("amq.") {
            let text = format!("exchange name '{}' contains reserved prefix 'amq.*'", wanted.name);
            return Err(Refusal::access(text));
        }
        let ExchangeDeclaration { durable, auto_delete, internal, arguments, .. } = wanted;
        let name: Rc<str> = wanted.name.into();
        let spec = ExchangeSpec { kind, durable, auto_delete, internal, arguments };
        home.exchanges.insert(name.clone(), Exchange::new(name, spec));
        self.generation += 1;
        Ok(())
    }

    /// Deletes an exchange. Succeeds if it does not exist.
    pub(crate) fn delete_exchange(&mut self, channel: ChannelKey, name: &str, if_unused: bool) -> Result<(), Refusal> {
        let Some((vhost, vhost_name, _)) = self.place(channel) else { return Ok(()) };
        if name.is_empty() {
            return Err(not_on_default());
        }
        if name.starts_with("amq.") {
            let text = format!("deletion of system exchange '{name}' in vhost '{vhost_name}' not allowed");
            return Err(Refusal::access(text));
        }
        let found = self.vhosts.get(vhost).and_then(|home| home.exchanges.get(name));
        if if_unused && found.is_some_and(|exchange| !exchange.bindings.is_empty()) {
            return Err(Refusal::precondition(format!("exchange '{name}' in vhost '{vhost_name}' in use")));
        }
        self.remove_exchange(vhost, name);
        Ok(())
    }

    /// Removes an exchange, all bindings to it, and the auto-delete exchanges that have no binding left then.
    pub(super) fn remove_exchange(&mut self, vhost: VhostKey, name: &str) {
        self.generation += 1;
        let removed = self.vhosts.get_mut(vhost).and_then(|home| home.exchanges.remove(name));
        if removed.is_some() {
            self.forget_destination(vhost, &Destination::Exchange(name.into()));
        }
    }

    /// Removes all bindings to a deleted destination.
    pub(super) fn forget_destination(&mut self, vhost: VhostKey, destination: &Destination) {
        self.generation += 1;
        let Some(home) = self.vhosts.get_mut(vhost) else { return };
        let mut emptied = Vec::new();
        for exchange in home.exchanges.values_mut() {
            if exchange.forget(destination) && exchange.spec.auto_delete && exchange.bindings.is_empty() {
                emptied.push(exchange.name.clone());
            }
        }
        emptied.into_iter().for_each(|name| self.remove_exchange(vhost, &name));
    }

    /// 404 if there is no such exchange.
    pub(crate) fn check_exchange(&self, channel: ChannelKey, name: &str) -> Result<(), Refusal> {
        let Some((vhost, vhost_name, _)) = self.place(channel) else { return Ok(()) };
        let known = self.vhosts.get(vhost).is_some_and(|home| home.exchanges.contains_key(name));
        known.then_some(()).ok_or_else(|| Refusal::not_found("exchange", name, &vhost_name))
    }

    /// Binds a queue or an exchange to the exchange `source`.
    pub(crate) fn bind(
        &mut self,
        channel: ChannelKey,
        source: &str,
        destination: Destination,
        key: &str,
        arguments: Table,
    ) -> Result<(), Refusal> {
        if source.is_empty() {
            return Err(not_on_default());
        }
        let exchange = self.bindable(channel, source, &destination)?;
        if exchange.spec.kind == ExchangeKind::Headers {
            check_match(&arguments)?;
        }
        if exchange.spec.kind == ExchangeKind::ConsistentHash {
            exchange.ring.add(&destination, ring::weight(key)?);
        }
        exchange.bind(key, Binding { destination, arguments: arguments.sorted() });
        self.generation += 1;
        Ok(())
    }

    /// Removes a binding. Succeeds if it does not exist.
    pub(crate) fn unbind(
        &mut self,
        channel: ChannelKey,
        source: &str,
        destination: Destination,
        key: &str,
        arguments: Table,
    ) -> Result<(), Refusal> {
        let Some((vhost, _, _)) = self.place(channel) else { return Ok(()) };
        if source.is_empty() {
            return Err(not_on_default());
        }
        // If the source or the destination does not exist, RabbitMQ reports success.
        let Ok(exchange) = self.bindable(channel, source, &destination) else { return Ok(()) };
        let removed = exchange.unbind(key, &destination, &arguments.sorted());
        let gone = removed && exchange.spec.auto_delete && exchange.bindings.is_empty();
        self.generation += 1;
        if gone {
            self.remove_exchange(vhost, source);
        }
        Ok(())
    }

    fn bindable(
        &mut self,
        channel: ChannelKey,
        source: &str,
        destination: &Destination,
    ) -> Result<&mut Exchange, Refusal> {
        let missing = |name: &str, vhost: &str| Refusal::not_found("exchange", name, vhost);
        let Some((vhost, vhost_name, _)) = self.place(channel) else { return Err(missing(source, "")) };
        let Some(home) = self.vhosts.get_mut(vhost) else { return Err(missing(source, &vhost_name)) };
        if let Destination::Exchange(name) = destination {
            if name.is_empty() {
                return Err(not_on_default());
            }
            if !home.exchanges.contains_key(name) {
                return Err(missing(name, &vhost_name));
            }
        }
        home.exchanges.get_mut(source).ok_or_else(|| missing(source, &vhost_name))
    }
}
