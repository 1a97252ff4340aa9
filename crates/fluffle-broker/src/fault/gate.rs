//! The gate that the bytes of a connection pass. It is open, and then costs nothing, until a network fault obstructs
//! it.

use std::{
    cell::{Cell, OnceCell, RefCell},
    io,
    rc::Rc,
    time::Duration,
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    net::TcpStream,
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::{Direction, Fault, Hit, Plan};

/// Into how many portions a second the bytes of a slow connection are divided.
const PORTIONS: u64 = 20;

/// How many bytes are discarded at a time.
const SWALLOW: usize = 16 << 10;

/// 30 years: longer than any wait.
const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// An obstacle in the gate, with the fault that put it there.
#[derive(Debug)]
struct Obstacle {
    cause: u64,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    HalfOpen,
    Stalled {
        direction: Direction,
        until: Instant,
    },
    Delayed {
        direction: Direction,
        time: Duration,
    },
    /// `to_broker` and `to_client` are when the next portion may pass.
    Slowed {
        direction: Direction,
        bytes_per_second: u64,
        to_broker: Instant,
        to_client: Instant,
    },
}

/// A fault that waits until so many more bytes have passed.
#[derive(Debug)]
struct Fuse {
    direction: Direction,
    left: u64,
    hit: Hit,
}

/// The gate of one connection, in front of its client's socket.
#[derive(Debug)]
pub(crate) struct Gate {
    plan: Rc<Plan>,
    /// Name and user of the client, once they are known.
    client: OnceCell<(String, String)>,
    /// Whether there is no obstacle. An open gate checks only this.
    open: Cell<bool>,
    closed: Cell<bool>,
    obstacles: RefCell<Vec<Obstacle>>,
    fuses: RefCell<Vec<Fuse>>,
    changed: Notify,
    cut: Notify,
}

impl Gate {
    pub(crate) fn new(plan: Rc<Plan>) -> Self {
        Self {
            plan,
            client: OnceCell::new(),
            open: Cell::new(true),
            closed: Cell::new(false),
            obstacles: RefCell::default(),
            fuses: RefCell::default(),
            changed: Notify::new(),
            cut: Notify::new(),
        }
    }

    pub(crate) fn plan(&self) -> &Rc<Plan> {
        &self.plan
    }

    pub(crate) fn introduce(&self, name: String, user: String) {
        let _ = self.client.set((name, user));
    }

    /// The `connection_name` and the user of the client; empty before they are known.
    pub(crate) fn client(&self) -> (&str, &str) {
        self.client.get().map_or(("", ""), |(name, user)| (name, user))
    }

    /// Applies a network fault, now or after its bytes have passed.
    pub(crate) fn strike(&self, hit: &Hit) {
        if let Some((direction, left @ 1..)) = hit.bytes {
            self.open.set(false);
            self.fuses.borrow_mut().push(Fuse { direction, left, hit: Hit { bytes: None, ..hit.clone() } });
            return;
        }
        if hit.bytes.is_some() {
            self.plan.record(hit, self.client().0);
        }
        let now = Instant::now();
        let kind = match hit.fault {
            Fault::Cut => return self.cut(),
            Fault::HalfOpen => Kind::HalfOpen,
            Fault::Stall { direction, time } => Kind::Stalled { direction, until: now + time.min(NEVER) },
            Fault::Delay { direction, time } => Kind::Delayed { direction, time: time.min(NEVER) },
            Fault::Slow { direction, bytes_per_second } => {
                Kind::Slowed { direction, bytes_per_second, to_broker: now, to_client: now }
            }
            _ => return,
        };
        self.open.set(false);
        let mut obstacles = self.obstacles.borrow_mut();
        // If a rule fires again, it replaces its earlier obstacle.
        obstacles.retain(|obstacle| obstacle.cause != hit.cause.id);
        obstacles.push(Obstacle { cause: hit.cause.id, kind });
        drop(obstacles);
        self.changed.notify_waiters();
    }

    /// Removes the obstacles of one cause, or all. A half-open connection does not recover: it is reset.
    pub(crate) fn heal(&self, id: Option<u64>) {
        let healed = |cause: u64| id.is_none_or(|id| id == cause);
        self.fuses.borrow_mut().retain(|fuse| !healed(fuse.hit.cause.id));
        let mut reset = false;
        self.obstacles.borrow_mut().retain(|obstacle| {
            let goes = healed(obstacle.cause);
            reset |= goes && matches!(obstacle.kind, Kind::HalfOpen);
            !goes
        });
        if reset {
            self.cut();
        }
        self.tidy();
        self.changed.notify_waiters();
    }

    /// Drops the socket at once: the task that serves the connection waits for `cut_off`.
    pub(crate) fn cut(&self) {
        self.closed.set(true);
        self.open.set(false);
        self.cut.notify_one();
    }

    pub(crate) async fn cut_off(&self) {
        if !self.closed.get() {
            self.cut.notified().await;
        }
    }

    pub(crate) fn is_half_open(&self) -> bool {
        !self.open.get() && self.obstacles.borrow().iter().any(|obstacle| matches!(obstacle.kind, Kind::HalfOpen))
    }

    /// Whether the bytes that the client has sent may be handled.
    pub(crate) fn is_open(&self) -> bool {
        self.open.get() || !self.closed.get() && !self.is_half_open() && self.stalled(Direction::ToBroker).is_none()
    }

    /// Waits until they may be handled, or until they no longer matter.
    pub(crate) async fn opened(&self) {
        while !self.open.get() && !self.is_half_open() {
            let until =
                if self.closed.get() { Some(Instant::now() + NEVER) } else { self.stalled(Direction::ToBroker) };
            let Some(until) = until else { return };
            self.until(until).await;
        }
    }

    /// Reads what the client has sent, as soon as it may pass. On a half-open connection, discards everything until the
    /// end.
    pub(crate) async fn read<S>(&self, socket: &mut S, buffer: &mut BytesMut) -> io::Result<usize>
    where
        S: AsyncRead + AsRef<TcpStream> + Unpin,
    {
        if self.open.get() {
            let count = socket.read_buf(buffer).await?;
            // The gate may have been closed while these bytes arrived.
            self.pass(Direction::ToBroker).await;
            if !self.is_half_open() {
                self.passed(Direction::ToBroker, count);
                return Ok(count);
            }
        }
        let socket = socket.as_ref();
        loop {
            // `readable` may be outdated, and a delay counts from the arrival of the bytes, so wait for a byte.
            socket.peek(&mut [0]).await?;
            let portion = self.pass(Direction::ToBroker).await;
            if self.is_half_open() {
                self.swallow(socket).await;
                return Ok(0);
            }
            match socket.try_read_buf(&mut buffer.limit(portion)) {
                Ok(count) => {
                    self.passed(Direction::ToBroker, count);
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes a part of a chunk to the client, as soon as it may pass.
    pub(crate) async fn write(&self, socket: &TcpStream, chunk: &mut Bytes) -> io::Result<usize> {
        loop {
            socket.writable().await?;
            let portion = self.pass(Direction::ToClient).await.min(chunk.len());
            match socket.try_write(chunk.get(..portion).unwrap_or_default()) {
                Ok(count) => {
                    chunk.advance(count);
                    self.passed(Direction::ToClient, count);
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Keeps a half-open connection after the broker has given it up, until the client gives it up, too.
    pub(crate) async fn outlive(&self, socket: &TcpStream) {
        if self.is_half_open() {
            tokio::select! {
                () = self.cut_off() => {}
                () = self.swallow(socket) => {}
            }
        }
    }

    /// Waits until bytes may pass, and returns how many.
    pub(crate) async fn pass(&self, direction: Direction) -> usize {
        if self.open.get() {
            return usize::MAX;
        }
        let arrived = Instant::now();
        loop {
            match self.obstructed(direction, arrived) {
                Some(until) if until > Instant::now() => self.until(until).await,
                _ => return self.portion(direction),
            }
        }
    }

    /// Reads and discards until the client gives up, too.
    async fn swallow(&self, socket: &TcpStream) {
        let mut forgotten = [0; SWALLOW];
        while socket.readable().await.is_ok() {
            match socket.try_read(&mut forgotten) {
                Ok(1..) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(0) | Err(_) => break,
            }
        }
        self.cut();
    }

    /// Sleeps until `until`, or until the obstacles change.
    async fn until(&self, until: Instant) {
        tokio::select! {
            () = sleep_until(until) => self.tidy(),
            () = self.changed.notified() => {}
        }
    }

    fn stalled(&self, direction: Direction) -> Option<Instant> {
        let now = Instant::now();
        let obstacles = self.obstacles.borrow();
        let until = obstacles.iter().filter_map(|obstacle| match obstacle.kind {
            Kind::Stalled { direction: stalled, until } if stalled.includes(direction) => Some(until),
            _ => None,
        });
        until.max().filter(|until| *until > now)
    }

    /// When bytes that arrived at that time may pass. `None` means now.
    fn obstructed(&self, direction: Direction, arrived: Instant) -> Option<Instant> {
        if self.closed.get() {
            return Some(Instant::now() + NEVER);
        }
        let obstacles = self.obstacles.borrow();
        let until = obstacles.iter().filter_map(|obstacle| match obstacle.kind {
            // Incoming bytes are discarded, not held back.
            Kind::HalfOpen => (direction == Direction::ToClient).then(|| Instant::now() + NEVER),
            Kind::Stalled { direction: stalled, until } => stalled.includes(direction).then_some(until),
            Kind::Delayed { direction: delayed, time } => delayed.includes(direction).then_some(arrived + time),
            Kind::Slowed { direction: slowed, to_broker, to_client, .. } => {
                let next = if direction == Direction::ToBroker { to_broker } else { to_client };
                slowed.includes(direction).then_some(next)
            }
        });
        until.max()
    }

    fn portion(&self, direction: Direction) -> usize {
        let obstacles = self.obstacles.borrow();
        let slowed = obstacles.iter().filter_map(|obstacle| match obstacle.kind {
            Kind::Slowed { direction: slowed, bytes_per_second, .. } if slowed.includes(direction) => {
                Some((bytes_per_second / PORTIONS).max(1))
            }
            _ => None,
        });
        let fuses = self.fuses.borrow();
        let left = fuses.iter().filter(|fuse| fuse.direction.includes(direction)).map(|fuse| fuse.left);
        slowed.chain(left).min().map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX))
    }

    fn passed(&self, direction: Direction, count: usize) {
        if self.open.get() {
            return;
        }
        let (now, count) = (Instant::now(), count as u64);
        for obstacle in self.obstacles.borrow_mut().iter_mut() {
            if let Kind::Slowed { bytes_per_second, to_broker, to_client, .. } = &mut obstacle.kind {
                let next = if direction == Direction::ToBroker { to_broker } else { to_client };
                *next = now.max(*next) + Duration::from_secs_f64(count as f64 / *bytes_per_second as f64);
            }
        }
        let mut burnt = Vec::new();
        self.fuses.borrow_mut().retain_mut(|fuse| {
            if fuse.direction.includes(direction) {
                fuse.left = fuse.left.saturating_sub(count);
            }
            if fuse.left == 0 {
                burnt.push(fuse.hit.clone());
            }
            fuse.left > 0
        });
        for hit in burnt {
            self.plan.record(&hit, self.client().0);
            self.strike(&hit);
        }
        self.tidy();
    }

    /// Removes stalls that are over. Without obstacles the gate is open.
    fn tidy(&self) {
        let now = Instant::now();
        let mut obstacles = self.obstacles.borrow_mut();
        obstacles.retain(|obstacle| !matches!(obstacle.kind, Kind::Stalled { until, .. } if until <= now));
        self.open.set(obstacles.is_empty() && self.fuses.borrow().is_empty() && !self.closed.get());
    }
}
