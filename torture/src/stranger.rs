//! The strangers, which publish foreign messages: one for each lane, with a byte-level client on its own thread.

use std::{
    any::Any,
    io,
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
    time::{Duration, Instant},
};

use conformance::raw::{RawClient, RawPublish};
use fluffle::wire::Wire;

use crate::{
    fact::{Fact, Facts},
    foreign::{Foreign, Labels, Message},
    id::{FOREIGN, Id, Lane},
    posts::Shift,
    script::Script,
};

/// The name of its threads. Its client panics when its connection ends, which may happen at any time.
pub const THREAD: &str = "stranger";

/// The pause before it connects again.
const PAUSE: Duration = Duration::from_millis(50);

/// How many times longer its pauses are than those of the other publishers.
const SELDOM: u32 = 4;

/// Publishes foreign messages to each lane.
#[derive(Clone)]
pub struct Stranger {
    /// The broker's nodes. After each lost connection, the next one is tried.
    pub addresses: Vec<SocketAddr>,
    /// The script that determines the messages.
    pub script: Script,
    /// The log for their results.
    pub facts: Facts,
}

impl Stranger {
    /// Publishes to all lanes that have strangers until the shift is over, with names that begin with `prefix`. Returns
    /// the names. Waits at most `patience` for the broker each time.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn publish(&self, prefix: &str, shift: Shift, patience: Duration) -> io::Result<Vec<String>> {
        let lanes = Lane::ALL.into_iter().filter(|lane| lane.has_strangers()).enumerate();
        lanes
            .map(|(number, lane)| {
                let source = format!("{prefix}{FOREIGN}{number}");
                let (stranger, name) = (self.clone(), source.clone());
                let publishing = move || stranger.run(lane, &name, shift, patience);
                thread::Builder::new().name(THREAD.to_owned()).spawn(publishing)?;
                Ok(source)
            })
            .collect()
    }

    fn run(&self, lane: Lane, source: &str, shift: Shift, patience: Duration) {
        let mut client = None;
        let mut number = 0;
        let mut addresses = self.addresses.iter().cycle();
        while number < shift.messages && Instant::now() < shift.until {
            let address = if client.is_none() { addresses.next() } else { None };
            let open = || {
                let address = *address.unwrap_or(&self.addresses[0]);
                let mut client = RawClient::open_within(patience, address, "/", 0);
                client.select_confirms();
                client
            };
            let Some(mut connected) = client.take().or_else(|| caught(open).ok()) else {
                thread::sleep(PAUSE);
                continue;
            };
            let id = Id { lane, source: source.to_owned(), number };
            number += 1;
            let mut random = self.script.random(&id, u32::MAX);
            let answer = self.offer(&mut connected, &id);
            // A client without an answer, or with a closed channel or connection, is of no more use.
            client = matches!(answer, Answer::Taken | Answer::NotTaken(_)).then_some(connected);
            self.facts.tell(&answer.of(id, self.script));
            thread::sleep((shift.pause * SELDOM).mul_f64(2.0 * random.f64()));
        }
        if let Some(client) = client {
            // The client may be dead by now.
            let _ = caught(|| client.close());
        }
        self.facts.tell(&Fact::Quiet(source.to_owned()));
    }

    fn offer(&self, client: &mut RawClient, id: &Id) -> Answer {
        let Some(foreign) = self.script.foreign(id) else {
            return Answer::None("it is none of its messages".to_owned());
        };
        let encoded = match Wire::<String>::protobuf().encode(&self.script.body(id)) {
            Ok(encoded) => encoded,
            Err(error) => return Answer::None(error.to_string()),
        };
        let labels = Labels { content_type: &encoded.content_type, type_name: &encoded.type_name };
        let Message { exchange, key, flags, properties } = foreign.message(id.lane, &id.to_string(), labels);
        let message = RawPublish {
            exchange: exchange.as_bytes(),
            key: &key,
            mandatory: true,
            flags,
            properties: &properties,
            body: &encoded.body,
        };
        self.facts.tell(&Fact::Try(id.clone()));
        self.facts.tell(&Fact::Foreign(id.clone(), format!("{:?}", foreign.kind)));
        caught(|| {
            client.publish(message);
            answer(client)
        })
        .unwrap_or_else(Answer::None)
    }
}

/// The broker's answer to a message.
enum Answer {
    /// The broker has the message.
    Taken,
    /// The broker cannot have the message.
    NotTaken(String),
    /// The broker closed the channel or the connection.
    Closed(String),
    /// No answer came.
    None(String),
}

impl Answer {
    fn of(self, id: Id, script: Script) -> Fact {
        match self {
            Self::Taken => Fact::Yes(id),
            Self::NotTaken(why) => Fact::No(id, why),
            Self::Closed(why) if script.foreign(&id).as_ref().is_some_and(Foreign::is_refused) => Fact::No(id, why),
            Self::Closed(why) | Self::None(why) => Fact::Maybe(id, why),
        }
    }
}

/// Waits for the broker's answer to the message that was just published.
fn answer(client: &mut RawClient) -> Answer {
    let mut returned = false;
    while let Some(frame) = client.next_frame() {
        match frame.method() {
            Some((60, 50)) => returned = true,
            Some((60, 80)) if returned => return Answer::NotTaken("returned".to_owned()),
            Some((60, 80)) => return Answer::Taken,
            Some((60, 120)) => return Answer::NotTaken("nacked".to_owned()),
            _ => {
                if let Some(close) = frame.close() {
                    return Answer::Closed(format!("{} {}", close.code, close.text));
                }
            }
        }
    }
    Answer::None("the connection was lost".to_owned())
}

/// Runs `deed`, and returns the text of its panic, if any.
fn caught<T>(deed: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(deed)).map_err(|panic| {
        let panic: &dyn Any = &*panic;
        let text = panic.downcast_ref::<&str>().copied().map(str::to_owned);
        text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
    })
}
