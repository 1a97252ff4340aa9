//! Carries out faults: on a link at once; on channels, consumers and the broker when the state is not borrowed.

use std::{rc::Rc, time::Duration};

use super::{
    alarm::Source,
    channel::ChannelState,
    link::Link,
    shared::{Outage, Shared},
};
use crate::{
    engine::{Refusal, Seat},
    fault::{Chosen, Event, Fault, Hit, Plan, Scene, Site, Strike, Target},
};

/// A heartbeat frame with a wrong end octet (AMQP 0-9-1 section 4.2.3).
const CORRUPT_FRAME: [u8; 8] = [8, 0, 0, 0, 0, 0, 0, 0];

impl Link {
    /// Checks the rules at an event of this connection. Returns whether the connection is refused.
    pub(super) fn ask(&self, event: Event, channel: u16) -> bool {
        let plan = self.gate.plan();
        if !plan.awaits(event) {
            return false;
        }
        let (name, user) = self.gate.client();
        let mut refused = false;
        for hit in plan.ask(event, &Scene::of(name, user)) {
            match hit.fault {
                Fault::Refuse => refused = true,
                // The frame about to be sent is the last one written.
                Fault::CorruptFrame => self.output.borrow_mut().corrupt_end(),
                _ => self.suffer(hit, channel, None),
            }
        }
        refused
    }

    /// Applies a fault: to bytes at once, to everything else when the state is not borrowed.
    fn suffer(&self, hit: Hit, channel: u16, consumer: Option<Rc<str>>) {
        match hit.fault {
            _ if hit.fault.is_of_transport() => self.gate.strike(&hit),
            Fault::CorruptFrame => {
                self.output.borrow_mut().write(|out| out.extend_from_slice(&CORRUPT_FRAME));
                self.wake.notify_one();
            }
            _ => {
                let connection = self.key.get().unwrap_or_default();
                self.gate.plan().defer(Strike { hit, connection, channel, consumer });
            }
        }
    }

    fn open_channels(&self) -> Vec<u16> {
        let channels = self.channels.borrow();
        let mut open: Vec<u16> = channels
            .iter()
            .filter(|(_, state)| matches!(state, ChannelState::Open(_)))
            .map(|(number, _)| *number)
            .collect();
        open.sort_unstable();
        open
    }
}

impl Shared {
    /// Carries out the deferred faults. Returns whether there were any.
    pub(super) fn carry_out_faults(&self) -> bool {
        if !self.faults.has_strikes() {
            return false;
        }
        self.faults.take_strikes().into_iter().for_each(|strike| self.carry_out(strike));
        true
    }

    fn carry_out(&self, Strike { hit, connection, channel, consumer }: Strike) {
        match hit.fault {
            Fault::CloseConnection { code, text } => {
                if let Some(link) = self.link(connection) {
                    link.end_with(Refusal { code, text: text.into() });
                }
            }
            Fault::CloseChannel { code, text } => {
                let mut engine = self.engine.borrow_mut();
                if let Some(key) = engine.channel(connection, channel) {
                    engine.fail_channel(key, Refusal { code, text: text.into() });
                }
            }
            Fault::CancelConsumer => {
                let mut engine = self.engine.borrow_mut();
                if let Some((key, tag)) = engine.channel(connection, channel).zip(consumer) {
                    engine.cancel_consumer(key, &tag);
                }
            }
            Fault::Block { reason, time } => self.alarm.raise(Source::Fault(hit.cause.id), &reason, time),
            Fault::Restart { away } => self.go_away(true, away),
            Fault::Crash { away } => self.go_away(false, away),
            _ => {
                if let Some(link) = self.link(connection) {
                    link.suffer(hit, channel, consumer);
                }
            }
        }
    }

    /// Asks the broker's own thread to stop the broker and start it again.
    fn go_away(&self, polite: bool, away: Duration) {
        self.outage.set(Some(Outage { polite, away }));
        self.outage_due.notify_one();
    }

    /// Returns what the fault strikes on a link: the link itself, channels or consumers.
    fn struck(link: &Link, fault: &Fault, seats: &[&Seat], by_queue: bool) -> Vec<(u16, Option<Rc<str>>)> {
        let mut struck: Vec<(u16, Option<Rc<str>>)> = match fault {
            Fault::CancelConsumer => seats.iter().map(|seat| (seat.channel, Some(seat.tag.clone()))).collect(),
            Fault::CloseChannel { .. } if by_queue => seats.iter().map(|seat| (seat.channel, None)).collect(),
            Fault::CloseChannel { .. } => link.open_channels().into_iter().map(|number| (number, None)).collect(),
            Fault::CloseConnection { .. } if link.key.get().is_none() => Vec::new(),
            _ => vec![(0, None)],
        };
        struck.sort_unstable();
        struck.dedup();
        struck
    }
}

impl Site for Shared {
    fn plan(&self) -> &Plan {
        &self.faults
    }

    fn strike(&self, hit: &Hit, target: &Target) {
        self.refresh_clock();
        if hit.fault.is_of_the_broker() {
            self.faults.record(hit, "");
            self.carry_out(Strike { hit: hit.clone(), connection: Default::default(), channel: 0, consumer: None });
            return;
        }
        let seats = self.engine.borrow().seats();
        let meant = |seat: &&Seat| !matches!(&target.0, Chosen::Queue(name) if **name != *seat.queue);
        let mut links = self.all_links();
        if let Chosen::First(count) = target.0 {
            links.truncate(count);
        }
        for link in links {
            let on_it = |seat: &&Seat| Some(seat.connection) == link.key.get();
            let seats: Vec<&Seat> = seats.iter().filter(on_it).filter(meant).collect();
            let (is_meant, by_queue) = match &target.0 {
                Chosen::All | Chosen::First(_) => (true, false),
                Chosen::Connection(name) => (link.gate.client().0 == name, false),
                Chosen::Queue(_) => (!seats.is_empty(), true),
            };
            if !is_meant {
                continue;
            }
            for (channel, consumer) in Self::struck(&link, &hit.fault, &seats, by_queue) {
                self.faults.record(hit, link.gate.client().0);
                link.suffer(hit.clone(), channel, consumer);
            }
        }
        self.dispatch();
    }

    fn heal(&self, id: Option<u64>) {
        self.all_links().iter().for_each(|link| link.gate.heal(id));
        self.lift(|source| matches!(source, Source::Fault(raiser) if id.is_none_or(|id| id == raiser)));
    }
}
