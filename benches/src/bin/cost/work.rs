//! The counted works: messages of 100 bytes are published, confirmed, handled and acked, by hand-optimized lapin with
//! and without Fluffle's labels, and by Fluffle.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use fluffle::prelude::*;
use futures_util::{StreamExt, future::try_join_all};
use lapin::{
    BasicProperties, Connection, ConnectionProperties,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
        QueueDeclareOptions,
    },
    types::FieldTable,
};
use tokio::sync::Notify;

use crate::failure::Failure;

const WINDOW: usize = 1000;
const PREFETCH: u16 = 1000;
const BURST: usize = 50;
const QUEUE: &str = "cost";

/// One kind of work.
pub(crate) struct Work {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    /// The smaller and the larger number of messages.
    pub(crate) messages: (u64, u64),
    run: fn(u64) -> Result<(), Failure>,
}

impl Work {
    pub(crate) const ALL: [Self; 3] = [
        Self {
            name: "lapin",
            what: "bursts of 50, last confirm of a burst awaited first, one ack per burst; no properties, no decoding",
            messages: (2_000, 8_000),
            run: |messages| lapin_by_hand(messages, false, BasicProperties::default),
        },
        Self {
            name: "labelled",
            what: "the same, each message mandatory and with the properties that Fluffle gives it",
            messages: (2_000, 8_000),
            run: |messages| lapin_by_hand(messages, true, labels),
        },
        Self {
            name: "single",
            what: "Fluffle, one message after the other, a plain handler",
            messages: (2_000, 8_000),
            run: |messages| fluffle(messages, Route::queue(QUEUE).confirms(Confirms::Window(WINDOW))),
        },
    ];

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|work| work.name == name)
    }

    pub(crate) fn run(&self, messages: u64) -> Result<(), Failure> {
        (self.run)(messages)
    }
}

/// A message of 100 bytes on the wire.
#[derive(Clone, PartialEq, prost::Message)]
struct Parcel {
    #[prost(fixed64, tag = "1")]
    number: u64,
    #[prost(bytes = "bytes", tag = "2")]
    filler: Bytes,
}

impl prost::Name for Parcel {
    const NAME: &'static str = "Parcel";
    const PACKAGE: &'static str = "fluffle.cost";
}

fn filler() -> Bytes {
    Bytes::from_static(&[7; 89])
}

/// Counts handled messages, and reports when all are handled.
#[derive(Debug, Default)]
struct Handled {
    count: AtomicU64,
    goal: u64,
    reached: Notify,
}

impl Handled {
    fn one(&self) {
        if self.count.fetch_add(1, Ordering::Relaxed) + 1 == self.goal {
            self.reached.notify_one();
        }
    }
}

struct Counter(Arc<Handled>);

impl Actor for Counter {
    type Context = Context<Self>;
}

impl Handler<Delivery<Parcel>> for Counter {
    type Result = Result<(), fluffle::prelude::Failure>;

    fn handle(&mut self, _: Delivery<Parcel>, _: &mut Self::Context) -> Self::Result {
        self.0.one();
        Ok(())
    }
}

fn fluffle(messages: u64, route: Route<Parcel>) -> Result<(), Failure> {
    System::new().block_on(async {
        let broker = fluffle::broker::Broker::start()?;
        let app = App::new(Broker::new(&broker.url())?).topology(Topology::new().queue(Queue::classic(QUEUE)));
        let out = app.publisher(route.persistent(false));
        let handled = Arc::new(Handled { goal: messages, ..Handled::default() });
        let counted = Arc::clone(&handled);
        let consume = Consume::queue(QUEUE).prefetch(PREFETCH).retry(Retry::none());
        let service = app.consume(consume, move || Counter(Arc::clone(&counted))).start().await?;
        service.ready().await?;
        let mut receipts = VecDeque::new();
        for number in 0..messages {
            receipts.push_back(out.enqueue(Parcel { number, filler: filler() }).await?);
            if receipts.len() > WINDOW {
                for receipt in receipts.drain(..BURST) {
                    receipt.confirmed().await?;
                }
            }
        }
        for receipt in receipts {
            receipt.confirmed().await?;
        }
        handled.reached.notified().await;
        service.shutdown().await?;
        Ok(())
    })
}

fn labels() -> BasicProperties {
    BasicProperties::default()
        .with_content_type("application/vnd.google.protobuf; proto=fluffle.cost.Parcel".into())
        .with_type("fluffle.cost.Parcel".into())
        .with_message_id("01996a0e-7c1b-7000-8000-000000000001".into())
        .with_timestamp(1_800_000_000)
        .with_delivery_mode(1)
}

fn lapin_by_hand(messages: u64, mandatory: bool, properties: fn() -> BasicProperties) -> Result<(), Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let broker = fluffle::broker::Broker::start()?;
        let (publishing, consuming) = (connect(&broker.url()).await?, connect(&broker.url()).await?);
        let (sender, receiver) = (publishing.create_channel().await?, consuming.create_channel().await?);
        sender.confirm_select(ConfirmSelectOptions::default()).await?;
        receiver.queue_declare(QUEUE.into(), QueueDeclareOptions::default(), FieldTable::default()).await?;
        receiver.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
        let consumed =
            receiver.basic_consume(QUEUE.into(), "".into(), BasicConsumeOptions::default(), FieldTable::default());
        let mut deliveries = consumed.await?.ready_chunks(BURST);
        let consume = async {
            let mut handled = 0;
            while handled < messages
                && let Some(burst) = deliveries.next().await
            {
                let mut last = 0;
                for delivery in burst {
                    last = delivery?.delivery_tag;
                    handled += 1;
                }
                receiver.basic_ack(last, BasicAckOptions { multiple: true }).await?;
            }
            Ok::<_, Failure>(())
        };
        let publish = async {
            let body = [7_u8; 100];
            let mut bursts = VecDeque::new();
            for _ in 0..messages / BURST as u64 {
                let publishes = (0..BURST).map(|_| {
                    let options = BasicPublishOptions { mandatory, immediate: false };
                    sender.basic_publish("".into(), QUEUE.into(), options, &body, properties())
                });
                bursts.push_back(try_join_all(publishes).await?);
                if bursts.len() * BURST >= WINDOW {
                    confirmed(bursts.pop_front()).await?;
                }
            }
            while !bursts.is_empty() {
                confirmed(bursts.pop_front()).await?;
            }
            Ok::<_, Failure>(())
        };
        tokio::try_join!(publish, consume)?;
        Ok(())
    })
}

async fn connect(url: &str) -> Result<Connection, lapin::Error> {
    Connection::connect(url, ConnectionProperties::default()).await
}

async fn confirmed(burst: Option<Vec<lapin::PublisherConfirm>>) -> Result<(), Failure> {
    let mut burst = burst.unwrap_or_default();
    let last = burst.pop();
    for confirm in last.into_iter().chain(burst) {
        if !confirm.await?.is_ack() {
            return Err("not confirmed".into());
        }
    }
    Ok(())
}
