//! ruststream on lapin, in the fastest way that its documentation describes: many publishes at once, with confirms; a
//! handler for raw bytes, without a codec, on several workers, so that their acks are written together; publisher and
//! consumer each on their own connection, thread and current-thread runtime. It has no multiple acks. These variants
//! were slower: one worker, 32 workers, batches of 50, a runtime of two threads, and bursts instead of a window.

use std::{convert::Infallible, future::ready, num::NonZeroU16, sync::Arc};

use futures_util::{StreamExt, stream::FuturesUnordered};
use ruststream::{Broker, ConnectedBroker, prelude::*};
use ruststream_lapin::prelude::*;

use crate::{contestants::side_by_side::side_by_side, course::Course, failure::Failure};

/// How many publishes are begun together.
const BURST: usize = 50;

/// The raw bytes of a delivery.
struct Frame<'a>(&'a [u8]);

impl Deserialized for Frame<'_> {
    type Output<'a> = Frame<'a>;
    type Error = Infallible;

    fn from_payload(payload: &[u8]) -> Result<Frame<'_>, Self::Error> {
        Ok(Frame(payload))
    }
}

impl Input for Frame<'_> {
    type Axis = SoloDeserialized<Frame<'static>>;
}

/// Bytes that are sent unchanged.
struct Body(Vec<u8>);

impl Serialized for Body {
    type Error = Infallible;

    fn wire_bytes(&self, _: &mut BytesMut) -> Result<WireBytes<'_>, Infallible> {
        Ok(WireBytes::Own(&self.0))
    }
}

impl MessageWire for Body {
    type Wire = SerializedWire;
}

impl OutgoingDestination for Body {
    type Form = CallerName;
}

impl MessageHeaders for Body {
    type Contract = NoHeaders;
}

struct Count(Arc<Course>);

impl<'p> Handle<Frame<'p>> for Count {
    fn handle(
        &self,
        frame: &Frame<'p>,
        _: &(),
        _: &mut Context<'_>,
    ) -> impl Future<Output = Result<(), HandlerOutcome>> {
        self.0.handled(frame.0);
        ready(Ok(()))
    }
}

pub(crate) fn run(course: &Arc<Course>) -> Result<(), Failure> {
    side_by_side(course, publish(course), consume(course))
}

async fn consume(course: &Arc<Course>) -> Result<(), Failure> {
    let broker = LapinBroker::new(course.url.as_str());
    let prefetch = NonZeroU16::new(course.terms.prefetch).unwrap_or(NonZeroU16::MIN);
    let queue = RabbitQueue::new(course.queue.as_str()).prefetch(prefetch);
    let app = RustStream::new(AppInfo::new("compare", "1.0.0")).with_broker(broker, |broker| {
        broker.include(subscriber(queue, Count(Arc::clone(course))).workers(nonzero!(8)).build());
    });
    let running = app.start().await?;
    course.consumes();
    course.over().await;
    Ok(running.shutdown().await?)
}

async fn publish(course: &Arc<Course>) -> Result<(), Failure> {
    let broker = LapinBroker::new(course.url.as_str()).connect().await?;
    let out = broker.publisher(ConfirmsPublish::default().persistent(course.terms.durable));
    course.attached().await;
    let send = async |number| {
        // Waits for the broker's confirm; a nack is an error.
        out.message(&Body(course.bodies.encoded(number))).to(&course.queue).publish().await
    };
    for mut lap in course.laps() {
        let (mut flying, mut more) = (FuturesUnordered::new(), true);
        while more || !flying.is_empty() {
            tokio::select! {
                biased;
                burst = lap.burst(BURST), if more && flying.len() + BURST <= course.terms.window => match burst {
                    Some(numbers) => flying.extend(numbers.map(&send)),
                    None => more = false,
                },
                Some(sent) = flying.next() => {
                    sent?;
                    lap.confirmed(1);
                }
            }
        }
        lap.finish().await?;
    }
    broker.shutdown().await?;
    Ok(())
}
