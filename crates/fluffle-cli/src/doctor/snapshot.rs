//! What the management API tells about the broker and one vhost, asked once.

use crate::doctor::json::Object;

/// The broker and one vhost, as the management API tells them. A list that may not be read is empty.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) vhost: String,
    /// `consumer_timeout` in milliseconds, from the file of `--conf`, or else RabbitMQ's default.
    pub(crate) consumer_timeout: Option<u64>,
    pub(crate) overview: Object,
    pub(crate) about_vhost: Object,
    pub(crate) nodes: Vec<Object>,
    pub(crate) exchanges: Vec<Object>,
    pub(crate) bindings: Vec<Object>,
    pub(crate) queues: Vec<Object>,
    pub(crate) consumers: Vec<Object>,
    pub(crate) channels: Vec<Object>,
    pub(crate) connections: Vec<Object>,
    pub(crate) policies: Vec<Object>,
    pub(crate) deprecated: Vec<Object>,
    pub(crate) feature_flags: Vec<Object>,
}

impl Snapshot {
    /// The major and minor version of RabbitMQ; 0.0 if the broker does not tell it.
    pub(crate) fn version(&self) -> (u32, u32) {
        version(self.overview.text("rabbitmq_version"))
    }

    /// `--vhost` for `rabbitmqctl`, if it is not the default.
    pub(crate) fn vhost_option(&self) -> String {
        if self.vhost == "/" { String::new() } else { format!(" --vhost {}", shell(&self.vhost)) }
    }

    /// A command that sets this policy on one queue.
    pub(crate) fn policy(&self, queue: &str, definition: &str) -> String {
        format!(
            "rabbitmqctl set_policy{} {} {} {} --apply-to queues --priority 10",
            self.vhost_option(),
            shell(&format!("mend {queue}")),
            shell(&format!("^{}$", pattern(queue))),
            shell(definition),
        )
    }
}

/// The major and minor number of a version; 0.0 if the text is none.
pub(crate) fn version(text: &str) -> (u32, u32) {
    let mut numbers = text.split('.').map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Text as one word of a shell.
pub(crate) fn shell(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Text as a regular expression that matches it.
pub(crate) fn pattern(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for character in text.chars() {
        if r"\.+*?()|[]{}^$".contains(character) {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_from_the_broker_does_not_leave_its_word_of_the_command() {
        let snapshot = Snapshot { vhost: "a b".into(), ..Snapshot::default() };
        let command = snapshot.policy("o'; rm -rf /; '.q", "{}");
        assert_eq!(
            command,
            [
                r"rabbitmqctl set_policy --vhost 'a b' 'mend o'\''; rm -rf /; '\''.q' '^o'\''; rm -rf /; '\''\.q$'",
                r" '{}' --apply-to queues --priority 10"
            ]
            .concat()
        );
    }
}
