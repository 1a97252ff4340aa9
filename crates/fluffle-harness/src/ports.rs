//! Free loopback ports.

use std::{
    fs,
    hash::{BuildHasher, Hasher, RandomState},
    net::{Ipv4Addr, TcpListener},
};

use crate::HarnessError;

const LOWEST: u16 = 20_000;
const ATTEMPTS: u32 = 200;

/// Finds a TCP port at 127.0.0.1 on which nobody listens.
///
/// The port is below the range from which the kernel picks the local ports of outgoing connections. If it were in that
/// range, a client that keeps trying to reach a stopped broker could be given the broker's port as its own local port.
/// It would then connect to itself and keep the broker from starting again.
pub(crate) fn free_port() -> Result<u16, HarnessError> {
    let end = first_ephemeral_port().max(LOWEST + 1_000);
    let span = u64::from(end - LOWEST);
    (0..ATTEMPTS)
        .filter_map(|_| u16::try_from(u64::from(LOWEST) + random() % span).ok())
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .ok_or(HarnessError::NoFreePort { from: LOWEST, to: end })
}

fn first_ephemeral_port() -> u16 {
    fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|range| range.split_whitespace().next()?.parse().ok())
        .unwrap_or(32_768)
}

/// A random number from std's per-process hash seeds, so that several processes try different ports.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
