//! The addresses of a broker's endpoints, in the order in which they are tried.

use std::{
    collections::{HashSet, VecDeque},
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    time::Duration,
};

use tokio::time::timeout;

use crate::link::endpoint::Endpoint;
use crate::link::socket::race::CandidateSource;

/// How long a name may take to resolve before the next endpoint's addresses are tried first. After those the name is
/// waited for again.
const NAME_DELAY: Duration = Duration::from_secs(1);

/// The resolution of a name to its addresses.
pub(super) type Resolving = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// One address to try: an endpoint, by its index in the broker's list, and an address of it; or the error if the
/// endpoint has no address.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) endpoint: usize,
    pub(super) address: io::Result<SocketAddr>,
}

/// The addresses of all endpoints, one endpoint after the other. `arrange` puts the addresses of one endpoint in order.
pub(super) struct Candidates<F> {
    ready: VecDeque<Candidate>,
    names: VecDeque<(usize, Resolving)>,
    arrange: F,
}

impl<F: Fn(usize, Vec<SocketAddr>) -> Vec<SocketAddr>> Candidates<F> {
    /// The candidates of endpoints whose names `names` resolve, in order, each with the endpoint's index in the
    /// broker's list. A name is not resolved before its turn.
    pub(super) fn new(names: impl IntoIterator<Item = (usize, Resolving)>, arrange: F) -> Self {
        Self { ready: VecDeque::new(), names: names.into_iter().collect(), arrange }
    }
}

impl<F: Fn(usize, Vec<SocketAddr>) -> Vec<SocketAddr>> CandidateSource for Candidates<F> {
    type Candidate = Candidate;

    async fn next(&mut self) -> Option<Candidate> {
        loop {
            if let Some(candidate) = self.ready.pop_front() {
                return Some(candidate);
            }
            let (_, name) = self.names.front_mut()?;
            match timeout(NAME_DELAY, name).await {
                Ok(resolved) => {
                    let (endpoint, _) = self.names.pop_front()?;
                    let none = |why| VecDeque::from([Candidate { endpoint, address: Err(why) }]);
                    self.ready = match resolved.map(interleaved) {
                        Ok(addresses) if addresses.is_empty() => {
                            none(io::Error::new(io::ErrorKind::NotFound, "the name has no address"))
                        }
                        Ok(addresses) => {
                            let addresses = (self.arrange)(endpoint, addresses).into_iter();
                            addresses.map(|address| Candidate { endpoint, address: Ok(address) }).collect()
                        }
                        Err(why) => none(why),
                    };
                }
                Err(_) => self.names.rotate_left(1),
            }
        }
    }
}

/// Resolves the host of an endpoint, within `limit`.
pub(super) fn resolve(endpoint: &Endpoint, limit: Duration) -> Resolving {
    let (host, port) = (endpoint.host.clone(), endpoint.port);
    Box::pin(async move {
        let looking = tokio::net::lookup_host((host.as_str(), port));
        match timeout(limit, looking).await {
            Ok(found) => Ok(found?.collect()),
            Err(_) => {
                Err(io::Error::new(io::ErrorKind::TimedOut, format!("the name was not resolved within {limit:?}")))
            }
        }
    })
}

/// Removes repeated addresses and lets the two families alternate, beginning with the family of the first address. The
/// order within a family stays as it is (RFC 8305, 4).
fn interleaved(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let mut seen = HashSet::new();
    let addresses: Vec<SocketAddr> = addresses.into_iter().filter(|address| seen.insert(*address)).collect();
    let Some(first) = addresses.first().map(SocketAddr::is_ipv6) else { return addresses };
    let (mut these, mut others): (VecDeque<_>, VecDeque<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == first);
    let mut ordered = Vec::with_capacity(these.len() + others.len());
    while let Some(next) = these.pop_front() {
        ordered.push(next);
        std::mem::swap(&mut these, &mut others);
        if these.is_empty() {
            std::mem::swap(&mut these, &mut others);
        }
    }
    ordered
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep};

    use super::*;

    fn addresses(text: &str) -> Vec<SocketAddr> {
        let one = |address: &str| if address.contains(':') { format!("[{address}]:1") } else { format!("{address}:1") };
        text.split_whitespace().map(|address| one(address).parse().unwrap()).collect()
    }

    #[test]
    fn families_take_turns_and_each_address_is_there_once() {
        for (given, ordered) in [
            ("", ""),
            ("::1", "::1"),
            ("::1 ::2 1.1.1.1 1.1.1.2 1.1.1.3", "::1 1.1.1.1 ::2 1.1.1.2 1.1.1.3"),
            ("1.1.1.1 ::1 ::2 ::3", "1.1.1.1 ::1 ::2 ::3"),
            ("1.1.1.1 1.1.1.2 ::1", "1.1.1.1 ::1 1.1.1.2"),
            ("1.1.1.1 1.1.1.1 ::1 1.1.1.1", "1.1.1.1 ::1"),
        ] {
            assert_eq!(interleaved(addresses(given)), addresses(ordered), "{given}");
        }
    }

    fn name(after: Duration, found: &'static str) -> Resolving {
        Box::pin(async move {
            sleep(after).await;
            Ok(addresses(found))
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_takes_long_lets_the_next_endpoint_go_first_and_is_not_forgotten() {
        let begin = Instant::now();
        let slow = Duration::from_secs(3);
        let broken: Resolving = Box::pin(async { Err(io::Error::other("no such name")) });
        let names = [name(slow, "1.1.1.1"), name(Duration::ZERO, "2.2.2.1 2.2.2.2"), name(Duration::ZERO, ""), broken];
        let mut all = Candidates::new(names.into_iter().enumerate(), |_, addresses| addresses);
        let mut seen = Vec::new();
        while let Some(Candidate { endpoint, address }) = all.next().await {
            let what = address.map_or_else(|why| why.to_string(), |address| address.ip().to_string());
            seen.push((begin.elapsed().as_secs(), endpoint, what));
        }
        let wanted = [
            (1, 1, "2.2.2.1"),
            (1, 1, "2.2.2.2"),
            (1, 2, "the name has no address"),
            (1, 3, "no such name"),
            (3, 0, "1.1.1.1"),
        ];
        assert_eq!(seen, wanted.map(|(at, endpoint, what)| (at, endpoint, what.to_owned())));
    }
}
