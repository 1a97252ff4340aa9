//! Clients that are slow, or too many, and what they cost: nothing.

use std::{
    fs,
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use fluffle_telemetry::status::picture::Picture;
use socket2::{Domain, Socket, Type};

use crate::{
    client::{code, connect, exchange, get, header, rest, right, send},
    security::PAUSE,
    service::{Served, status, until, with_actions},
};

/// A reader of events, after the head of the answer.
fn follow(served: &Served) -> BufReader<TcpStream> {
    let mut reader = BufReader::new(connect(served));
    let head = format!("GET /events HTTP/1.1\r\nHost: {}\r\n\r\n", served.host());
    reader.get_mut().write_all(head.as_bytes()).unwrap();
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert_eq!(code(&line), 200, "{line}");
    while line != "\r\n" {
        line.clear();
        reader.read_line(&mut line).unwrap();
    }
    reader
}

/// The next picture of a stream: a chunk with its size before it and a line break after it.
fn next(reader: &mut BufReader<TcpStream>) -> serde_json::Value {
    let mut lines = [String::new(), String::new(), String::new()];
    for line in &mut lines {
        assert_ne!(reader.read_line(line).unwrap(), 0, "the stream ended");
    }
    serde_json::from_str(&lines[1]).unwrap()
}

#[test]
fn events_start_with_the_latest_picture_and_go_on() {
    let served = Served::start(status());
    let latest = served.telemetry.picture().unwrap().at;
    let mut reader = follow(&served);
    let first = next(&mut reader)["at"].as_u64().unwrap();
    assert!(first >= latest);
    let second = next(&mut reader)["at"].as_u64().unwrap();
    assert!(second > first && second - first < 5_000, "{first} {second}");
}

#[test]
fn readers_above_the_limit_are_refused_and_a_place_is_free_after_one_leaves() {
    let served = Served::start(status());
    let mut readers: Vec<_> = (0..32).map(|_| follow(&served)).collect();
    for _ in 0..8 {
        let head = format!("GET /events HTTP/1.1\nHost: {}\nConnection: close\n\n", served.host());
        let mut refused = send(&served, &head, b"");
        let mut first = [0; 12];
        refused.read_exact(&mut first).unwrap();
        // A reader who is not refused gets pictures without an end.
        assert_eq!(&first, b"HTTP/1.1 503");
        let refused = rest(refused);
        assert_eq!(header(&refused, "retry-after"), Some("10"), "{refused}");
        assert!(refused.contains("32 readers"), "{refused}");
    }
    drop(readers.pop());
    let head = format!("HEAD /events HTTP/1.1\nHost: {}\nConnection: close\n\n", served.host());
    // The server sees that a reader left at the latest when it writes to it.
    until("the place of a reader that left is free", || code(&exchange(&served, &head, b"")) == 200);
}

/// Fills the queue's ring of failed messages with error texts as long as the page keeps them.
fn grow(served: &Served) {
    let long = "€".repeat(500);
    for number in 0..40 {
        served.publish(&[&format!("{number} {long}")]);
    }
}

#[test]
fn a_reader_that_never_reads_is_cut_off_and_costs_neither_memory_nor_the_others() {
    let served = Served::start(status());
    grow(&served);
    let size = |picture: &Picture| serde_json::to_string(picture).unwrap().len();
    served.picture("a large picture", |picture| size(picture) > 20_000);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&served.server.as_ref().unwrap().address().into()).unwrap();
    let mut idle = TcpStream::from(socket);
    idle.write_all(format!("GET /events HTTP/1.1\r\nHost: {}\r\n\r\n", served.host()).as_bytes()).unwrap();
    let mut reader = follow(&served);
    next(&mut reader);
    let (before, begun) = (resident(), Instant::now());
    // The socket's buffers are full after some seconds, and then the reader has five.
    let mut last = 0;
    while begun.elapsed() < Duration::from_secs(15) {
        let at = next(&mut reader)["at"].as_u64().unwrap();
        assert!(last == 0 || at - last < 3_000, "a reader that keeps up misses nothing");
        last = at;
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 24 * 1024 * 1024, "{grown} bytes more are resident");
    // One that is not cut off would be sent pictures for ever: what was buffered, and then the end, comes.
    idle.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let (mut taken, deadline) = (0, Instant::now() + Duration::from_secs(5));
    let mut buffer = [0; 65536];
    loop {
        match idle.read(&mut buffer) {
            Ok(0) => break,
            Ok(bytes) => taken += bytes,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => panic!("the reader is still connected after {taken} bytes: {error}"),
        }
        assert!(Instant::now() < deadline, "the reader still gets pictures");
    }
    println!("{taken} bytes waited for the reader that did not read; {grown} bytes more are resident");
    assert!(taken < 1024 * 1024, "{taken} bytes waited for the one that did not read");
}

