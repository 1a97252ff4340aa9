//! Names in an epmd: where a node looks for its peers.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use crate::HarnessError;

const LIMIT: Duration = Duration::from_secs(5);

/// `ALIVE2_REQ`, and the two forms of its answer
/// (<https://www.erlang.org/doc/apps/erts/erl_dist_protocol.html#register-a-node-in-epmd>).
const REQUEST: u8 = 120;
const ANSWERS: [u8; 2] = [118, 121];

/// A normal node that speaks versions 5 and 6 of the distribution over TCP.
const NORMAL_NODE: [u8; 6] = [77, 0, 0, 6, 0, 5];

/// Registers `node`, e.g. `rabbit2@localhost`, at this port in the epmd. The name is valid as long as the returned
/// connection is open.
pub(crate) fn register(epmd: u16, node: &str, port: u16) -> Result<TcpStream, HarnessError> {
    let name = node.split('@').next().unwrap_or(node);
    let failed = |error| HarnessError::io(format!("register {node} in epmd"))(error);
    let mut stream =
        TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, epmd)), LIMIT).map_err(failed)?;
    stream.set_read_timeout(Some(LIMIT)).map_err(failed)?;
    stream.write_all(&request(name, port)).map_err(failed)?;
    let mut answer = [0; 2];
    stream.read_exact(&mut answer).map_err(failed)?;
    if ANSWERS.contains(&answer[0]) && answer[1] == 0 {
        return Ok(stream);
    }
    Err(HarnessError::Refused { operation: "the registration of a node in epmd", reason: format!("{answer:?}") })
}

fn request(name: &str, port: u16) -> Vec<u8> {
    let mut body = vec![REQUEST];
    body.extend(port.to_be_bytes());
    body.extend(NORMAL_NODE);
    body.extend(length(name.len()));
    body.extend(name.as_bytes());
    // No extra field.
    body.extend([0, 0]);
    [&length(body.len())[..], &body].concat()
}

fn length(bytes: usize) -> [u8; 2] {
    // A node's name is shorter than 255 bytes.
    u16::try_from(bytes).unwrap_or(u16::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::request;

    #[test]
    fn a_request_is_as_the_protocol_says() {
        assert_eq!(request("ab", 0x1234), b"\0\x0f\x78\x12\x34\x4d\0\0\x06\0\x05\0\x02ab\0\0");
    }
}
