//! Where the messages come from: a temporary queue, a stream, or the queue itself.

use std::fmt;

use lapin::{
    Channel, Connection, Consumer, ExchangeKind,
    options::{BasicConsumeOptions, BasicQosOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, ShortString},
};

use crate::{
    common::{
        amqp::{ANSWER, channel, in_time},
        failure::Failure,
        management::{self, Management},
        output::safe,
    },
    message::fields,
    tail::args::{Kind, TailArgs},
};

/// Messages that wait in the temporary queue at most. Beyond, the oldest are dropped, so that a slow terminal never
/// fills the broker.
const MOST_WAITING: i64 = 10_000;
/// Deliveries on the way at once, of a copy or a stream.
const PREFETCH: u16 = 200;
/// If the messages are taken, one is on the way at once, so that no other is held back or counted as delivered.
const PREFETCH_TAKING: u16 = 1;

/// A running subscription.
pub(crate) struct Source {
    pub(crate) consumer: Consumer,
    /// The consumer's channel, which ends with this value.
    pub(crate) channel: Channel,
    pub(crate) means: Means,
    /// What the person should know before the first message.
    pub(crate) notes: Vec<String>,
}

/// By which means the messages are got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Means {
    /// A temporary queue beside the others.
    Copy,
    /// A stream, which keeps what is read.
    Stream,
    /// The queue itself.
    Take,
}

/// One binding of the temporary queue.
struct Binding {
    exchange: String,
    key: String,
    arguments: FieldTable,
}

impl fmt::Display for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exchange `{}`, key `{}`", safe(&self.exchange), safe(&self.key))
    }
}

/// Subscribes to what the arguments name.
pub(crate) async fn subscribe(connection: &Connection, args: &TailArgs) -> Result<Source, Failure> {
    let name = safe(&args.source);
    if args.source.is_empty() {
        return Err(Failure::new("the default exchange cannot be watched: nothing can be bound to it; name a queue"));
    }
    let kind = match args.kind {
        Some(kind) => kind,
        None if args.take || args.from.is_some() => Kind::Queue,
        None => find(connection, &args.source, !args.key.is_empty()).await?,
    };
    if args.take || args.from.is_some() {
        if kind == Kind::Exchange {
            return Err(Failure::new("--take and --from read a queue: an exchange keeps no messages"));
        }
        return itself(connection, args).await;
    }
    let api = management::client(&args.broker)?;
    let mut notes = Vec::new();
    let bindings = match kind {
        Kind::Exchange => keys_of_exchange(args, api.as_ref(), &mut notes).await?,
        Kind::Queue => {
            let Some(api) = api else {
                return Err(Failure::new(format!(
                    "`{name}` is a queue: a copy of what it is sent needs its bindings, which cannot be known over \
                     AMQP. Give --api URL (the management API); or name the exchange, with --key; or --from for a \
                     stream; or --take, which takes the messages away from the queue's consumers"
                )));
            };
            bindings_of_queue(args, &api, &mut notes).await?
        }
    };
    let watched: Vec<_> = bindings.iter().map(ToString::to_string).collect();
    notes.insert(0, format!("watching {}: a copy, nothing is taken", watched.join("; ")));
    copy(connection, bindings, notes).await
}

/// Whether the name is that of a queue or of an exchange.
async fn find(connection: &Connection, name: &str, has_key: bool) -> Result<Kind, Failure> {
    let short = short(name)?;
    // A refused question closes its channel, so each has its own.
    let asked = channel(connection).await?;
    let passive = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
    let declared = asked.exchange_declare(short.clone(), ExchangeKind::Direct, passive, FieldTable::default());
    let exchange = in_time("asking for the exchange", declared).await;
    if has_key {
        return exchange.map(|()| Kind::Exchange).map_err(|error| absent(name, "exchange", &error));
    }
    let asked = channel(connection).await?;
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let queue = in_time("asking for the queue", asked.queue_declare(short, passive, FieldTable::default())).await;
    match (exchange, queue) {
        (Ok(()), Ok(_)) => Err(Failure::new(format!(
            "`{0}` is both a queue and an exchange: say which with --as queue or --as exchange",
            safe(name)
        ))),
        (Ok(()), Err(_)) => Ok(Kind::Exchange),
        (Err(_), Ok(_)) => Ok(Kind::Queue),
        (Err(exchange), Err(queue)) => {
            // A queue that is exclusive to another connection is refused with 405, and is there.
            let error = if queue.to_string().contains("NOT_FOUND") { exchange } else { queue };
            Err(absent(name, "queue or exchange", &error))
        }
    }
}

fn absent(name: &str, what: &str, error: &Failure) -> Failure {
    Failure::new(format!("no {what} `{}` to watch: {}", safe(name), safe(&error.to_string())))
}

