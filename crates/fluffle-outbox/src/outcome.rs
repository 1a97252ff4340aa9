//! Decides the outcome of a row from the result of publishing it.

use std::time::Duration;

use fluffle_amqp::{Class, Confirmed, Prepared, PublishError, PublishErrorKind, Retry};

/// How long a nacked row waits. A nack usually means that its queue is full at the moment.
const NACKED: Duration = Duration::from_secs(1);

/// The outcome of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The broker has the message.
    Published,
    /// The result is not known: the broker is away, or busy. The row is due again at once. The relay claims no other
    /// while the broker accepts none, so that it keeps its place in the order.
    Again,
    /// The broker does not accept the message now. It is tried again after a wait; other messages pass it meanwhile.
    Later { attempts: u32, error: String, wait: Duration },
    /// The message was refused too often, or is damaged.
    Parked { attempts: u32, error: String },
}

/// Decides the outcome. `attempts` is how often the message was refused before.
pub(crate) fn decide(published: Result<Confirmed, PublishError<Prepared>>, attempts: u32, retry: &Retry) -> Outcome {
    match published {
        Ok(_) => Outcome::Published,
        Err(error) if error.class() == Class::Permanent => refused(told(&error), attempts, retry),
        Err(error) if matches!(error.kind(), PublishErrorKind::Nacked) => {
            Outcome::Later { attempts, error: told(&error), wait: NACKED }
        }
        Err(_) => Outcome::Again,
    }
}

/// An error text that a column can hold. The broker chose some of its words, and PostgreSQL accepts no NUL in a text.
pub(crate) fn told(error: &impl ToString) -> String {
    error.to_string().replace('\0', "\u{fffd}")
}

/// The broker refused the message for good. It is tried again all the same, because an operator may bind a queue or
/// grant a permission.
fn refused(error: String, before: u32, retry: &Retry) -> Outcome {
    let attempts = before.saturating_add(1);
    match retry.delays().get(before as usize) {
        Some(wait) => Outcome::Later { attempts, error, wait: *wait },
        None => Outcome::Parked { attempts, error },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_broker_says_fits_into_a_column() {
        assert_eq!(told(&"no queue\0 took it"), "no queue\u{fffd} took it");
    }

    #[test]
    fn a_refused_row_waits_longer_each_time_and_is_parked_at_the_end() {
        let second = Duration::from_secs(1);
        let retry = Retry::exponential(3, second, 5.0).unwrap();
        let error = || "no queue took it".to_owned();
        let again = |attempts, wait| Outcome::Later { attempts, error: error(), wait };
        assert_eq!(refused(error(), 0, &retry), again(1, second));
        assert_eq!(refused(error(), 1, &retry), again(2, 5 * second));
        assert_eq!(refused(error(), 2, &retry), Outcome::Parked { attempts: 3, error: error() });
        assert_eq!(refused(error(), u32::MAX, &retry), Outcome::Parked { attempts: u32::MAX, error: error() });
        assert_eq!(refused(error(), 0, &Retry::none()), Outcome::Parked { attempts: 1, error: error() });
    }
}
