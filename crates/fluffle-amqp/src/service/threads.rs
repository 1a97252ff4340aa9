//! The threads of a service, which belong to actix systems of its own.
//!
//! An actix arbiter belongs to the system of the thread that makes it, and ends when that system is stopped. The
//! service does not control when the application's system is stopped: actix-web's server stops it 300 ms after SIGTERM.
//! So a service has two systems of its own, and nothing outside the service ends their threads before
//! [`stop`](ServiceThreads::stop):
//!
//! - `io`, one thread: connections, channels, publishers, consumers and the supervisors; handlers that ask for it
//!   ([`Consume::on_io`](crate::Consume::on_io)).
//! - `work`: the application's own actors on its first thread, handlers on arbiters of their own. A handler that stops
//!   [`System::current`] stops only this system. Then the service ends, and `io` still runs and closes the connections.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, PoisonError, Weak, mpsc},
    thread,
    time::Duration,
};

use actix_rt::{Arbiter, ArbiterHandle, System};

use crate::{
    consume::handler::on_io::CurrentStep,
    service::{io_watch::IoWatch, probe::Probe},
};

/// The two actix systems that run a service. Dropping this value stops neither; call [`stop`](Self::stop).
pub(crate) struct ServiceThreads {
    io: System,
    work: System,
    /// Measure how late two threads are: `io`, and the thread of the application's own actors.
    probes: [Probe; 2],
    /// Watches handlers on `io`, once there are some.
    io_watch: Mutex<Option<IoWatch>>,
    /// The threads that consumers share, by their names, for as long as one of these consumers is there.
    named: Mutex<HashMap<String, Weak<HandlerThreads>>>,
}

impl ServiceThreads {
    /// Starts both systems.
    pub(crate) fn start() -> io::Result<Self> {
        let io = system("fluffle-io")?;
        match system("fluffle-work") {
            Ok(work) => {
                let probes = [Probe::new(io.arbiter().clone()), Probe::new(work.arbiter().clone())];
                Ok(Self { io, work, probes, io_watch: Mutex::default(), named: Mutex::default() })
            }
            Err(error) => {
                io.stop();
                Err(error)
            }
        }
    }

    /// The thread for connections, channels, publishers, consumers and supervisors.
    pub(crate) fn io(&self) -> &ArbiterHandle {
        self.io.arbiter()
    }

    /// The thread for the application's own actors.
    pub(crate) fn application(&self) -> &ArbiterHandle {
        self.work.arbiter()
    }

    /// How late `io` and the thread of the application's own actors are, with their names.
    pub(crate) fn lags(&self) -> [(&'static str, Duration); 2] {
        let [io, application] = &self.probes;
        [("io", io.lag()), ("application", application.lag())]
    }

    /// The step of a handler that runs on `io`. From the first call on, a thread names a handler that blocks `io`.
    pub(crate) fn step_on_io(&self) -> io::Result<Arc<CurrentStep>> {
        let mut watch = self.io_watch.lock().unwrap_or_else(PoisonError::into_inner);
        let watch = match &mut *watch {
            Some(watch) => watch,
            none => none.insert(IoWatch::start()?),
        };
        Ok(Arc::clone(&watch.current))
    }

    /// The consumer whose handler runs on `io` at this moment, if there is one.
    pub(crate) fn consumer_on_io(&self) -> Option<Arc<str>> {
        let watch = self.io_watch.lock().unwrap_or_else(PoisonError::into_inner);
        watch.as_ref()?.current.get().map(|(consumer, _)| consumer)
    }

    /// Starts `count` new threads for one consumer's handlers.
    pub(crate) fn handlers(&self, count: usize) -> io::Result<Arc<HandlerThreads>> {
        let work = self.work.clone();
        // An arbiter belongs to the system of the thread that makes it, so that thread must belong to `work`. A new
        // thread makes the arbiters, because an actor may block the thread of the application's actors.
        let making = thread::Builder::new().name("fluffle-threads".to_owned()).spawn(move || {
            System::set_current(work);
            let mut threads = HandlerThreads(Vec::with_capacity(count));
            for _ in 0..count {
                threads.0.push(HandlerThread::new(Arbiter::try_new()?.handle()));
            }
            Ok(Arc::new(threads))
        })?;
        making.join().unwrap_or_else(|_| Err(io::Error::other("making an arbiter panicked")))
    }

    /// The thread of this name for handlers of several consumers. Starts it, if none of them is there.
    pub(crate) fn named(&self, name: &str) -> io::Result<Arc<HandlerThreads>> {
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(threads) = named.get(name).and_then(Weak::upgrade)
            && threads.are_running()
        {
            return Ok(threads);
        }
        let threads = self.handlers(1)?;
        named.retain(|_, threads| threads.strong_count() > 0);
        named.insert(name.to_owned(), Arc::downgrade(&threads));
        Ok(threads)
    }

    /// Stops all threads of both systems. Each thread ends as soon as the code that it runs yields.
    pub(crate) fn stop(&self) {
        *self.io_watch.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.work.stop();
        self.io.stop();
    }
}

/// The threads of one consumer's handlers, or the one that several consumers share. When this value is dropped, each
/// thread ends as soon as the code that it runs yields.
pub(crate) struct HandlerThreads(Vec<HandlerThread>);

struct HandlerThread {
    arbiter: ArbiterHandle,
    probe: Probe,
}

impl HandlerThread {
    fn new(arbiter: ArbiterHandle) -> Self {
        Self { probe: Probe::new(arbiter.clone()), arbiter }
    }
}

impl HandlerThreads {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &ArbiterHandle> + Clone {
        self.0.iter().map(|thread| &thread.arbiter)
    }

    /// Whether no handler has stopped its arbiter.
    fn are_running(&self) -> bool {
        self.iter().all(|arbiter| arbiter.spawn_fn(|| {}))
    }

    /// How late each thread is, in the order of [`iter`](Self::iter).
    pub(crate) fn lags(&self) -> impl Iterator<Item = Duration> {
        self.0.iter().map(|thread| thread.probe.lag())
    }
}

impl Drop for HandlerThreads {
    fn drop(&mut self) {
        for thread in &self.0 {
            // `false` means that the thread has ended already, together with its system. Nothing is left to stop then.
            thread.arbiter.stop();
        }
    }
}

/// Starts an actix system on a new thread. The thread ends when the system is stopped.
fn system(name: &str) -> io::Result<System> {
    let (tell, told) = mpsc::sync_channel(1);
    let thread = name.to_owned();
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return drop(tell.send(Err(error))),
        };
        let runner = System::with_tokio_rt(|| runtime);
        // Fails only if the caller no longer waits.
        let _ = tell.send(Ok(System::current()));
        if let Err(error) = runner.run() {
            tracing::warn!(thread, %error, "a thread of the service ended with an error, and what ran on it stopped");
        }
    })?;
    told.recv().unwrap_or_else(|_| Err(io::Error::other(format!("thread `{name}` ended before it was ready"))))
}