/// Bytes of memory that this process has resident.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

/// Sends `piece` each 200 ms until the server closes, and gives how long that took.
fn trickle(mut socket: TcpStream, piece: &[u8]) -> Duration {
    let begun = Instant::now();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut buffer = [0; 1024];
    while begun.elapsed() < Duration::from_secs(15) {
        if socket.write_all(piece).is_err() {
            break;
        }
        match socket.read(&mut buffer) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
    }
    begun.elapsed()
}

#[test]
fn a_head_that_comes_slowly_is_cut_off() {
    let served = Served::start(status());
    let mut socket = connect(&served);
    socket.write_all(b"GET /live HTTP/1.1\r\n").unwrap();
    let lasted = trickle(socket, b"X: y\r\n");
    assert!(lasted < Duration::from_secs(10), "{lasted:?}");
}

#[test]
fn a_body_that_comes_slowly_is_cut_off() {
    let served = Served::start(with_actions());
    let mut socket = connect(&served);
    let head = format!(
        "POST /actions/pause HTTP/1.1\nHost: {}\nContent-Type: application/json\nContent-Length: 1000\n{}\n{PAUSE}",
        served.host(),
        right(&served)
    );
    socket.write_all(head.replace('\n', "\r\n").as_bytes()).unwrap();
    let lasted = trickle(socket, b" ");
    assert!(lasted < Duration::from_secs(10), "{lasted:?}");
    assert!(!served.is_paused());
}

#[test]
fn a_connection_that_idles_is_closed() {
    let served = Served::start(status());
    let mut socket = connect(&served);
    socket.write_all(format!("GET /live HTTP/1.1\r\nHost: {}\r\n\r\n", served.host()).as_bytes()).unwrap();
    let mut all = String::new();
    socket.read_to_string(&mut all).unwrap();
    assert_eq!(code(&all), 200, "{all}");
}

#[test]
fn a_head_above_the_limits_is_refused() {
    let served = Served::start(status());
    let large = get(&served, "/live", &format!("X: {}\n", "y".repeat(32 * 1024)));
    assert_ne!(code(&large), 200, "{large}");
    let many = get(&served, "/live", &"X: y\n".repeat(100));
    assert_eq!(code(&many), 431, "{many}");
}

#[test]
fn connections_above_the_limit_are_refused() {
    let served = Served::start(status());
    let ask = format!("GET /live HTTP/1.1\r\nHost: {}\r\n\r\n", served.host());
    let mut held = Vec::new();
    for _ in 0..128 {
        let mut socket = connect(&served);
        socket.write_all(ask.as_bytes()).unwrap();
        let mut first = [0; 12];
        socket.read_exact(&mut first).unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        held.push(socket);
    }
    let mut all = String::new();
    // The server does not read the request, so it sends nothing after its answer.
    connect(&served).read_to_string(&mut all).unwrap();
    assert!(all.starts_with("HTTP/1.1 503") && all.ends_with("try again later\n"), "{all}");
    let length = header(&all, "content-length").unwrap().parse::<usize>().unwrap();
    assert_eq!(all.split_once("\r\n\r\n").unwrap().1.len(), length);
    held.clear();
    thread::sleep(Duration::from_millis(100));
    until("there is room again", || code(&get(&served, "/live", "")) == 200);
}
