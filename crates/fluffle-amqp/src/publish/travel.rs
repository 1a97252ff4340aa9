//! Whether a message has been on a wire.

use std::{
    fmt,
    sync::atomic::{AtomicU8, Ordering},
};

const WAITS: u8 = 0;
const SENT: u8 = 1;
const WITHDRAWN: u8 = 2;

/// Decides between who is about to send a message and who gives it up: exactly one of them has his way.
#[derive(Debug, Default)]
pub(crate) struct Travel(AtomicU8);

impl Travel {
    /// It is about to be handed to a connection: from here on nobody can say that it was not sent. False if it was
    /// withdrawn, and must not be sent.
    pub(crate) fn depart(&self) -> bool {
        match self.0.compare_exchange(WAITS, SENT, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => true,
            Err(state) => state == SENT,
        }
    }

    /// It is not to be sent any more. False if it has been.
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

/// Why a message was not sent and will not be: no broker has ever heard of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotSent {
    /// Its deadline passed while it waited for a connection, or behind others. It is withdrawn.
    Deadline,
    /// The service has ended, or ended while it waited.
    Ended,
    /// What would have published it was dropped before it was added to a running service: an `App` that was not
    /// started, for instance.
    NeverStarted,
}

impl fmt::Display for NotSent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deadline => {
                "it still waited to be sent when its deadline passed, and is withdrawn: is the broker away, or blocking, or the \
                 service not started?"
            }
            Self::Ended => "it was not sent: the service has ended",
            Self::NeverStarted => "it was not sent: its service was dropped before it was started",
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
            assert_eq!((travel.depart(), travel.withdraw()), (sent, withdrawn), "the first word stands");
        }
    }
}
