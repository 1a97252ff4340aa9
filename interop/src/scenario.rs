//! What is done with one peer on one broker, step by step. A step that fails does not keep the others from running.

use std::fs;

use fluffle::{amqp::RequestErrorKind, prelude::MessageOptions};
use futures_util::future::join_all;
use lapin::{BasicProperties, message::Delivery, types::AMQPValue};
use prost::Message;
use protos::usgs::Quake;

use crate::{
    amqp_headers::{every_type, same_types, same_values},
    fluffle_side::{FAILURE, FluffleSide, Got, REFUSAL},
    peer::{Peer, Place},
    report::Report,
    tap::Tap,
};

const SINGLE: &str = "application/vnd.google.protobuf; proto=usgs.v1.Quake";
const BATCH: &str = "application/vnd.google.protobuf; proto=usgs.v1.Quake; encoding=delimited";
const TYPE: &str = "usgs.v1.Quake";

/// Headers that a peer's client cannot read: it gives another value, or closes the connection. docs/WIRE.md names them.
fn unreadable(peer: &str) -> &'static [&'static str] {
    match peer {
        // pika 1.4 cuts them off to integers.
        "python" => &["float", "double"],
        // amqp091-go 1.5 closes the connection.
        "go" => &["uint16", "uint32"],
        // bunny 2.19 reads nothing more after an unsigned number, reads negative ones of 8 and of 32 bits as
        // positive and floating-point numbers of 32 bits wrongly, and writes other decimals than it has read.
        "ruby" => &["uint8", "uint16", "uint32", "int8", "int32", "float", "decimal"],
        // RabbitMQ's client 5.0 for Java closes the connection.
        "java" => &["uint8", "uint16", "uint32"],
        _ => &[],
    }
}

/// Runs every step with one peer.
pub(crate) async fn run(peer: &str, broker: &'static str, url: &str, place: &Place) -> Report {
    let mut report = Report::new(peer, broker);
    report.add("vectors", place.test_vectors(peer).await);
    match Scene::open(peer, url, place).await {
        Ok(scene) => scene.play(&mut report).await,
        Err(why) => report.add("publish", Err(why)),
    }
    report
}

struct Scene {
    name: String,
    quakes: Vec<Quake>,
    fluffle: FluffleSide,
    peer: Peer,
    tap: Tap,
}

