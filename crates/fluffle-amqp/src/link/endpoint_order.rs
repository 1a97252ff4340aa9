//! Which endpoint a connection tries first, and what is remembered of those that failed.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

/// How long an address that failed is tried after those that did not. A node that is restarted is back by then.
const REMEMBERED: Duration = Duration::from_secs(30);

/// Which endpoint of a [`Broker`](crate::Broker) a connection tries first.
///
/// In either order, an endpoint that failed within the last 30 s is tried after those that did not: it refused, did not
/// answer, or lost a connection. So a connection that is lost moves to another node, if there is one.
///
/// ```
/// use fluffle_amqp::{Broker, EndpointOrder};
///
/// let broker = Broker::new("amqp://near/orders,amqp://far/orders")?.endpoint_order(EndpointOrder::Listed);
/// # Ok::<(), fluffle_amqp::UriError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EndpointOrder {
    /// The connections of all processes are spread over the endpoints (the default). The first connection of a service
    /// begins with an endpoint that is drawn at random, and each further connection with the one after that. The same
    /// holds for the addresses of a name that has several.
    #[default]
    Spread,
    /// Every connection begins with the endpoint that is named first: the nearest one, for example. A connection that
    /// has moved to a later endpoint stays there until it is lost.
    Listed,
}

/// What the connections of one service know of the broker's endpoints.
#[derive(Default)]
pub(crate) struct Endpoints {
    start: Start,
    connections: AtomicUsize,
    known: Mutex<Known>,
}

struct Start(usize);

impl Default for Start {
    fn default() -> Self {
        Self(fastrand::usize(..1 << 16))
    }
}

#[derive(Default)]
struct Known {
    /// The addresses of each endpoint, as its name was last resolved.
    addresses: HashMap<usize, Vec<SocketAddr>>,
    failed: HashMap<SocketAddr, Instant>,
    /// Endpoints whose names could not be resolved.
    unresolved: HashMap<usize, Instant>,
}

/// The place of one connection among those of its service.
#[derive(Clone)]
pub(crate) struct Turn {
    endpoints: Arc<Endpoints>,
    number: usize,
}

impl Endpoints {
    /// The turn of one more connection.
    pub(crate) fn turn(self: &Arc<Self>) -> Turn {
        Turn { endpoints: Arc::clone(self), number: self.connections.fetch_add(1, Ordering::Relaxed) }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// When the address failed, if that is not long ago.
    fn failure(&self, address: &SocketAddr) -> Option<Instant> {
        self.failed.get(address).copied().filter(is_recent)
    }

    /// When the first of the endpoint's addresses failed, if all of them did and that is not long ago.
    fn failure_of(&self, endpoint: usize) -> Option<Instant> {
        if let Some(when) = self.unresolved.get(&endpoint).copied().filter(is_recent) {
            return Some(when);
        }
        let addresses = self.addresses.get(&endpoint)?;
        let failures: Option<Vec<Instant>> = addresses.iter().map(|address| self.failure(address)).collect();
        failures?.into_iter().min()
    }
}

fn is_recent(when: &Instant) -> bool {
    when.elapsed() < REMEMBERED
}

impl Turn {
    /// The turn of a connection that belongs to no service.
    pub(crate) fn alone() -> Self {
        Arc::<Endpoints>::default().turn()
    }

    /// The numbers of `count` endpoints, in the order in which this connection tries them.
    pub(crate) fn endpoints(&self, order: EndpointOrder, count: usize) -> Vec<usize> {
        let mut numbers: Vec<usize> = (0..count).collect();
        self.spread(order, &mut numbers);
        let known = self.endpoints.known();
        // None is less than any time: those that have not failed are first, then the one whose failure is the oldest.
        numbers.sort_by_key(|number| known.failure_of(*number));
        numbers
    }

    /// The addresses to which the name of an endpoint was just resolved, in the order in which this connection tries
    /// them.
    pub(crate) fn addresses(
        &self,
        order: EndpointOrder,
        endpoint: usize,
        mut addresses: Vec<SocketAddr>,
    ) -> Vec<SocketAddr> {
        self.spread(order, &mut addresses);
        let mut known = self.endpoints.known();
        addresses.sort_by_key(|address| known.failure(address));
        known.unresolved.remove(&endpoint);
        known.addresses.insert(endpoint, addresses.clone());
        addresses
    }

    fn spread<T>(&self, order: EndpointOrder, items: &mut [T]) {
        if order == EndpointOrder::Spread && !items.is_empty() {
            let by = self.endpoints.start.0.wrapping_add(self.number) % items.len();
            items.rotate_left(by);
        }
    }

    /// The address refused, did not answer, or lost a connection.
    pub(crate) fn failed(&self, address: SocketAddr) {
        self.endpoints.known().failed.insert(address, Instant::now());
    }

    /// The name of the endpoint could not be resolved.
    pub(crate) fn unresolved(&self, endpoint: usize) {
        self.endpoints.known().unresolved.insert(endpoint, Instant::now());
    }

    /// The address accepted a connection.
    pub(crate) fn works(&self, address: SocketAddr) {
        self.endpoints.known().failed.remove(&address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, last], 5672))
    }

    #[test]
    fn the_connections_of_a_service_begin_at_different_endpoints_and_those_of_other_services_elsewhere() {
        let service = Arc::<Endpoints>::default();
        let firsts: Vec<usize> = (0..3).map(|_| service.turn().endpoints(EndpointOrder::Spread, 3)[0]).collect();
        let mut each = firsts.clone();
        each.sort_unstable();
        assert_eq!(each, [0, 1, 2], "{firsts:?}");
        let others = (0..200).map(|_| Turn::alone().endpoints(EndpointOrder::Spread, 3)[0]);
        let others: std::collections::HashSet<usize> = others.collect();
        assert_eq!(others.len(), 3, "200 services all begin at {others:?}");
        assert_eq!(service.turn().endpoints(EndpointOrder::Listed, 3), [0, 1, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_failed_is_tried_last_until_it_works_or_time_has_passed() {
        let turn = Turn::alone();
        let order = || turn.endpoints(EndpointOrder::Listed, 3);
        for endpoint in 0..3 {
            turn.addresses(EndpointOrder::Listed, endpoint, vec![address(endpoint as u8)]);
        }
        turn.failed(address(0));
        tokio::time::advance(Duration::from_secs(1)).await;
        turn.unresolved(1);
        assert_eq!(order(), [2, 0, 1], "the older failure first");
        turn.works(address(0));
        assert_eq!(order(), [0, 2, 1]);
        tokio::time::advance(REMEMBERED).await;
        assert_eq!(order(), [0, 1, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_has_failed_when_all_its_addresses_have() {
        let turn = Turn::alone();
        let resolve = || turn.addresses(EndpointOrder::Listed, 0, vec![address(1), address(2)]);
        assert_eq!(resolve(), [address(1), address(2)]);
        turn.failed(address(1));
        assert_eq!(turn.endpoints(EndpointOrder::Listed, 2), [0, 1]);
        assert_eq!(resolve(), [address(2), address(1)]);
        turn.failed(address(2));
        assert_eq!(turn.endpoints(EndpointOrder::Listed, 2), [1, 0]);
    }
}
