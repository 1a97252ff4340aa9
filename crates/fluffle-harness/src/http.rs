//! HTTP requests to a server on loopback, by hand: an HTTP client would be the largest dependency of this crate.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use crate::HarnessError;

/// Limit of the connect, and of each read and write.
const LIMIT: Duration = Duration::from_secs(10);

/// Sends a request and returns the text of its answer. Version 1.0 keeps the server from answering in chunks, and lets
/// it close the connection at the end.
///
/// # Errors
/// If the server cannot be reached, or answers with another status than 2xx.
pub(crate) fn request(method: &str, port: u16, path: &str, body: &str) -> Result<String, HarnessError> {
    let url = format!("http://127.0.0.1:{port}{path}");
    let io = |error| HarnessError::io(format!("{method} {url}"))(error);
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = sent(port, &format!("{head}{body}")).map_err(io)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(io)?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    match answer.split_once("\r\n\r\n") {
        Some((_, text)) if is_success(&answer) => Ok(text.to_owned()),
        _ => Err(HarnessError::BadAnswer { request: format!("{method} {url}"), answer }),
    }
}

/// Whether the server answers a request for this path with success. In version 1.1, because chromedriver answers no
/// other one; it also keeps the connection open, so only the first line is read.
pub(crate) fn answers(port: u16, path: &str) -> bool {
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n");
    let mut line = String::new();
    sent(port, &request).is_ok_and(|stream| BufReader::new(stream).read_line(&mut line).is_ok() && is_success(&line))
}

fn sent(port: u16, request: &str) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    stream.write_all(request.as_bytes())?;
    Ok(stream)
}

fn is_success(answer: &str) -> bool {
    answer.split(' ').nth(1).unwrap_or_default().starts_with('2')
}

/// Text in the form in which it may stand in a URL's query, or in a form's body.
pub(crate) fn escaped(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn an_escaped_text_has_no_byte_with_a_meaning() {
        assert_eq!(escaped("sum(x{a=\"b c\"}) & ä+1"), "sum%28x%7Ba%3D%22b%20c%22%7D%29%20%26%20%C3%A4%2B1");
    }
}
