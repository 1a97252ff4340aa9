//! Lesson 4: subscribers choose their messages by routing key.
//!
//! A *direct* exchange puts a message in each queue whose **binding key** equals the **routing key** of the message. A
//! queue may have several bindings, and several queues may have the same one. Here, `key_by` derives the key from each
//! message.
//!
//! Run it: `cargo run -p examples --bin 04_routing`
//!
//! Try: remove the binding for "info". Publishing an info line is then an error, because no queue takes it. To catch
//! such messages, declare an alternate exchange: `Exchange::direct("log").alternate("strays")`.
//!
//! Next: `05_topics`, in which binding keys are patterns.

use examples::{
    Seen, check,
    messages::{LogLine, log_line::Severity},
    say,
};
use fluffle::{Error, prelude::*};

struct Reader {
    who: &'static str,
    seen: Seen,
}

impl Actor for Reader {
    type Context = Context<Self>;
}

impl Handler<Delivery<LogLine>> for Reader {
    type Result = Result<(), Failure>;

    fn handle(&mut self, line: Delivery<LogLine>, _: &mut Self::Context) -> Self::Result {
        println!("  {:<7} gets  {:<8} {}", self.who, line.routing_key(), line.text);
        self.seen.note(&line);
        Ok(())
    }
}

fn key(line: &LogLine) -> String {
    match line.severity() {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Info | Severity::Unspecified => "info",
    }
    .to_owned()
}

#[actix::main]
async fn main() -> Result<(), Error> {
    examples::logging();
    let broker = Broker::from_env_or_embedded()?;

    let app = App::new(broker).topology(
        Topology::new()
            .exchange(Exchange::direct("log"))
            .queue(Queue::quorum("archive").bind("log", "info").bind("log", "warning").bind("log", "error"))
            .queue(Queue::quorum("pager").bind("log", "error")),
    );
    let out = app.publisher::<LogLine>(Route::exchange("log").key_by(key));
    let (archive, pager) = (Seen::new(), Seen::new());
    let (archived, paged) = (archive.clone(), pager.clone());
    let service = app
        .consume(Consume::queue("archive"), move || Reader { who: "archive", seen: archived.clone() })
        .consume(Consume::queue("pager"), move || Reader { who: "pager", seen: paged.clone() })
        .start()
        .await?;
    service.ready().await?;

    say("Five lines; the archive wants all, the pager only errors:");
    for (severity, text) in [
        (Severity::Info, "started"),
        (Severity::Warning, "the disk is 90% full"),
        (Severity::Error, "the disk is full"),
        (Severity::Info, "somebody deleted the logs"),
        (Severity::Error, "the logs are gone"),
    ] {
        let line = LogLine { severity: severity.into(), text: text.to_owned() };
        out.publish(line).await.map_err(Error::other)?;
    }
    archive.count(5).await?;
    pager.count(2).await?;
    service.shutdown().await?;

    say(format!("04_routing: published=5 archive={} pager={}", archive.distinct(), pager.distinct()));
    check(archive.distinct() == 5 && pager.distinct() == 2, "the archive gets 5 and the pager 2")
}
