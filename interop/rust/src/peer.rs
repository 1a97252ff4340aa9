//! What a peer does, with any client. interop/README.md has its commands.

use std::{error::Error, fs, future::Future, path::Path, time::Duration};

use protos::usgs::Quake;
use tokio::{
    io::{AsyncBufReadExt, BufReader, stdin},
    time::{Instant, sleep, timeout},
};

use crate::{
    reader::{Item, Labels, read},
    writer::{Written, write},
};

const NAME: &str = "usgs.v1.Quake";
const DIRECT: &str = "amq.rabbitmq.reply-to";
const PATIENCE: Duration = Duration::from_secs(10);
const REFUSAL: &str = "a quake without a place";

/// An error of the client or of the peer.
pub type Failure = Box<dyn Error + Send + Sync>;

/// A message, published or received, with the headers of a client.
#[derive(Clone, Default)]
pub struct Message<H> {
    /// The body with its labels.
    pub written: Written,
    /// AMQP `correlation_id`; empty for none.
    pub correlation_id: String,
    /// AMQP `reply_to`; empty for none.
    pub reply_to: String,
    /// AMQP headers.
    pub headers: H,
    /// The delivery tag of a received message.
    pub tag: u64,
}

/// What a client can do.
pub trait Client {
    /// A table of headers.
    type Headers: Clone + Default;

    /// Publishes to a queue and waits for the confirm.
    fn publish(
        &mut self,
        queue: &str,
        message: Message<Self::Headers>,
        mandatory: bool,
    ) -> impl Future<Output = Result<(), Failure>>;
    /// Begins to consume.
    fn consume(&mut self, queue: &str, no_ack: bool) -> impl Future<Output = Result<(), Failure>>;
    /// The next delivery.
    fn next(&mut self) -> impl Future<Output = Result<Message<Self::Headers>, Failure>>;
    /// Stops to consume.
    fn cancel(&mut self) -> impl Future<Output = Result<(), Failure>>;
    /// A message of a queue, if there is one.
    fn get(&mut self, queue: &str) -> impl Future<Output = Result<Option<Message<Self::Headers>>, Failure>>;
    /// Acknowledges a message.
    fn ack(&mut self, tag: u64) -> impl Future<Output = Result<(), Failure>>;
    /// A header of every type.
    fn every_header() -> Self::Headers;
    /// Headers that hold text.
    fn texts(headers: &[(&str, &str)]) -> Self::Headers;
    /// A header of text or an integer, as text.
    fn text(headers: &Self::Headers, name: &str) -> Option<String>;
    /// How many of `expected` are among the headers.
    ///
    /// # Errors
    /// If one of them has another value.
    fn count_same(expected: &Self::Headers, headers: &Self::Headers) -> Result<usize, Failure>;
}

/// Does what the lines on the standard input say.
///
/// # Errors
/// If the vectors or the standard input cannot be read.
pub async fn run<C: Client>(client: C, vectors: &Path) -> Result<(), Failure> {
    let body = fs::read(vectors.join("quakes.delimited"))?;
    let labels = Labels { content_type: "application/protobuf; encoding=delimited", ..Labels::default() };
    let items = read::<Quake>(NAME, &body, &labels)?;
    let mut peer = Peer { client, quakes: items.into_iter().map(|(_, quake)| quake).collect::<Result<_, _>>()? };
    let mut lines = BufReader::new(stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        match timeout(PATIENCE, peer.obey(&line)).await {
            Ok(Ok(answer)) => println!("ok {answer}"),
            Ok(Err(error)) => println!("failed: {}", error.to_string().replace('\n', " ")),
            Err(_) => println!("failed: not done within {PATIENCE:?}"),
        }
    }
    Ok(())
}

struct Peer<C> {
    client: C,
    quakes: Vec<Quake>,
}

fn decode<H>(message: &Message<H>) -> Result<Vec<Item<Quake>>, Failure> {
    let written = &message.written;
    let labels = Labels {
        content_type: &written.content_type,
        content_encoding: written.content_encoding,
        type_name: &written.type_name,
        id: &written.id,
    };
    Ok(read(NAME, &written.body, &labels)?)
}

