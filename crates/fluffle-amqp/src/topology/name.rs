//! Rules for names: AMQP's short string, and the names that RabbitMQ reserves.

/// AMQP 0-9-1 sends names and routing keys as short strings: one byte of length (section 4.2.5.3).
const MAX_BYTES: usize = 255;

/// A name that this application gives to an exchange or a queue.
pub(super) fn check_declared(name: &str) -> Result<(), String> {
    check(name)?;
    if name.starts_with("amq.") {
        return Err("names that begin with \"amq.\" are reserved by the broker and cannot be declared: \
             choose another name, or leave the exchange out of the topology and only bind to it"
            .into());
    }
    Ok(())
}

/// The name of an exchange that a binding, a dead-letter setting or an alternate exchange refers to.
pub(super) fn check_bound_exchange(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("it binds to the default exchange \"\", which RabbitMQ refuses: every queue is \
                    already bound there under its own name"
            .into());
    }
    check(name)
}

/// A routing or binding key; it may be empty.
pub(super) fn check_key(key: &str) -> Result<(), String> {
    check_length("key", key)
}

/// The name of an argument or header.
pub(super) fn check_argument(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("an argument has an empty name".into());
    }
    check_length("argument name", name)
}

fn check(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("its name is empty; an empty name means the default exchange, or a queue whose name the broker \
                    chooses: give it a name (for a queue with a unique name use Queue::temporary)"
            .into());
    }
    if name.chars().any(char::is_control) {
        // RabbitMQ strips line breaks from a declared name without an error: the entity would exist under another name
        // than the one that bindings and consumers use.
        return Err(format!("its name {name:?} has control characters: remove them"));
    }
    check_length("name", name)
}

fn check_length(what: &str, text: &str) -> Result<(), String> {
    match text.len() {
        bytes if bytes > MAX_BYTES => Err(format!(
            "the {what} {:?}… has {bytes} bytes, AMQP allows {MAX_BYTES}: shorten it",
            text.chars().take(40).collect::<String>()
        )),
        _ => Ok(()),
    }
}
