//! Where a service would be answered 406: what a topology declares, against what is there, argument by argument.

use fluffle::prelude::Topology;

use crate::{
    common::{broker::BrokerArgs, failure::Failure},
    doctor::{
        finding::{Evidence::ProvedOverAmqp, Kind, Level, Report},
        pages,
    },
    topology::{
        compare,
        item::Difference,
        model::{Arguments, Model, Place},
        probe::{Found, Probe},
        steps,
        target::Target,
    },
};

pub(crate) static DIFFERS: Kind = Kind {
    id: "topology.differs",
    level: Level::Error,
    why: "The service does not start: a declaration has to be the same as what is there, or the broker answers 406 \
          PRECONDITION_FAILED.",
    page: pages::EQUIVALENCE,
};

/// Compares each queue and exchange of the topology. What is missing, or held by another connection, is not for here.
pub(crate) async fn compare(args: &BrokerArgs, topology: &Topology, report: &mut Report) -> Result<(), Failure> {
    let (model, vhost) = (Model::from(topology), Target::of(args)?.vhost);
    let mut probe = Probe::new(args, "doctor").await?;
    for exchange in &model.exchanges {
        let found = probe.exchange(exchange).await?;
        tell(&exchange.place(), &vhost, &exchange.arguments, found, report);
    }
    // Only the connection that has an exclusive queue may declare it again.
    for queue in model.queues.iter().filter(|queue| !queue.exclusive) {
        let (found, _) = probe.queue(queue).await?;
        tell(&queue.place(), &vhost, &queue.arguments, found, report);
    }
    probe.close().await;
    Ok(())
}

fn tell(place: &Place, vhost: &str, declared: &Arguments, found: Found, report: &mut Report) {
    let entity = entity(place);
    match found {
        Found::Missing | Found::Same | Found::Locked => {}
        Found::Unknown(why) => report.unknown(
            format!("whether {entity} is as the topology declares it (else 406 at the start): {why}"),
            "a user with the service's own permissions",
        ),
        Found::Differs { differences, complete } => {
            for difference in &differences {
                let of = format!("argument {} of {entity}", difference.argument);
                let (what, mend) = (what(place, vhost, difference), mend(place, vhost, declared, difference));
                report.find(&DIFFERS, ProvedOverAmqp, of, what, mend);
            }
            if !complete {
                report.unknown(
                    format!("whether {entity} differs in more than what is told here"),
                    "a second look, when these differences are mended",
                );
            }
        }
    }
}

fn entity(place: &Place) -> String {
    match place {
        Place::Exchange(name) => format!("exchange {name}"),
        Place::Queue(name) => format!("queue {name}"),
    }
}

/// Both values, and the beginning of the broker's answer as it is in the service's log.
fn what(place: &Place, vhost: &str, difference: &Difference) -> String {
    let Difference { argument, wanted, .. } = difference;
    let (kind, name) = match place {
        Place::Exchange(name) => ("exchange", name),
        Place::Queue(name) => ("queue", name),
    };
    format!(
        "the topology declares {}, the broker has {}. The service is answered: PRECONDITION_FAILED - inequivalent arg \
         '{argument}' for {kind} '{name}' in vhost '{vhost}'",
        wanted.as_deref().unwrap_or("nothing"),
        existing_value(difference).unwrap_or("nothing"),
    )
}

/// What the broker has. A queue that was declared without a type is a classic one.
fn existing_value(difference: &Difference) -> Option<&str> {
    match difference.existing.as_deref() {
        None if difference.argument == "x-queue-type" => Some("classic"),
        existing => existing,
    }
}

fn mend(place: &Place, vhost: &str, declared: &Arguments, difference: &Difference) -> String {
    let argument = &difference.argument;
    if let Some(keys) = compare::policy(std::slice::from_ref(difference), declared) {
        // First the topology, so that the service starts; then the value, which a policy gives without a new queue.
        let steps = steps::policy(place, vhost, &keys, None, false);
        return format!("without a new queue: {}", steps.join("; "));
    }
    let as_it_is = match existing_value(difference) {
        Some(existing) => format!("declare {argument} as {existing} in every service that declares it"),
        None => format!("take {argument} out of what every service declares"),
    };
    format!("{as_it_is}; or make a new one: `fluffle topology plan` shows the steps")
}

#[cfg(test)]
mod tests {
    use fluffle::amqp::ArgumentValue;

    use super::*;

    fn difference(argument: &str, wanted: Option<&str>, existing: Option<&str>) -> Difference {
        let text = |value: Option<&str>| value.map(ToOwned::to_owned);
        Difference { argument: argument.to_owned(), wanted: text(wanted), existing: text(existing) }
    }

    #[test]
    fn each_kind_of_difference_has_a_mending_of_its_own() {
        let queue = Place::Queue("orders".into());
        let declared = Arguments::from([("x-message-ttl".into(), ArgumentValue::Int(1000))]);
        let mend =
            |argument, wanted, existing| super::mend(&queue, "/", &declared, &difference(argument, wanted, existing));
        let by_policy = mend("x-message-ttl", Some("1000"), None);
        assert!(by_policy.contains(r#"'{"message-ttl":1000}'"#) && by_policy.contains("take message-ttl out"));
        let longer = mend("x-message-ttl", Some("1000"), Some("500"));
        assert!(longer.starts_with("declare x-message-ttl as 500"), "a policy cannot make it longer: {longer}");
        let extra = mend("x-max-length", None, Some("7"));
        assert!(extra.starts_with("declare x-max-length as 7 in every service"), "{extra}");
        let type_of = mend("x-queue-type", Some("quorum"), None);
        assert!(type_of.contains("as classic") && type_of.contains("fluffle topology plan"), "{type_of}");
        let priorities = mend("x-max-priority", Some("5"), None);
        assert!(priorities.starts_with("take x-max-priority out"), "{priorities}");
    }

    #[test]
    fn the_broker_s_answer_is_told_as_it_is_in_a_log() {
        let told = what(&Place::Queue("orders".into()), "shop", &difference("x-max-length", Some("5"), None));
        assert!(told.starts_with("the topology declares 5, the broker has nothing. "), "{told}");
        assert!(told.ends_with("inequivalent arg 'x-max-length' for queue 'orders' in vhost 'shop'"), "{told}");
    }
}
