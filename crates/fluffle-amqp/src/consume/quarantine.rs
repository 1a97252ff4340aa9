//! Messages that may be ending their process: each is handled alone, so that the next death has one suspect.
//!
//! A quorum queue counts how often it has handed a message out in vain (`x-delivery-count`), and a death counts against
//! everything the process held: the message that killed it, and up to a prefetch of others that only waited. So the count
//! alone convicts nobody. From half of the limit on a message is a suspect; it goes back, and comes again as the only one.

use crate::consume::received::Received;

/// The prefetch of who is alone.
const ALONE: u16 = 1;

/// Which deliveries are handled alone on one channel.
pub(crate) struct Quarantine {
    /// From this delivery count on a message is a suspect.
    from: u32,
    /// It lasts until so many deliveries in a row were none: what went back with a suspect comes again first.
    length: u16,
    left: u16,
}

impl Quarantine {
    /// For a limit of `limit` deliveries and a prefetch of `prefetch`. Without a limit there are no suspects.
    pub(crate) fn new(limit: Option<u32>, prefetch: u16) -> Self {
        Self { from: limit.map_or(u32::MAX, |limit| (limit / 2).max(1)), length: prefetch, left: 0 }
    }

    /// Looks at what has arrived while `subscribed` deliveries may be unacked.
    pub(crate) fn look(&mut self, received: &Received, subscribed: Option<u16>) -> Arrived {
        let deliveries = received.delivery_count();
        let arrived = self.arrived(deliveries, subscribed);
        if arrived == Arrived::Alone {
            tracing::warn!(
                queue = %received.queue, message_id = received.message_id().unwrap_or("-"), deliveries,
                "delivered again and again and never settled, perhaps for it ends the process: it is handled alone"
            );
        }
        arrived
    }

    fn arrived(&mut self, delivery_count: u32, subscribed: Option<u16>) -> Arrived {
        if delivery_count < self.from {
            self.left = self.left.saturating_sub(1);
            return Arrived::Unsuspected;
        }
        self.left = self.length;
        if subscribed == Some(ALONE) { Arrived::Alone } else { Arrived::AmongOthers }
    }

    /// How many deliveries may be unacked, of those that would be otherwise; none at first, until nothing else is in hand.
    pub(crate) fn allows(&self, otherwise: Option<u16>, subscribed: Option<u16>, in_hand: bool) -> Option<u16> {
        match otherwise {
            Some(_) if self.left > 0 => (subscribed == Some(ALONE) || !in_hand).then_some(ALONE),
            otherwise => otherwise,
        }
    }
}

/// What a delivery is to the quarantine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrived {
    /// Handled as any other.
    Unsuspected,
    /// A suspect, and nothing else is here: handled.
    Alone,
    /// A suspect beside others: it goes back, to come again alone.
    AmongOthers,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suspect_goes_back_once_and_comes_again_when_nothing_else_is_in_hand() {
        let mut quarantine = Quarantine::new(Some(10), 3);
        assert_eq!(quarantine.arrived(4, Some(3)), Arrived::Unsuspected);
        assert_eq!(quarantine.allows(Some(3), Some(3), true), Some(3));
        assert_eq!(quarantine.arrived(5, Some(3)), Arrived::AmongOthers);
        assert_eq!(quarantine.allows(Some(3), Some(3), true), None, "first what is in hand is finished");
        assert_eq!(quarantine.allows(Some(3), None, false), Some(1));
        assert_eq!(quarantine.arrived(6, Some(1)), Arrived::Alone);
        assert_eq!(quarantine.allows(Some(3), Some(1), true), Some(1), "itself in hand");
    }

    #[test]
    fn it_ends_after_a_prefetch_of_others_and_begins_anew_with_each_suspect() {
        let mut quarantine = Quarantine::new(Some(10), 2);
        quarantine.arrived(9, Some(2));
        assert_eq!(quarantine.arrived(0, Some(1)), Arrived::Unsuspected);
        assert_eq!(quarantine.arrived(5, Some(1)), Arrived::Alone);
        quarantine.arrived(0, Some(1));
        assert_eq!(quarantine.allows(Some(2), Some(1), false), Some(1));
        quarantine.arrived(0, Some(1));
        assert_eq!(quarantine.allows(Some(2), Some(1), false), Some(2));
    }

    #[test]
    fn an_open_breaker_stays_open_and_without_a_limit_nobody_is_a_suspect() {
        let mut quarantine = Quarantine::new(Some(2), 2);
        quarantine.arrived(1, Some(2));
        assert_eq!(quarantine.allows(None, None, false), None);
        assert_eq!(Quarantine::new(None, 2).arrived(1_000, Some(2)), Arrived::Unsuspected);
    }
}
