//! A client that sends bytes as a test writes them.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use crate::service::{Served, TOKEN};

/// A connection to the server. Each read has ten seconds.
pub fn connect(served: &Served) -> TcpStream {
    let socket = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], served.port()))).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket
}

/// Sends a request on a connection of its own and reads until the server closes it. Line breaks become those of HTTP.
pub fn exchange(served: &Served, head: &str, body: &[u8]) -> String {
    rest(send(served, head, body))
}

/// Sends a request on a connection of its own.
pub fn send(served: &Served, head: &str, body: &[u8]) -> TcpStream {
    let mut socket = connect(served);
    // A server that refuses early closes before all is written.
    let _ = socket.write_all(head.replace('\n', "\r\n").as_bytes());
    let _ = socket.write_all(body);
    socket
}

/// What comes until the server closes the connection.
pub fn rest(mut socket: TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

/// GET with the right `Host` and more headers, each ending in a line break.
pub fn get(served: &Served, path: &str, headers: &str) -> String {
    request(served, "GET", path, headers)
}

pub fn request(served: &Served, method: &str, path: &str, headers: &str) -> String {
    let host = served.host();
    exchange(served, &format!("{method} {path} HTTP/1.1\nHost: {host}\nConnection: close\n{headers}\n"), b"")
}

/// GET for another host.
pub fn get_from(served: &Served, host: &str, path: &str) -> String {
    exchange(served, &format!("GET {path} HTTP/1.1\nHost: {host}\nConnection: close\n\n"), b"")
}

/// POST of JSON with the right `Host`, and the headers that are given.
pub fn post(served: &Served, path: &str, headers: &str, body: &str) -> String {
    rest(begin_post(served, path, headers, body))
}

/// [`post`] without its answer.
pub fn begin_post(served: &Served, path: &str, headers: &str, body: &str) -> TcpStream {
    let (host, length) = (served.host(), body.len());
    let head = format!(
        "POST {path} HTTP/1.1\nHost: {host}\nConnection: close\nContent-Type: application/json\n\
         Content-Length: {length}\n{headers}\n"
    );
    send(served, &head, body.as_bytes())
}

/// The headers of an action that is done.
pub fn right(served: &Served) -> String {
    format!("Origin: http://{}\nAuthorization: Bearer {TOKEN}\n", served.host())
}

pub fn code(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default()
}

/// The value of a header, if it is there.
pub fn header<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let head = answer.split("\r\n\r\n").next()?;
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(given, _)| given.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

pub fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

pub fn json(answer: &str) -> serde_json::Value {
    serde_json::from_str(body(answer)).unwrap_or_else(|error| panic!("{error}: {answer}"))
}
