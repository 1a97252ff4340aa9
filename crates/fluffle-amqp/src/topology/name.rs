//! What a name may be: AMQP's short string, and what RabbitMQ keeps for itself.

/// AMQP 0-9-1 sends names and routing keys as short strings: one byte of length (section 4.2.5.3).
const MAX_BYTES: usize = 255;

/// A name that this application gives to an exchange or a queue.
pub(super) fn check_declared(name: &str) -> Result<(), String> {
    check(name)?;
    if name.starts_with("amq.") {
        return Err("names that begin with \"amq.\" are the broker's own and cannot be declared: \
             choose another name, or leave it out of the topology and only bind to it"
            .into());
    }
    Ok(())
}

/// The exchange at the other end of a binding, a dead letter or an alternate route.
pub(super) fn check_bound_exchange(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("it binds to the default exchange \"\", which RabbitMQ refuses: every queue is \
                    already bound there under its own name"
            .into());
    }
    check(name)
}

/// A routing or binding key: empty is a key too.
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
        return Err("its name is empty, which is the default exchange's name and asks the broker to \
                    invent a queue's: give it one (for a queue with a fresh name there is \
                    Queue::temporary)"
            .into());
    }
    if name.chars().any(char::is_control) {
        // RabbitMQ strips line breaks from declared names without a word: the entity would exist
        // under a name that nobody uses.
        return Err(format!("its name {name:?} has control characters: take them out"));
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
