//! Runs one behaviour against one broker.

use std::{
    any::Any,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    time::Duration,
};

use crate::{CHANGED_IN_4, Difference, Half, KNOWN_DIFFERENCES, Target};

/// A behaviour as a function pointer, made from `async fn behaviour(broker: &Target)`.
pub type Behaviour = for<'a> fn(&'a Target) -> Pin<Box<dyn Future<Output = ()> + 'a>>;

/// The time limit of a whole behaviour.
const BEHAVIOUR_LIMIT: Duration = Duration::from_secs(50);

/// How a behaviour ended, with the known differences taken into account.
#[derive(Debug)]
pub enum Outcome {
    /// Like RabbitMQ.
    Agrees,
    /// Unlike RabbitMQ, which is a known difference.
    KnownDifference(&'static str),
    /// Unlike RabbitMQ; with the panic to resume.
    Differs(Box<dyn Any + Send>),
    /// Like RabbitMQ, although it is listed as a difference.
    Stale(&'static str),
}

/// Runs one behaviour against one broker. Panics unless the broker agrees with RabbitMQ, or the difference is known.
///
/// # Panics
///
/// With the behaviour's own panic, or because a listed difference no longer exists.
pub fn run(half: Half, name: &str, behaviour: Behaviour) {
    let differences = match half {
        Half::Real if Target::is_rabbitmq_4() => CHANGED_IN_4,
        Half::Real => &[],
        Half::Embedded => KNOWN_DIFFERENCES,
    };
    match judge(name, differences, || attempt(half, behaviour)) {
        Outcome::Agrees => {}
        Outcome::KnownDifference(reason) => println!("known difference: {name}: {reason}"),
        Outcome::Differs(panic) => resume_unwind(panic),
        Outcome::Stale(reason) => panic!("{name} passes: strike it from the differences ({reason})"),
    }
}

/// Decides how a behaviour ended. If it panics, the broker differs.
pub fn judge(name: &str, differences: &[Difference], behaviour: impl FnOnce()) -> Outcome {
    let known = differences.iter().find(|difference| difference.behaviour == name);
    match (catch_unwind(AssertUnwindSafe(behaviour)), known) {
        (Ok(()), None) => Outcome::Agrees,
        (Ok(()), Some(known)) => Outcome::Stale(known.reason),
        (Err(_), Some(known)) => Outcome::KnownDifference(known.reason),
        (Err(panic), None) => Outcome::Differs(panic),
    }
}

fn attempt(half: Half, behaviour: Behaviour) {
    let target = Target::fresh(half);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let finished = runtime.block_on(async { tokio::time::timeout(BEHAVIOUR_LIMIT, behaviour(&target)).await });
    assert!(finished.is_ok(), "the behaviour did not end within {BEHAVIOUR_LIMIT:?}");
}
