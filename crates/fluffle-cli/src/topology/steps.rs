//! What a person does about an entity that `apply` cannot change, in order.

use fluffle::amqp::ArgumentValue;
use serde_json::{Map, Value};

use crate::topology::{
    model::{Binding, Model, Place, Queue},
    told::Policy,
};

/// Text as one word of a shell.
pub(crate) fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+,".contains(c);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// A pattern of a policy that matches this name only.
fn pattern(name: &str) -> String {
    let escaped = name.chars().flat_map(|c| {
        let special = r"\.+*?()|[]{}^$#&-~".contains(c).then_some('\\');
        special.into_iter().chain([c])
    });
    format!("^{}$", escaped.collect::<String>())
}

/// The steps to give `place` these keys by a policy. `now` is the policy that holds now, if it is known.
pub(crate) fn policy(
    place: &Place,
    vhost: &str,
    keys: &[(&'static str, &ArgumentValue)],
    now: Option<&Policy>,
    is_told: bool,
) -> Vec<String> {
    let mut definition = now.map_or_else(Map::new, |policy| policy.definition.clone());
    for (key, value) in keys {
        definition.insert((*key).to_owned(), json(value));
    }
    let apply_to = match place {
        Place::Exchange(_) => "exchanges",
        Place::Queue(_) => "queues",
    };
    let priority = now.map_or(0, |policy| policy.priority + 1);
    let command = format!(
        "rabbitmqctl set_policy -p {} --priority {priority} --apply-to {apply_to} {} {} {}",
        quoted(vhost),
        quoted(&format!("{}-by-fluffle", place.name())),
        quoted(&pattern(place.name())),
        quoted(&Value::Object(definition).to_string()),
    );
    let merged = match (now, is_told) {
        (Some(policy), _) => format!(
            "set the policy; one policy holds at a time, so it repeats what {:?} sets now: {command}",
            policy.name
        ),
        (None, true) => format!("set the policy; none holds now: {command}"),
        (None, false) => format!(
            "set the policy; one policy holds at a time, so add to it what another sets now (`rabbitmqctl \
             list_policies -p {}`): {command}",
            quoted(vhost)
        ),
    };
    let arguments = keys.iter().map(|(key, _)| *key).collect::<Vec<_>>().join(", ");
    let left_out = format!(
        "take {arguments} out of the file and of what the service declares: a declaration that differs from the \
         existing one is refused (406), whatever the policy says"
    );
    vec![merged, left_out]
}

fn json(value: &ArgumentValue) -> Value {
    match value {
        ArgumentValue::Bool(value) => (*value).into(),
        ArgumentValue::Int(value) => (*value).into(),
        ArgumentValue::Float(value) => (*value).into(),
        ArgumentValue::Text(value) => value.as_str().into(),
        other => other.to_string().into(),
    }
}

/// The steps from a queue that differs to one that is as the file asks for.
pub(crate) fn new_queue(
    queue: &Queue,
    vhost: &str,
    wanted: &Model,
    existing: Option<&Model>,
    in_use: bool,
) -> Vec<String> {
    let (name, vhost) = (&queue.name, quoted(vhost));
    let delete = format!("rabbitmqctl delete_queue -p {vhost} {} --if-empty --if-unused", quoted(name));
    let look = format!("rabbitmqctl list_queues -p {vhost} name messages_ready messages_unacknowledged consumers");
    if !in_use {
        return vec![
            format!("see that nothing is in it, unacknowledged messages included: {look}"),
            format!("delete it; for a quorum queue, leave the two flags out: {delete}"),
            "run `fluffle topology apply` again, which creates it as the file asks".to_owned(),
        ];
    }
    let bindings = |model: &Model| {
        let of_queue = model.bindings.iter().filter(|binding| binding.to == queue.place());
        of_queue.map(said).collect::<Vec<_>>().join("; ")
    };
    let new = format!("{name}.v2");
    let bound = match existing {
        Some(existing) => bindings(existing),
        None => bindings(wanted),
    };
    let unbind = match (bound.is_empty(), existing.is_some()) {
        (false, true) => format!("unbind {name:?}, so that nothing new arrives in it: {bound}"),
        (true, true) => {
            format!("publish to {new:?} instead of {name:?}: it has no binding, so messages come by its name")
        }
        (false, false) => format!(
            "unbind {name:?}, so that nothing new arrives in it: {bound}; and what `rabbitmqctl list_bindings -p \
             {vhost}` shows besides. Publishers that use its name must use {new:?}"
        ),
        (true, false) => format!(
            "unbind {name:?}, so that nothing new arrives in it (`rabbitmqctl list_bindings -p {vhost}` shows from \
             what). Publishers that use its name must use {new:?}"
        ),
    };
    vec![
        format!("name it {new:?} in the file, with its bindings, and apply: until step 3 both queues get each message"),
        format!("start the consumers of {new:?}; those of {name:?} stay"),
        unbind,
        format!("wait until {name:?} is empty, unacknowledged messages included: {look}"),
        format!("stop the old consumers and delete it; for a quorum queue, leave the two flags out: {delete}"),
    ]
}

/// The steps from an exchange that differs to one that is as the file asks for.
pub(crate) fn new_exchange(name: &str, vhost: &str) -> Vec<String> {
    let new = format!("{name}.v2");
    vec![
        format!("name it {new:?} in the file, with all bindings of {name:?}, and apply"),
        format!("let publishers use {new:?}"),
        format!(
            "when nobody publishes to {name:?}, delete it; its bindings go with it: rabbitmqadmin -V {} delete \
             exchange name={}",
            quoted(vhost),
            quoted(name)
        ),
    ]
}

fn said(binding: &Binding) -> String {
    match binding.label() {
        label if label.is_empty() => format!("from exchange {:?}", binding.source),
        label => format!("from exchange {:?} with {label}", binding.source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reaches_the_shell_and_the_pattern_as_itself() {
        assert_eq!(quoted("orders.eu"), "orders.eu");
        assert_eq!(quoted("it's $(here)"), r"'it'\''s $(here)'");
        assert_eq!(quoted(""), "''");
        assert_eq!(pattern("a.b*"), r"^a\.b\*$");
    }

    #[test]
    fn a_policy_repeats_what_the_one_that_holds_now_sets() {
        let now = Policy {
            name: "all".into(),
            priority: 4,
            definition: Map::from_iter([("max-length".into(), Value::from(9))]),
        };
        let ttl = ArgumentValue::Int(100);
        let steps = policy(&Place::Queue("q".into()), "/", &[("message-ttl", &ttl)], Some(&now), true);
        let expected = r#"--priority 5 --apply-to queues q-by-fluffle '^q$' '{"max-length":9,"message-ttl":100}'"#;
        assert!(steps[0].contains(expected), "{}", steps[0]);
    }
}