impl Scene {
    async fn open(peer: &str, url: &str, place: &Place) -> Result<Self, String> {
        let file = place.vectors.join("quakes.delimited");
        let body = fs::read(&file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
        let mut rest = body.as_slice();
        let mut quakes = Vec::new();
        while !rest.is_empty() {
            let quake = Quake::decode_length_delimited(&mut rest).map_err(|error| format!("bad vector: {error}"))?;
            quakes.push(quake);
        }
        let fluffle =
            FluffleSide::start(url, peer, place.patience).await.map_err(|error| format!("no service: {error}"))?;
        let tap = Tap::open(url, place.patience).await?;
        let peer_program = Peer::start(place, peer, url)?;
        Ok(Self { name: peer.to_owned(), quakes, fluffle, peer: peer_program, tap })
    }

    async fn play(mut self, report: &mut Report) {
        report.add("publish", self.publish().await);
        report.add("consume", self.consume().await);
        report.add("rpc", self.ask().await);
        report.add("rpc", self.serve().await);
        report.add("gzip", self.gzip().await);
        report.add("batch", self.batch().await);
        self.letters(report).await;
        report.add("publish", self.fluffle.nothing_else());
        report.add("consume", self.peer.end().await);
        report.add("consume", self.tap.close().await);
        report.add("consume", self.fluffle.stop().await);
    }

    fn queue(&self, name: &str) -> String {
        format!("{}.{name}", self.name)
    }

    /// The peer publishes, with labels and without. Fluffle reads it.
    async fn publish(&mut self) -> Result<(), String> {
        self.send("in", "3").await?;
        let got = self.fluffle.next(3).await?;
        same(&got, &["sent-0", "sent-1", "sent-2"], &self.quakes)?;
        self.send("in", "1 bare").await?;
        let got = self.fluffle.next(1).await?;
        same(&got, &["sent-0"], &self.quakes[..1])?;
        self.send("tap", "1").await?;
        let seen = self.tap.take(&self.queue("tap")).await?;
        labels(&seen, SINGLE, None)?;
        if *seen.properties.delivery_mode() != Some(2) {
            return Err(format!("the message is not persistent: {:?}", seen.properties));
        }
        Ok(())
    }

    /// Fluffle publishes, with headers. The peer reads it, and sends what it has read.
    async fn consume(&mut self) -> Result<(), String> {
        let mut ids = Vec::new();
        for quake in &self.quakes {
            let options = MessageOptions::new().header("tenant", "Grüße").header_integer("number", -5_000_000_000);
            let confirmed = self.fluffle.plain.publish_with(quake.clone(), options).await;
            ids.push(confirmed.map_err(|error| format!("not published: {error}"))?.id.to_string());
            labels(&self.tap.take(&self.queue("tap")).await?, SINGLE, None)?;
        }
        let got = self.echo(3).await?;
        same(&got, &ids, &self.quakes)?;
        let headers = |got: &Got| got.text.as_deref() == Some("Grüße") && got.integer == Some(-5_000_000_000);
        if got.iter().all(headers) { Ok(()) } else { Err(format!("headers were lost or changed: {got:?}")) }
    }

    /// The peer asks, and Fluffle answers.
    async fn ask(&mut self) -> Result<(), String> {
        let found = self.peer.run(&format!("ask {}", self.queue("ask"))).await?;
        let wanted = format!("title={}, answered refused={REFUSAL}", self.quakes[0].title);
        equal("what the peer was answered", &wanted, &found)
    }

    /// Fluffle asks, and the peer answers.
    async fn serve(&mut self) -> Result<(), String> {
        let command = format!("serve {} 2", self.queue("serve"));
        let asking = join_all([0, 2].map(|index| self.fluffle.request(&self.quakes[index])));
        let (answers, served) = futures_util::join!(asking, self.peer.run(&command));
        served?;
        match answers.as_slice() {
            [Ok(answer), Err(refused)] => {
                let title = format!("{}, answered", self.quakes[0].title);
                let wanted = Quake { title, ..self.quakes[0].clone() };
                equal("the answer", &wanted, answer)?;
                match refused.kind() {
                    RequestErrorKind::Refused { error, .. } => equal("the refusal", REFUSAL, error),
                    other => Err(format!("the second request is not refused: {other:?}")),
                }
            }
            other => Err(format!("one answer and one refusal were expected: {other:?}")),
        }
    }

    /// Compressed messages, both ways.
    async fn gzip(&mut self) -> Result<(), String> {
        self.send("tap", "1 gzip").await?;
        labels(&self.tap.take(&self.queue("tap")).await?, SINGLE, Some("gzip"))?;
        self.send("in", "3 gzip").await?;
        let got = self.fluffle.next(3).await?;
        same(&got, &["sent-0", "sent-1", "sent-2"], &self.quakes)?;
        let confirmed = self.fluffle.compressed.publish(self.quakes[1].clone()).await;
        let id = confirmed.map_err(|error| format!("not published: {error}"))?.id.to_string();
        labels(&self.tap.take(&self.queue("tap")).await?, SINGLE, Some("gzip"))?;
        same(&self.echo(1).await?, &[id], &self.quakes[1..2])
    }

    /// Batches, both ways, plain and compressed. Items have ids that are made from the id of the batch.
    async fn batch(&mut self) -> Result<(), String> {
        for options in ["3 batch", "3 batch gzip"] {
            let encoding = options.ends_with("gzip").then_some("gzip");
            self.send("tap", options).await?;
            labels(&self.tap.take(&self.queue("tap")).await?, BATCH, encoding)?;
            self.send("in", options).await?;
            let got = self.fluffle.next(3).await?;
            same(&got, &["sent-0/0", "sent-0/1", "sent-0/2"], &self.quakes)?;
        }
        let publishing = self.quakes.iter().map(|quake| self.fluffle.batched.publish(quake.clone()));
        let mut ids = Vec::new();
        for confirmed in join_all(publishing).await {
            ids.push(confirmed.map_err(|error| format!("not published: {error}"))?.id.to_string());
        }
        let seen = self.tap.take(&self.queue("tap")).await?;
        labels(&seen, BATCH, Some("gzip"))?;
        let id = seen.properties.message_id().as_ref().map_or("", |id| id.as_str());
        let wanted: Vec<_> = (0..3).map(|item| format!("{id}/{item}")).collect();
        equal("the ids of the items", &wanted, &ids)?;
        same(&self.echo(3).await?, &ids, &self.quakes)
    }

    /// Dead letters, their headers and their replay.
    async fn letters(&mut self, report: &mut Report) {
        let every_type: Vec<_> =
            every_type().into_iter().filter(|(name, _)| !unreadable(&self.name).contains(name)).collect();
        match self.dead_letter_with(&every_type).await {
            Ok((dead, headers)) => {
                report.add("dead", dead);
                report.add("headers", headers);
            }
            Err(why) => report.add("dead", Err(why)),
        }
        report.add("headers", self.headers_of_the_peer().await);
        report.add("replay", self.replay().await);
    }

    /// A message with a header of every type becomes a dead letter. The peer reads it and puts it back into its queue,
    /// where it fails again, so that it becomes a dead letter for the second time.
    async fn dead_letter_with(
        &mut self,
        sent: &[(&'static str, AMQPValue)],
    ) -> Result<(Result<(), String>, Result<(), String>), String> {
        let mut table = lapin::types::FieldTable::default();
        for (name, value) in sent {
            table.insert((*name).into(), value.clone());
        }
        let properties = BasicProperties::default().with_message_id("letter".into()).with_headers(table);
        let (fail, dead) = (self.queue("fail"), self.queue("fail.dead"));
        self.tap.publish(&fail, &self.quakes[1].encode_to_vec(), properties).await?;
        let found = self.peer.run(&format!("dead {dead}")).await?;
        let count = sent.len();
        let wanted = format!("headers={count} reason=attempts-exhausted attempt=2 origin-queue={fail} error={FAILURE}");
        let outcome = equal("what the peer reads in the dead letter", wanted.as_str(), found.as_str());
        let again = self.tap.take(&dead).await?;
        let headers = again.properties.headers().clone().unwrap_or_default();
        let body = equal("the body of the dead letter", &self.quakes[1].encode_to_vec(), &again.data);
        Ok((outcome.and(body), same_values(sent, &headers)))
    }

    /// Headers that the peer writes are unchanged in a dead letter.
    async fn headers_of_the_peer(&mut self) -> Result<(), String> {
        self.send("tap", "1 headers").await?;
        let sent = self.tap.take(&self.queue("tap")).await?.properties.headers().clone().unwrap_or_default();
        let mut expected = every_type();
        expected.retain(|(name, _)| sent.contains_key(name));
        if expected.len() < 9 {
            return Err(format!("the peer writes only {} of the headers: {sent:?}", expected.len()));
        }
        same_values(&expected, &sent)?;
        self.send("fail", "1 headers").await?;
        let letter = self.tap.look(&self.queue("fail.dead")).await?;
        same_types(&sent, letter.properties.headers().as_ref().unwrap_or(&Default::default()))
    }

    /// The peer puts a dead letter back into its queue, and Fluffle handles it.
    async fn replay(&mut self) -> Result<(), String> {
        self.fluffle.succeed();
        self.peer.run(&format!("dead {}", self.queue("fail.dead"))).await?;
        let got = self.fluffle.next(1).await?;
        same(&got, &["sent-0"], &self.quakes[..1])?;
        equal("the attempt", &1, &got[0].attempt)
    }

    async fn send(&mut self, queue: &str, options: &str) -> Result<(), String> {
        let command = format!("send {} {options}", self.queue(queue));
        self.peer.run(&command).await.map(drop)
    }

    /// The peer consumes so many messages and sends each of them to Fluffle.
    async fn echo(&mut self, count: usize) -> Result<Vec<Got>, String> {
        let command = format!("echo {} {} {count}", self.queue("out"), self.queue("in"));
        self.peer.run(&command).await?;
        self.fluffle.next(count).await
    }
}

fn equal<T: PartialEq + std::fmt::Debug + ?Sized>(what: &str, wanted: &T, found: &T) -> Result<(), String> {
    if wanted == found { Ok(()) } else { Err(format!("{what}: expected {wanted:?}, found {found:?}")) }
}

/// These messages, with these ids, and nothing lost or changed in them.
fn same(got: &[Got], ids: &[impl AsRef<str>], quakes: &[Quake]) -> Result<(), String> {
    let wanted: Vec<_> = ids.iter().map(|id| Some(id.as_ref())).collect();
    let found: Vec<_> = got.iter().map(|got| got.id.as_deref()).collect();
    equal("the ids", &wanted, &found)?;
    let found: Vec<_> = got.iter().map(|got| got.quake.clone()).collect();
    equal("the messages", quakes, &found)
}

/// The labels that docs/WIRE.md asks for.
fn labels(delivery: &Delivery, content_type: &str, content_encoding: Option<&str>) -> Result<(), String> {
    let properties = &delivery.properties;
    let text = |text: &Option<lapin::types::ShortString>| text.as_ref().map(|text| text.as_str().to_owned());
    equal("content_type", &Some(content_type), &text(properties.content_type()).as_deref())?;
    equal("content_encoding", &content_encoding, &text(properties.content_encoding()).as_deref())?;
    equal("type", &Some(TYPE), &text(properties.kind()).as_deref())?;
    equal("gzip's first bytes", &content_encoding.is_some(), &delivery.data.starts_with(&[0x1F, 0x8B]))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{peer::tests::place, report::STEPS};

    #[actix::test]
    async fn a_peer_that_only_says_ok_fails_every_step() {
        let script = "while read line; do echo ok; done";
        let (_folder, place) = place("echo ok 0 vectors", script, Duration::from_millis(200));
        let broker = fluffle::broker::Broker::start().unwrap();
        let report = run("sh", "embedded", &broker.url(), &place).await;
        for step in STEPS.iter().filter(|step| **step != "vectors") {
            let failures: Vec<_> = report.failures().filter(|(name, _)| name == step).collect();
            assert!(!failures.is_empty(), "{step} did not fail: {report}");
        }
    }

    #[test]
    fn another_id_and_another_message_are_seen() {
        let quake = Quake { id: "a".into(), ..Quake::default() };
        let got = || Got { id: Some("1".into()), quake: quake.clone(), attempt: 1, text: None, integer: None };
        assert_eq!(same(&[got()], &["1"], std::slice::from_ref(&quake)), Ok(()));
        assert!(same(&[got()], &["2"], std::slice::from_ref(&quake)).is_err());
        assert!(same(&[got()], &["1"], &[Quake::default()]).is_err());
        assert!(same(&[got(), got()], &["1"], std::slice::from_ref(&quake)).is_err());
    }

    #[test]
    fn labels_that_are_missing_or_wrong_are_seen() {
        let delivery = |properties, data: &[u8]| {
            let mut delivery = Delivery::mock(0, "".into(), "".into(), false, data.to_vec());
            delivery.properties = properties;
            delivery
        };
        let right = BasicProperties::default().with_content_type(SINGLE.into()).with_type(TYPE.into());
        assert_eq!(labels(&delivery(right.clone(), b"x"), SINGLE, None), Ok(()));
        assert!(labels(&delivery(BasicProperties::default(), b"x"), SINGLE, None).is_err());
        assert!(labels(&delivery(right.clone(), b"x"), BATCH, None).is_err());
        assert!(labels(&delivery(right.clone().with_type("a".into()), b"x"), SINGLE, None).is_err());
        let gzip = right.with_content_encoding("gzip".into());
        assert!(labels(&delivery(gzip.clone(), b"x"), SINGLE, Some("gzip")).is_err());
        assert_eq!(labels(&delivery(gzip, &[0x1F, 0x8B]), SINGLE, Some("gzip")), Ok(()));
    }
}