impl<C: Client> Peer<C> {
    async fn obey(&mut self, line: &str) -> Result<String, Failure> {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["send", queue, count, ref options @ ..] => self.send(queue, count.parse()?, options).await,
            ["echo", source, target, count] => self.echo(source, target, count.parse()?).await,
            ["serve", queue, count] => self.serve(queue, count.parse()?).await,
            ["ask", queue] => self.ask(queue).await,
            ["dead", queue] => self.dead(queue).await,
            _ => Err("no such command".into()),
        }
    }

    async fn send(&mut self, queue: &str, count: usize, options: &[&str]) -> Result<String, Failure> {
        let is_batch = options.contains(&"batch");
        let some: Vec<_> = self.quakes[..count].to_vec();
        for (index, part) in some.chunks(if is_batch { count } else { 1 }).enumerate() {
            let mut written = write(NAME, part, is_batch, options.contains(&"gzip"))?;
            if options.contains(&"bare") {
                written = Written { body: written.body, ..Written::default() };
            }
            written.id = format!("sent-{index}");
            let headers = if options.contains(&"headers") { C::every_header() } else { C::Headers::default() };
            self.client.publish(queue, Message { written, headers, ..Message::default() }, true).await?;
        }
        Ok(String::new())
    }

    async fn echo(&mut self, source: &str, target: &str, count: usize) -> Result<String, Failure> {
        self.client.consume(source, false).await?;
        let mut done = 0;
        while done < count {
            let message = self.client.next().await?;
            for (id, quake) in decode(&message)? {
                let written = Written { id, ..write(NAME, &[quake?], false, false)? };
                let echoed = Message { written, headers: message.headers.clone(), ..Message::default() };
                self.client.publish(target, echoed, true).await?;
                done += 1;
            }
            self.client.ack(message.tag).await?;
        }
        self.client.cancel().await?;
        Ok(String::new())
    }

    async fn serve(&mut self, queue: &str, count: usize) -> Result<String, Failure> {
        self.client.consume(queue, false).await?;
        for _ in 0..count {
            let request = self.client.next().await?;
            let (_, quake) = decode(&request)?.pop().ok_or("a request without a message")?;
            let quake = quake?;
            let mut answer = Message { correlation_id: request.correlation_id, ..Message::default() };
            if quake.place.is_empty() {
                answer.headers = C::texts(&[("x-fluffle-reason", "rejected"), ("x-fluffle-error", REFUSAL)]);
            } else {
                let title = format!("{}, answered", quake.title);
                answer.written = write(NAME, &[Quake { title, ..quake }], false, false)?;
            }
            // Not mandatory: the broker returns even the answers to direct reply-to that have arrived.
            self.client.publish(&request.reply_to, answer, false).await?;
            self.client.ack(request.tag).await?;
        }
        self.client.cancel().await?;
        Ok(String::new())
    }

    async fn ask(&mut self, queue: &str) -> Result<String, Failure> {
        self.client.consume(DIRECT, true).await?;
        for index in [0, 2] {
            let written = write(NAME, &self.quakes[index..=index], false, false)?;
            let (reply_to, correlation_id) = (DIRECT.to_owned(), format!("ask-{index}"));
            let request = Message { written, reply_to, correlation_id, ..Message::default() };
            self.client.publish(queue, request, true).await?;
        }
        let (mut title, mut refused) = (String::new(), String::new());
        for _ in 0..2 {
            let answer = self.client.next().await?;
            if answer.correlation_id == "ask-2" {
                refused = C::text(&answer.headers, "x-fluffle-error").unwrap_or_default();
            } else {
                title = decode(&answer)?.pop().ok_or("an answer without a message")?.1?.title;
            }
        }
        self.client.cancel().await?;
        Ok(format!("title={title} refused={refused}"))
    }

    async fn dead(&mut self, queue: &str) -> Result<String, Failure> {
        let end = Instant::now() + PATIENCE;
        let letter = loop {
            match self.client.get(queue).await? {
                Some(letter) => break letter,
                None if Instant::now() > end => return Err(format!("no message in {queue}").into()),
                None => sleep(Duration::from_millis(10)).await,
            }
        };
        let count = C::count_same(&C::every_header(), &letter.headers)?;
        let text = |name: &str| {
            let name = format!("x-fluffle-{name}");
            C::text(&letter.headers, &name).ok_or_else(|| format!("no header {name}"))
        };
        let (origin, reason) = (text("origin-queue")?, text("reason")?);
        let (attempt, error) = (text("attempt")?, text("error")?);
        let tag = letter.tag;
        self.client.publish(&origin, letter, true).await?;
        self.client.ack(tag).await?;
        Ok(format!("headers={count} reason={reason} attempt={attempt} origin-queue={origin} error={error}"))
    }
}
