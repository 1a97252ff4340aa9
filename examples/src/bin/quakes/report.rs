//! The result of a run: tables, and one line of counts.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::PoisonError,
    time::Duration,
};

use examples::{say, table};
use fluffle::{Error, prelude::Gzip, supervise::NodeSnapshot, wire::Wire};
use protos::usgs::Quake;

use crate::handlers::{Desk, Ledger};

/// How one handler handled its messages.
pub(crate) struct Outcome {
    queue: &'static str,
    handled: usize,
    lost: usize,
    duplicates: usize,
    restarts: u64,
    p50: Duration,
    p99: Duration,
}

impl Outcome {
    /// Computes the outcome for the messages with these ids.
    pub(crate) fn new(queue: &'static str, ids: &BTreeSet<String>, desk: &Desk, tree: &NodeSnapshot) -> Self {
        let lost = desk.seen.missing(ids);
        let took = desk.took.lock().unwrap_or_else(PoisonError::into_inner);
        let supervisor = tree.find(&format!("app/handlers/{queue}"));
        Self {
            queue,
            handled: ids.len() - lost,
            lost,
            duplicates: desk.seen.repeats(),
            restarts: supervisor.map_or(0, |node| node.children.iter().map(|actor| actor.restarts).sum()),
            p50: Duration::from_micros(took.value_at_quantile(0.5)),
            p99: Duration::from_micros(took.value_at_quantile(0.99)),
        }
    }

    fn row(&self) -> Vec<String> {
        let [p50, p99] = [self.p50, self.p99].map(|took| format!("{:.1} ms", took.as_secs_f64() * 1000.0));
        let counts = [self.handled as u64, self.lost as u64, self.duplicates as u64, self.restarts];
        let [handled, lost, duplicates, restarts] = counts.map(|count| count.to_string());
        vec![self.queue.to_owned(), handled, p50, p99, restarts, duplicates, lost]
    }
}

/// The whole run. `Display` is its last line.
pub(crate) struct Report {
    pub(crate) published: usize,
    pub(crate) confirmed: usize,
    /// The outcomes of regions, archive, alerts and siren.
    pub(crate) outcomes: [Outcome; 4],
    pub(crate) took: Duration,
}

impl Report {
    /// Prints the tables.
    pub(crate) fn print(&self, quakes: &[Quake], ledger: &Ledger) -> Result<(), Error> {
        let ledger: BTreeMap<_, _> = ledger.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut regions: Vec<_> = ledger.into_iter().collect();
        regions.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
        let rows = regions.into_iter().map(|(network, (count, largest))| {
            vec![network, count.to_string(), format!("{:.1}", largest.magnitude()), largest.place]
        });
        say(table(&["network", "quakes", "largest", "where"], rows));

        let heads = ["queue", "handled", "p50", "p99", "restarts", "duplicates", "lost"];
        say(table(&heads, self.outcomes.iter().map(Outcome::row)));
        println!("p50, p99: from the publisher to the end of the handler, the wait in the queue included.");

        say(table(&["one week of quakes as", "bytes", "of Protobuf"], sizes(quakes)?));
        let handled: usize = self.outcomes.iter().map(|outcome| outcome.handled).sum();
        let rate = handled as f64 / self.took.as_secs_f64();
        println!("{handled} messages handled in {:.2} s, {rate:.0} a second.", self.took.as_secs_f64());
        Ok(())
    }

    /// Whether every count is as expected.
    pub(crate) fn is_clean(&self) -> bool {
        let whole = self.outcomes.iter().all(|outcome| outcome.lost == 0 && outcome.duplicates == 0);
        whole && self.confirmed == self.published
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { published, confirmed, outcomes, .. } = self;
        let [regions, archive, _, siren] = outcomes;
        let lost: usize = outcomes.iter().map(|outcome| outcome.lost).sum();
        let duplicates: usize = outcomes.iter().map(|outcome| outcome.duplicates).sum();
        let restarts: u64 = outcomes.iter().map(|outcome| outcome.restarts).sum();
        write!(
            f,
            "quakes: published={published} confirmed={confirmed} alerts={} regions={} archive={} lost={lost} \
             duplicates={duplicates} restarts={restarts}",
            siren.handled, regions.handled, archive.handled
        )
    }
}

/// The sizes of the same quakes in several encodings.
fn sizes(quakes: &[Quake]) -> Result<Vec<Vec<String>>, Error> {
    let each = |wire: Wire<Quake>| -> Result<usize, Error> {
        let bodies = quakes.iter().map(|quake| wire.encode(quake).map(|encoded| encoded.body.len()));
        bodies.sum::<Result<usize, _>>().map_err(Error::other)
    };
    let batched = |wire: Wire<Quake>| -> Result<usize, Error> {
        let bodies = quakes.chunks(100).map(|batch| wire.encode_batch(batch).map(|encoded| encoded.body.len()));
        bodies.sum::<Result<usize, _>>().map_err(Error::other)
    };
    let protobuf = each(Wire::protobuf())?;
    let rows = [
        ("Protobuf, one a message", protobuf),
        ("Protobuf, one a message, gzip (sent)", each(Wire::protobuf().gzip(Gzip::on()))?),
        ("Protobuf, a hundred a message, gzip", batched(Wire::protobuf().gzip(Gzip::on()))?),
        ("JSON, one a message", each(Wire::json())?),
        ("JSON, one a message, gzip", each(Wire::json().gzip(Gzip::on()))?),
    ];
    let row = |(form, bytes): (&str, usize)| {
        vec![form.to_owned(), bytes.to_string(), format!("{:.0} %", 100.0 * bytes as f64 / protobuf as f64)]
    };
    Ok(rows.map(row).into())
}
