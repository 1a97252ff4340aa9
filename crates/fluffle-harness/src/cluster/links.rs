//! The network between the nodes: a proxy for each of them and each of its peers.
//!
//! Each node has an epmd of its own, which gives the port of a proxy as the port of each peer:
//!
//! ```text
//! rabbit1 ── asks its epmd for rabbit2 ── proxy 1→2 ── rabbit2's distribution port
//! rabbit2 ── asks its epmd for rabbit1 ── proxy 2→1 ── rabbit1's distribution port
//! ```

use std::net::TcpStream;

use super::{epmd, proxy::TcpProxy};
use crate::{HarnessError, RabbitMq};

/// One way between two nodes, by their numbers.
#[derive(Debug)]
struct Link {
    from: usize,
    to: usize,
    proxy: TcpProxy,
    _name: TcpStream,
}

/// All ways between the nodes.
#[derive(Debug)]
pub(crate) struct Links(Vec<Link>);

impl Links {
    /// Connects nodes whose epmds run. `ports` are their distribution ports.
    pub(crate) fn between(nodes: &[RabbitMq], ports: &[u16]) -> Result<Self, HarnessError> {
        let mut links = Vec::new();
        for (from, node) in nodes.iter().enumerate() {
            for (to, (peer, port)) in nodes.iter().zip(ports).enumerate().filter(|(to, _)| *to != from) {
                let proxy = TcpProxy::start(*port)?;
                let name = epmd::register(node.layout.epmd_port, &peer.layout.name, proxy.port())?;
                links.push(Link { from, to, proxy, _name: name });
            }
        }
        Ok(Self(links))
    }

    /// Holds back what goes between nodes of different groups, and nothing else.
    pub(crate) fn part(&self, groups: &[&[usize]]) {
        for Link { from, to, proxy, .. } in &self.0 {
            if groups.iter().any(|group| group.contains(from) && group.contains(to)) {
                proxy.open();
            } else {
                proxy.silence();
            }
        }
    }

    pub(crate) fn heal(&self) {
        self.0.iter().for_each(|link| link.proxy.open());
    }
}
