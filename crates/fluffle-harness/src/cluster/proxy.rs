//! A TCP proxy whose traffic can be held back or cut.

use std::{
    collections::HashMap,
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{HarnessError, ports::free_port};

/// How long the server behind may take to accept a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);

/// The pause after a failed accept, which happens when the process has too many open files.
const PAUSE: Duration = Duration::from_millis(20);

/// How many bytes are read at a time, and held back of a silent connection and direction.
const HELD: usize = 16 << 10;

/// A TCP proxy on loopback in front of a server. It passes bytes on until it is told otherwise.
///
/// It always accepts. If the server behind refuses, the accepted connection is closed at once. It spends two threads on
/// a connection. Dropping it closes all connections.
#[derive(Debug)]
pub struct TcpProxy {
    port: u16,
    gate: Arc<Gate>,
    acceptor: Option<JoinHandle<()>>,
}

/// What becomes of bytes now.
#[derive(Debug)]
struct Gate {
    upstream: u16,
    flow: Mutex<Flow>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Flow {
    silent: bool,
    ended: bool,
    /// The two sockets of each connection, by its number.
    connections: HashMap<u64, [TcpStream; 2]>,
    next: u64,
}

impl TcpProxy {
    /// Starts a proxy in front of the server on this port of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// If no port or thread is available.
    pub fn start(upstream: u16) -> Result<Self, HarnessError> {
        let port = free_port()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(HarnessError::io("listen as a proxy"))?;
        let gate = Arc::new(Gate { upstream, flow: Mutex::default(), changed: Condvar::new() });
        let accepting = Arc::clone(&gate);
        let acceptor = thread::Builder::new()
            .name("harness-proxy".to_owned())
            .spawn(move || accepting.accept(&listener))
            .map_err(HarnessError::io("start the proxy's thread"))?;
        Ok(Self { port, gate, acceptor: Some(acceptor) })
    }

    /// The port on which it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Holds back all bytes from now on, also the end of a connection, as a network that drops packets does. Neither
    /// side learns of it. New connections are accepted, and get no answer.
    pub fn silence(&self) {
        self.gate.lock().silent = true;
    }

    /// Ends [`silence`](Self::silence): what was held back arrives.
    pub fn open(&self) {
        self.gate.lock().silent = false;
        self.gate.changed.notify_all();
    }

    /// Closes all current connections on both sides, and returns how many there were. New ones are accepted.
    pub fn cut(&self) -> usize {
        let connections = std::mem::take(&mut self.gate.lock().connections);
        connections.values().flatten().for_each(close);
        connections.len()
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        self.gate.lock().ended = true;
        self.gate.changed.notify_all();
        self.cut();
        // Wakes the acceptor.
        let _ = TcpStream::connect_timeout(&address(self.port), CONNECT_LIMIT);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, Flow> {
        self.flow.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until bytes may pass. Returns false when the proxy has ended.
    fn pass(&self) -> bool {
        let waiting = self.changed.wait_while(self.lock(), |flow| flow.silent && !flow.ended);
        !waiting.unwrap_or_else(PoisonError::into_inner).ended
    }

    fn accept(self: Arc<Self>, listener: &TcpListener) {
        loop {
            let accepted = listener.accept();
            if self.lock().ended {
                return;
            }
            let Ok((client, _)) = accepted else {
                thread::sleep(PAUSE);
                continue;
            };
            let gate = Arc::clone(&self);
            // Without a thread, the connection is closed.
            let _ = thread::Builder::new().name("harness-pipe".to_owned()).spawn(move || gate.serve(client));
        }
    }

    fn serve(&self, client: TcpStream) {
        if !self.pass() {
            return;
        }
        let Ok(server) = TcpStream::connect_timeout(&address(self.upstream), CONNECT_LIMIT) else { return };
        let Ok(number) = self.register(&client, &server) else { return };
        thread::scope(|scope| {
            scope.spawn(|| self.carry(&client, &server));
            self.carry(&server, &client);
        });
        self.lock().connections.remove(&number);
    }

    /// Remembers a connection, so that it can be cut.
    fn register(&self, client: &TcpStream, server: &TcpStream) -> io::Result<u64> {
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let sockets = [client.try_clone()?, server.try_clone()?];
        let mut flow = self.lock();
        if flow.ended {
            return Err(io::ErrorKind::NotConnected.into());
        }
        flow.next += 1;
        let number = flow.next;
        flow.connections.insert(number, sockets);
        Ok(number)
    }

    /// Moves bytes in one direction until it ends.
    fn carry(&self, mut from: &TcpStream, mut to: &TcpStream) {
        let mut buffer = vec![0; HELD];
        loop {
            let read = from.read(&mut buffer);
            if !self.pass() {
                break;
            }
            match read {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) => {
                    let _ = to.shutdown(Shutdown::Write);
                    return;
                }
                Ok(bytes) if to.write_all(&buffer[..bytes]).is_ok() => {}
                _ => break,
            }
        }
        close(from);
        close(to);
    }
}

fn address(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn close(socket: &TcpStream) {
    // An error means that it is closed already.
    let _ = socket.shutdown(Shutdown::Both);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A proxy in front of a server that sends back all it gets.
    fn echo() -> TcpProxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let proxy = TcpProxy::start(listener.local_addr().unwrap().port()).unwrap();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || io::copy(&mut &stream, &mut &stream));
            }
        });
        proxy
    }

    fn connect(proxy: &TcpProxy) -> TcpStream {
        let stream = TcpStream::connect(address(proxy.port())).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    }

    fn asked(mut stream: &TcpStream, text: &[u8]) -> Vec<u8> {
        stream.write_all(text).unwrap();
        let mut answer = vec![0; text.len()];
        stream.read_exact(&mut answer).unwrap();
        answer
    }

    #[test]
    fn a_silent_proxy_delivers_later_what_was_sent_meanwhile_and_to_new_connections_too() {
        let proxy = echo();
        let mut old = connect(&proxy);
        assert_eq!(asked(&old, b"hop"), b"hop");
        proxy.silence();
        let mut new = connect(&proxy);
        for stream in [&mut old, &mut new] {
            stream.write_all(b"carrot").unwrap();
            stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            assert!(stream.read(&mut [0]).is_err(), "nothing may arrive");
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        }
        proxy.open();
        for stream in [&mut old, &mut new] {
            let mut answer = [0; 6];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"carrot");
        }
    }

    #[test]
    fn a_cut_ends_the_connections_there_are_and_no_later_one() {
        let proxy = echo();
        let mut old = connect(&proxy);
        assert_eq!(asked(&old, b"hop"), b"hop");
        assert_eq!(proxy.cut(), 1);
        assert!(matches!(old.read(&mut [0]), Ok(0) | Err(_)));
        assert_eq!(asked(&connect(&proxy), b"hop"), b"hop");
    }

    #[test]
    fn a_dropped_silent_proxy_ends_its_connections_and_threads() {
        let proxy = echo();
        let mut old = connect(&proxy);
        assert_eq!(asked(&old, b"hop"), b"hop");
        proxy.silence();
        old.write_all(b"carrot").unwrap();
        drop(proxy);
        assert!(matches!(old.read(&mut [0; 8]), Ok(0) | Err(_)));
    }
}
