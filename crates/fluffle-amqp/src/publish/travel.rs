//! Whether a message has been sent, or is withdrawn.

use std::{
    fmt,
    sync::atomic::{AtomicU8, Ordering},
};

const WAITS: u8 = 0;
const SENT: u8 = 1;
const WITHDRAWN: u8 = 2;

/// Decides between the task that is about to send a message and the one that withdraws it: exactly one of them
/// succeeds.
#[derive(Debug, Default)]
pub(crate) struct Travel(AtomicU8);

impl Travel {
    /// The message is about to be handed to a connection: from here on it may have been sent. False if it was
    /// withdrawn, and must not be sent.
    pub(crate) fn depart(&self) -> bool {
        match self.0.compare_exchange(WAITS, SENT, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => true,
            Err(state) => state == SENT,
        }
    }

    /// Withdraws the message, which must not be sent any more. False if it may have been sent.
    pub(crate) fn withdraw(&self) -> bool {
        match self.0.compare_exchange(WAITS, WITHDRAWN, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => true,
            Err(state) => state == WITHDRAWN,
        }
    }

    pub(crate) fn departed(&self) -> bool {
        self.0.load(Ordering::Acquire) == SENT
    }

    pub(crate) fn withdrawn(&self) -> bool {
        self.0.load(Ordering::Acquire) == WITHDRAWN
    }
}

/// Why a message was not sent to any broker, and will not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotSent {
    /// The deadline passed while the message waited for a connection, or behind other messages. It is withdrawn.
    Deadline,
    /// The service had ended, or ended while the message waited.
    Ended,
    /// The publisher was dropped before it was added to a running service, for instance with an `App` that was not
    /// started.
    NeverStarted,
}

impl fmt::Display for NotSent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deadline => {
                "it still waited to be sent when its deadline passed, and is withdrawn: is the broker unreachable, \
                 does it block publishers, or is the service not started?"
            }
            Self::Ended => "it was not sent, because the service has ended",
            Self::NeverStarted => "it was not sent, because its service was dropped before it was started",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Barrier, thread};

    use super::*;

    #[test]
    fn of_who_sends_and_who_withdraws_one_has_his_way() {
        for _ in 0..1_000 {
            let (travel, start) = (Travel::default(), Barrier::new(2));
            let (sent, withdrawn) = thread::scope(|scope| {
                let withdrawing = scope.spawn(|| {
                    start.wait();
                    travel.withdraw()
                });
                start.wait();
                (travel.depart(), withdrawing.join().unwrap())
            });
            assert!(sent != withdrawn);
            assert_eq!((travel.depart(), travel.withdraw()), (sent, withdrawn), "the first of the two stands");
        }
    }
}
