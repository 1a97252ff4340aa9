//! Shows what comes, until the end.

use std::{
    io::{self, ErrorKind, Write},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_util::StreamExt;
use lapin::{
    message::Delivery,
    options::{BasicAckOptions, BasicCancelOptions, BasicNackOptions},
};

use crate::{
    common::{
        amqp::{self, in_time},
        exit::Exit,
        failure::Failure,
        output::{json_line, safe},
        runtime,
    },
    decode::Reader,
    tail::{
        args::TailArgs,
        message::Message,
        source::{self, Means, Source},
        text::Style,
    },
};

/// Header of each delivery of a stream.
const OFFSET: &str = "x-stream-offset";
/// How long saying goodbye to the broker may take. Nothing depends on it.
const GOODBYE: Duration = Duration::from_secs(2);

/// `fluffle tail`.
pub(crate) fn command(args: &TailArgs) -> Result<Exit, Failure> {
    // Wrong files are told before anything is asked of the broker.
    let reader = Reader::new(&args.types, args.type_name.as_deref())?;
    runtime::block_on(async {
        let connection = amqp::connect(&args.broker, "tail").await?;
        let shown = watch(&connection, args, &reader).await;
        // The broker gives back what is not acknowledged, and deletes the temporary queue.
        let _ = tokio::time::timeout(GOODBYE, connection.close(200, "done".into())).await;
        shown.map(|()| Exit::Clean)
    })
}

async fn watch(connection: &lapin::Connection, args: &TailArgs, reader: &Reader) -> Result<(), Failure> {
    let mut source = source::subscribe(connection, args).await?;
    for note in &source.notes {
        eprintln!("tail: {note}");
    }
    let end = async {
        match args.time {
            Some(time) => tokio::time::sleep(time).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(end);
    let mut stop = runtime::Interrupt::new()?;
    let mut shown = 0;
    while args.count.is_none_or(|count| shown < count) {
        let delivery = tokio::select! {
            biased;
            () = stop.wait() => break,
            () = &mut end => break,
            delivery = source.consumer.next() => delivery,
        };
        let delivery = match delivery {
            Some(Ok(delivery)) => delivery,
            Some(Err(error)) => return Err(Failure::new(format!("the channel ended: {}", safe(&error.to_string())))),
            None => {
                let why = "the broker ended the subscription: the queue was deleted, or its node is lost";
                return Err(Failure::new(why));
            }
        };
        if source.means == Means::Stream && !is_of_a_stream(&delivery) {
            give_back(&source, &delivery).await?;
            return Err(Failure::new(format!(
                "`{}` is not a stream: its messages would be taken. They were given back; use --take for that, or \
                 leave out --from",
                safe(&args.source)
            )));
        }
        match show(args, reader, shown + 1, &delivery) {
            Ok(is_shown) => shown += u64::from(is_shown),
            // The reader of a pipe has read enough (`fluffle tail … | head`). What it did not get is not acknowledged.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => return Err(Failure::new(format!("cannot write to standard output: {error}"))),
        }
        if source.means == Means::Take && args.count == Some(shown) {
            // Before the last ack, which would bring the next message: it would come back as redelivered.
            let tag = source.consumer.tag().clone();
            let cancelled = source.channel.basic_cancel(tag, BasicCancelOptions::default());
            in_time("ending the subscription", cancelled).await?;
        }
        let acked = delivery.acker.ack(BasicAckOptions::default());
        if !in_time("acknowledging", acked).await? {
            return Err(Failure::new("the channel ended before the message was acknowledged; the queue still has it"));
        }
    }
    if source.means == Means::Take {
        // The acks before it are written, then.
        in_time("closing the channel", source.channel.close(200, "done".into())).await?;
    }
    Ok(())
}

fn is_of_a_stream(delivery: &Delivery) -> bool {
    delivery.properties.headers().as_ref().is_some_and(|headers| headers.contains_key(OFFSET))
}

async fn give_back(source: &Source, delivery: &Delivery) -> Result<(), Failure> {
    let all = BasicNackOptions { multiple: true, requeue: true };
    in_time("giving messages back", source.channel.basic_nack(delivery.delivery_tag, all)).await?;
    in_time("closing the channel", source.channel.close(200, "done".into())).await
}

/// Whether the message passes the filters and was shown.
fn show(args: &TailArgs, reader: &Reader, number: u64, delivery: &Delivery) -> io::Result<bool> {
    // One copy, because lapin owns its body as a vector.
    let body = Bytes::from(delivery.data.clone());
    let (exchange, key) = (delivery.exchange.as_str(), delivery.routing_key.as_str());
    let message = Message::new(reader, exchange, key, delivery.redelivered, &delivery.properties, &body);
    if !args.filter.iter().all(|filter| filter.holds(&message)) {
        return Ok(false);
    }
    let mut out = io::stdout().lock();
    if args.output.json {
        json_line(&mut out, &message.json(args.raw))?;
    } else {
        let style = Style { output: &args.output, most: args.most.0, raw: args.raw };
        let now = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        let time = now.get(11..23).unwrap_or_default();
        out.write_all(style.text(number, time, &message).as_bytes())?;
    }
    out.flush()?;
    Ok(true)
}
