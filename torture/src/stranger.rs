//! The strangers, who publish foreign messages: one for each lane, with a client made of bytes on a thread of its own.

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

/// What its threads are called. Its client panics when its connection dies, as it may at any time.
pub const THREAD: &str = "stranger";

/// How long it waits before it connects again.
const PAUSE: Duration = Duration::from_millis(50);

/// How often it publishes, compared with our own publishers.
const SELDOM: u32 = 4;

/// Publishes foreign messages to each lane.
#[derive(Clone)]
pub struct Stranger {
    /// The broker.
    pub address: SocketAddr,
    /// Draws the messages.
    pub script: Script,
    /// Told what becomes of them.
    pub facts: Facts,
}

impl Stranger {
    /// Publishes to all lanes until the shift is over, under names that begin so; gives the names. No wait for the
    /// broker takes longer than `patience`.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn publish(&self, prefix: &str, shift: Shift, patience: Duration) -> io::Result<Vec<String>> {
        let lanes = Lane::ALL.into_iter().enumerate();
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
        while number < shift.messages && Instant::now() < shift.until {
            let open = || {
                let mut client = RawClient::open_within(patience, self.address, "/", 0);
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
            // One that has not answered, or has closed something, is of no more use.
            client = matches!(answer, Answer::Taken | Answer::NotTaken(_)).then_some(connected);
            self.facts.tell(&answer.of(id, self.script));
            thread::sleep((shift.pause * SELDOM).mul_f64(2.0 * random.f64()));
        }
        if let Some(client) = client {
            // It may be dead by now.
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

/// What the broker says to a message.
enum Answer {
    /// It has it.
    Taken,
    /// It cannot have it.
    NotTaken(String),
    /// The broker closed the channel or the connection.
    Closed(String),
    /// Nothing.
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

/// Waits for the broker's answer to the one message that is on its way.
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

/// Does it, and gives what it panics with.
fn caught<T>(deed: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(deed)).map_err(|panic| {
        let panic: &dyn Any = &*panic;
        let text = panic.downcast_ref::<&str>().copied().map(str::to_owned);
        text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
    })
}
