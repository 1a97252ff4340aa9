//! A fault and when it happens by itself.

use super::{Direction, Event, Fault, FaultError, control::Place, plan::Scene};

/// A [`Fault`], the [`Event`] it happens at, for whom, and how often.
///
/// It is asked at each event of its kind that passes its filters. Without more said it happens every time,
/// until it is healed.
///
/// ```
/// use fluffle_broker::{Fault, Rule};
///
/// // Of the messages for "orders", past the tenth, one in ten is refused, three in all.
/// let rule = Rule::new(Fault::Nack).on_queue("orders").after(10).times(3).probability(0.1);
/// ```
#[derive(Clone, Debug)]
pub struct Rule {
    pub(super) fault: Fault,
    event: Option<Event>,
    queue: Option<String>,
    exchange: Option<String>,
    connection: Option<String>,
    user: Option<String>,
    pub(super) after: u64,
    pub(super) times: u64,
    pub(super) probability: f64,
    pub(super) bytes: Option<(Direction, u64)>,
}

impl Rule {
    /// A rule for every natural event of the fault, for everyone.
    pub fn new(fault: Fault) -> Self {
        Self {
            fault,
            event: None,
            queue: None,
            exchange: None,
            connection: None,
            user: None,
            after: 0,
            times: u64::MAX,
            probability: 1.0,
            bytes: None,
        }
    }

    /// Another event than the fault's natural one.
    pub fn at(mut self, event: Event) -> Self {
        self.event = Some(event);
        self
    }

    /// Only for messages that are routed to, delivered from or settled in the queue of this name, in any virtual host.
    pub fn on_queue(mut self, name: impl Into<String>) -> Self {
        self.queue = Some(name.into());
        self
    }

    /// Only for messages published to the exchange of this name, in any virtual host; the default exchange's is empty.
    pub fn on_exchange(mut self, name: impl Into<String>) -> Self {
        self.exchange = Some(name.into());
        self
    }

    /// Only for connections whose client gave them this `connection_name`.
    pub fn on_connection(mut self, name: impl Into<String>) -> Self {
        self.connection = Some(name.into());
        self
    }

    /// Only for connections of this user.
    pub fn by_user(mut self, name: impl Into<String>) -> Self {
        self.user = Some(name.into());
        self
    }

    /// The first `events` that pass the filters are spared. Default: none.
    pub fn after(mut self, events: u64) -> Self {
        self.after = events;
        self
    }

    /// At most so often. Default: no limit.
    pub fn times(mut self, times: u64) -> Self {
        self.times = times;
        self
    }

    /// How likely it is at each event, from 0 to 1; drawn from the seed. Default: 1.
    pub fn probability(mut self, probability: f64) -> Self {
        self.probability = probability;
        self
    }

    /// Not at the event itself, but when so many bytes have passed on the connection since, exactly then: amidst a frame,
    /// if that is where it is. For faults of the transport, from [`Event::Accepted`] (then the default) or
    /// [`Event::Opened`].
    pub fn after_bytes(mut self, direction: Direction, bytes: u64) -> Self {
        self.bytes = Some((direction, bytes));
        self
    }

    /// The event it happens at, if the rule makes sense.
    pub(super) fn check(&self, place: Place) -> Result<Event, FaultError> {
        let (fault, possible) = (self.fault.name(), self.fault.events());
        place.check_fault(&self.fault)?;
        let from_the_start = self.bytes.is_some() || place == Place::Proxy;
        let natural =
            if from_the_start { Event::Accepted } else { possible.first().copied().unwrap_or(Event::Accepted) };
        let event = self.event.unwrap_or(natural);
        if place == Place::Proxy && event != Event::Accepted {
            return Err(FaultError::NeedsBroker { fault: "an event other than Accepted" });
        }
        if !possible.contains(&event) {
            return Err(FaultError::WrongEvent { fault, event, possible });
        }
        if self.bytes.is_some() && !(self.fault.is_of_transport() && matches!(event, Event::Accepted | Event::Opened)) {
            return Err(FaultError::WrongBytes { fault, event });
        }
        let filters = [
            ("queue", self.queue.is_some(), event.knows_the_queue()),
            ("exchange", self.exchange.is_some(), event.knows_the_queue()),
            ("connection name", self.connection.is_some(), event.knows_the_connection()),
            ("user", self.user.is_some(), event.knows_the_connection()),
        ];
        if let Some((filter, ..)) = filters.into_iter().find(|(_, asked, known)| *asked && !known) {
            return Err(FaultError::WrongFilter { filter, event });
        }
        if !(0.0..=1.0).contains(&self.probability) {
            let value = self.probability;
            return Err(FaultError::OutOfRange { what: "a rule's probability", value, allowed: "from 0 to 1" });
        }
        Ok(event)
    }

    pub(super) fn matches(&self, scene: &Scene<'_>) -> bool {
        let asked = |filter: &Option<String>, is: &str| filter.as_deref().is_none_or(|wanted| wanted == is);
        let possible = match self.fault {
            Fault::Nack | Fault::DropConfirm | Fault::DelayConfirm { .. } => scene.confirms,
            Fault::Return => scene.mandatory,
            _ => true,
        };
        possible
            && asked(&self.connection, scene.connection)
            && asked(&self.user, scene.user)
            && asked(&self.exchange, scene.exchange)
            && self.queue.as_deref().is_none_or(scene.has_queue)
    }
}
