//! State shared by all connections: the engine, and the links that receive its effects.

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

use super::{alarm::Alarm, link::Link};
use crate::{
    engine::{ConnectionKey, Engine, Memory},
    fault::Plan,
};

/// Settings of the protocol layer.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Names and passwords.
    pub(crate) users: Vec<(String, String)>,
    pub(crate) frame_max: u32,
    pub(crate) channel_max: u16,
    /// Heartbeat interval proposed to clients, in seconds.
    pub(crate) heartbeat: u16,
    pub(crate) handshake_timeout: Duration,
    pub(crate) most_connections: usize,
    /// If messages take more bytes than this, publishers are blocked.
    pub(crate) memory_limit: u64,
}

/// The broker goes away for a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outage {
    /// Whether clients are told.
    pub(crate) polite: bool,
    pub(crate) away: Duration,
}

pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) engine: RefCell<Engine>,
    links: RefCell<HashMap<ConnectionKey, Rc<Link>>>,
    /// Every connection that has a socket, also during the handshake.
    pub(crate) sockets: RefCell<Vec<std::rc::Weak<Link>>>,
    epoch: Instant,
    /// When the timer task wakes, in the engine's milliseconds.
    armed: Cell<u64>,
    rearm: Notify,
    pub(crate) faults: Rc<Plan>,
    pub(super) memory: Memory,
    pub(super) alarm: Alarm,
    /// A stop that the broker's thread has to carry out.
    pub(crate) outage: Cell<Option<Outage>>,
    pub(crate) outage_due: Notify,
}

impl Shared {
    pub(crate) fn new(settings: Settings, engine: Engine) -> Self {
        Self {
            settings,
            faults: engine.faults.clone(),
            memory: engine.memory.clone(),
            alarm: Alarm::default(),
            outage: Cell::new(None),
            outage_due: Notify::new(),
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

    /// Called when a connection has ended, in any way.
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

    pub(super) fn link(&self, key: ConnectionKey) -> Option<Rc<Link>> {
        self.links.borrow().get(&key).cloned()
    }

    /// Every connection that has a socket, the oldest first.
    pub(crate) fn all_links(&self) -> Vec<Rc<Link>> {
        self.sockets.borrow().iter().filter_map(std::rc::Weak::upgrade).collect()
    }

    /// Passes the engine's effects to their connections, until there are no more effects and no more faults.
    pub(crate) fn dispatch(&self) {
        self.hand_out();
        while self.carry_out_faults() {
            self.hand_out();
        }
        self.watch_memory();
    }

    fn hand_out(&self) {
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
