//! A fault and the conditions under which it happens.

use super::{Direction, Event, Fault, FaultError, Place, Scene};

/// A [`Fault`], the [`Event`] it happens at, for whom, and how often.
///
/// The broker checks the rule at each event of its kind that passes its filters. Without further conditions the fault
/// happens every time, until it is healed.
///
/// ```
/// use fluffle_broker::{Fault, Rule};
///
/// // Refuse one in ten of the messages for "orders", from the 11th on, and three in all.
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
    /// Creates a rule for every natural event of the fault, on all connections.
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

    /// Uses another event than the fault's natural one.
    pub fn at(mut self, event: Event) -> Self {
        self.event = Some(event);
        self
    }

    /// Applies only to messages that are routed to, delivered from or settled in the queue of this name, in any virtual
    /// host.
    pub fn on_queue(mut self, name: impl Into<String>) -> Self {
        self.queue = Some(name.into());
        self
    }

    /// Applies only to messages published to the exchange of this name, in any virtual host. The name of the default
    /// exchange is empty.
    pub fn on_exchange(mut self, name: impl Into<String>) -> Self {
        self.exchange = Some(name.into());
        self
    }

    /// Applies only to connections to which their client gave this `connection_name`.
    pub fn on_connection(mut self, name: impl Into<String>) -> Self {
        self.connection = Some(name.into());
        self
    }

    /// Applies only to connections of this user.
    pub fn by_user(mut self, name: impl Into<String>) -> Self {
        self.user = Some(name.into());
        self
    }

    /// Skips the first `events` that pass the filters. Default: 0.
    pub fn after(mut self, events: u64) -> Self {
        self.after = events;
        self
    }

    /// Limits how often the fault happens. Default: no limit.
    pub fn times(mut self, times: u64) -> Self {
        self.times = times;
        self
    }

    /// Sets the probability at each event, from 0 to 1; drawn from the seed. Default: 1.
    pub fn probability(mut self, probability: f64) -> Self {
        self.probability = probability;
        self
    }

    /// The fault happens not at the event itself, but exactly when so many bytes have passed on the connection since
    /// the event, even in the middle of a frame. For network faults, from [`Event::Accepted`] (then the default) or
    /// [`Event::Opened`].
    pub fn after_bytes(mut self, direction: Direction, bytes: u64) -> Self {
        self.bytes = Some((direction, bytes));
        self
    }

    /// Returns the event of the rule, if the rule is valid.
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