/// The bindings that copy what passes an exchange.
async fn keys_of_exchange(
    args: &TailArgs,
    api: Option<&Management>,
    notes: &mut Vec<String>,
) -> Result<Vec<Binding>, Failure> {
    let with =
        |key: &str| Binding { exchange: args.source.clone(), key: key.to_owned(), arguments: FieldTable::default() };
    if !args.key.is_empty() {
        return Ok(args.key.iter().map(|key| with(key)).collect());
    }
    let Some(api) = api else {
        notes.push(
            "if the exchange is of the type direct, `#` is a key like any other: give --key, or --api to find the keys"
                .to_owned(),
        );
        return Ok(vec![with("#")]);
    };
    let vhost = vhost(args)?;
    let info = told("the exchange", api.get_exchange_info(&vhost, &args.source)).await?;
    if info.exchange_type != "direct" {
        return Ok(vec![with("#")]);
    }
    let bound = told("the exchange's bindings", api.list_exchange_bindings_with_source(&vhost, &args.source)).await?;
    let mut keys: Vec<_> = bound.into_iter().map(|binding| binding.routing_key).collect();
    keys.sort();
    keys.dedup();
    if keys.is_empty() {
        return Err(Failure::new(format!(
            "the exchange `{}` is of the type direct, and nothing is bound to it: give the --key of the messages",
            safe(&args.source)
        )));
    }
    notes.push("a direct exchange: only messages with these keys are seen, which are those of its bindings".to_owned());
    Ok(keys.iter().map(|key| with(key)).collect())
}

/// The bindings of a queue, told by the management API.
async fn bindings_of_queue(
    args: &TailArgs,
    api: &Management,
    notes: &mut Vec<String>,
) -> Result<Vec<Binding>, Failure> {
    let found = told("the queue's bindings", api.list_queue_bindings(&vhost(args)?, &args.source)).await?;
    let mut bindings = Vec::new();
    // Every queue is bound to the default exchange (no name), to which nothing else can be bound.
    for binding in found.into_iter().filter(|binding| !binding.source.is_empty()) {
        let arguments = fields::table_from_json(&binding.arguments.0);
        let arguments = arguments.map_err(|why| Failure::new(format!("the arguments of a binding: {why}")))?;
        bindings.push(Binding { exchange: binding.source, key: binding.routing_key, arguments });
    }
    if bindings.is_empty() {
        return Err(Failure::new(format!(
            "the queue `{}` has no bindings (told by the management API): messages reach it by its name alone, of \
             which no copy can be had. --take takes them away from its consumers",
            safe(&args.source)
        )));
    }
    notes.push(
        "not seen: messages sent to the queue by its name (the default exchange), and returned ones: retries, requeues"
            .to_owned(),
    );
    Ok(bindings)
}

/// Binds a temporary queue, which is deleted with the connection.
async fn copy(connection: &Connection, bindings: Vec<Binding>, notes: Vec<String>) -> Result<Source, Failure> {
    let channel = channel(connection).await?;
    let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(MOST_WAITING));
    // On purpose: of a server-named queue, RabbitMQ makes the name, which then is no one else's.
    let declared = channel.queue_declare("".into(), options, arguments);
    let queue = in_time("making a temporary queue", declared).await?.name().clone();
    for binding in bindings {
        let what = format!("binding a temporary queue to {binding}");
        let (exchange, key) = (short(&binding.exchange)?, short(&binding.key)?);
        let bound = channel.queue_bind(queue.clone(), exchange, key, QueueBindOptions::default(), binding.arguments);
        in_time(&what, bound).await?;
    }
    let consumer = consume(&channel, queue, PREFETCH, FieldTable::default()).await?;
    Ok(Source { consumer, channel, means: Means::Copy, notes })
}

/// Reads the stream, or takes from the queue.
async fn itself(connection: &Connection, args: &TailArgs) -> Result<Source, Failure> {
    let channel = channel(connection).await?;
    let name = safe(&args.source);
    let mut arguments = FieldTable::default();
    let (means, prefetch, note) = match &args.from {
        Some(from) => {
            arguments.insert("x-stream-offset".into(), from.0.clone());
            (Means::Stream, PREFETCH, format!("reading the stream `{name}`: it keeps its messages"))
        }
        None => (
            Means::Take,
            PREFETCH_TAKING,
            format!(
                "--take: each message is acknowledged after it is shown, so it is gone from `{name}`, and no consumer \
                 gets it"
            ),
        ),
    };
    let consumer = consume(&channel, short(&args.source)?, prefetch, arguments).await?;
    Ok(Source { consumer, channel, means, notes: vec![note] })
}

async fn consume(
    channel: &Channel,
    queue: ShortString,
    prefetch: u16,
    arguments: FieldTable,
) -> Result<Consumer, Failure> {
    in_time("setting the prefetch", channel.basic_qos(prefetch, BasicQosOptions::default())).await?;
    let what = format!("consuming from `{}`", safe(queue.as_str()));
    let consuming = channel.basic_consume(queue, "".into(), BasicConsumeOptions::default(), arguments);
    in_time(&what, consuming).await
}

/// The vhost of `--url`.
fn vhost(args: &TailArgs) -> Result<String, Failure> {
    let broker = args.broker.broker()?;
    Ok(broker.endpoints().first().map_or_else(|| "/".to_owned(), |endpoint| endpoint.vhost().to_owned()))
}

/// An answer of the management API.
async fn told<T, E: fmt::Display>(what: &str, answer: impl Future<Output = Result<T, E>>) -> Result<T, Failure> {
    match tokio::time::timeout(ANSWER, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => {
            Err(Failure::new(format!("--api: {what}, asked of the management API: {}", safe(&error.to_string()))))
        }
        Err(_) => Err(Failure::new(format!("--api: {what}: no answer of the management API within {ANSWER:?}"))),
    }
}

fn short(name: &str) -> Result<ShortString, Failure> {
    ShortString::try_new(name).map_err(|_| Failure::new(format!("`{}` is longer than AMQP's 255 bytes", safe(name))))
}
