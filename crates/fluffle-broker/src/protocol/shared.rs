//! What all connections share: the engine, and the links that its effects go to.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::link::Link;
use crate::engine::{ConnectionKey, Engine};

/// What the protocol layer can be told.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Names and passwords.
    pub(crate) users: Vec<(String, String)>,
    pub(crate) frame_max: u32,
    pub(crate) channel_max: u16,
    /// Seconds proposed to clients.
    pub(crate) heartbeat: u16,
    pub(crate) handshake_timeout: Duration,
    pub(crate) most_connections: usize,
}

pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) engine: RefCell<Engine>,
    links: RefCell<HashMap<ConnectionKey, Rc<Link>>>,
    /// Every connection that has a socket, the handshake included.
    pub(crate) sockets: RefCell<Vec<std::rc::Weak<Link>>>,
    epoch: Instant,
    /// When the timekeeper wakes, in the engine's milliseconds.
    armed: Cell<u64>,
    rearm: Notify,
}

impl Shared {
    pub(crate) fn new(settings: Settings, engine: Engine) -> Self {
        Self {
            settings,
            engine: RefCell::new(engine),
            links: RefCell::default(),
            sockets: RefCell::default(),
            epoch: Instant::now(),
            armed: Cell::new(u64::MAX),
            rearm: Notify::new(),
        }
    }

    pub(crate) fn enter(&self, key: ConnectionKey, link: Rc<Link>) {
        self.links.borrow_mut().insert(key, link);
    }

    /// A connection has ended, in whatever way.
    pub(crate) fn leave(&self, key: ConnectionKey) {
        self.links.borrow_mut().remove(&key);
        self.refresh_clock();
        self.engine.borrow_mut().close_connection(key);
        self.dispatch();
    }

    pub(crate) fn refresh_clock(&self) {
        let now = u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.engine.borrow_mut().set_now(now);
    }

    /// Hands the engine's effects to the connections they are for, until there are no more.
    pub(crate) fn dispatch(&self) {
        loop {
            let outbox = self.engine.borrow_mut().take_outbox();
            if outbox.is_empty() {
                break;
            }
            let links = self.links.borrow();
            let mut touched: Vec<ConnectionKey> = Vec::new();
            for outgoing in &outbox {
                if let Some(link) = links.get(&outgoing.connection) {
                    link.apply(outgoing.channel, &outgoing.effect);
                    if touched.last() != Some(&outgoing.connection) && !touched.contains(&outgoing.connection) {
                        touched.push(outgoing.connection);
                    }
                }
            }
            let mut engine = self.engine.borrow_mut();
            for key in touched {
                if let Some(link) = links.get(&key) {
                    engine.set_backlog(key, link.output.borrow().len());
                }
            }
        }
        if self.engine.borrow().next_timer().is_some_and(|next| next < self.armed.get()) {
            self.rearm.notify_one();
        }
    }
}

/// Drives the engine's timers.
pub(crate) async fn keep_time(shared: Rc<Shared>) {
    loop {
        let next = shared.engine.borrow().next_timer();
        shared.armed.set(next.unwrap_or(u64::MAX));
        match next {
            None => shared.rearm.notified().await,
            Some(at) => tokio::select! {
                () = sleep_until(shared.epoch + Duration::from_millis(at)) => {
                    shared.refresh_clock();
                    shared.engine.borrow_mut().tick();
                    shared.dispatch();
                }
                () = shared.rearm.notified() => {}
            },
        }
    }
}
