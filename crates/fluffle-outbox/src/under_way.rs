//! The rows that a relay has claimed and is publishing.

use std::{collections::BTreeMap, future::Future, time::Duration};

use futures_util::{FutureExt, StreamExt, future::LocalBoxFuture, pin_mut, stream::FuturesUnordered};
use tokio::{sync::watch, task::unconstrained, time::sleep};

use crate::{
    error::RelayError,
    outcome::Outcome,
    rows::{Claim, Row},
    shared::Shared,
};

/// How long a relay that must stop waits for the confirms of what it has published.
const GRACE: Duration = Duration::from_secs(8);

/// The rows that one incarnation of a relay has claimed and whose outcomes it does not know yet. Each outcome goes into
/// [`Shared::unmarked`] when it comes.
pub(crate) struct UnderWay<'a> {
    relay: &'a Shared,
    /// Each row's id, and the bytes of its message.
    rows: BTreeMap<i64, usize>,
    bytes: usize,
    publishing: FuturesUnordered<LocalBoxFuture<'a, (i64, Outcome)>>,
    /// About the outcomes that have come since rows were last claimed.
    told: Told,
}

/// Whether outcomes have come, and whether one of them is that the broker accepted a message.
#[derive(Clone, Copy, Default)]
struct Told {
    any: bool,
    accepted: bool,
}

impl<'a> UnderWay<'a> {
    pub(crate) fn new(relay: &'a Shared) -> Self {
        let (rows, publishing) = (BTreeMap::new(), FuturesUnordered::new());
        Self { relay, rows, bytes: 0, publishing, told: Told::default() }
    }

    /// Whether rows may be claimed. Beside others that are under way, only if there is room for as many as are claimed
    /// at a time, and if the broker has accepted a message since the last claim. While it accepts none, all that are
    /// under way come back to the table, and are then claimed again in their order.
    pub(crate) fn has_room(&self) -> bool {
        let (most, half) = (self.relay.limits, self.relay.limits.half());
        let fits = self.rows.len() + half.rows <= most.rows && self.bytes + half.bytes <= most.bytes;
        self.rows.is_empty() || fits && self.told.accepted
    }

    /// Marks what is over, and claims and publishes others. Returns whether there were any.
    pub(crate) async fn claim(&mut self) -> Result<bool, RelayError> {
        let relay = self.relay;
        let claim = Claim {
            relay: &relay.claimant,
            limits: relay.limits.half(),
            is_larger_allowed: self.rows.is_empty(),
            except: self.rows.keys().copied().collect(),
        };
        let told = std::mem::take(&mut self.told);
        let rows = self.meanwhile(relay.mark_and_claim(&claim)).await?;
        if rows.is_empty() {
            self.told.any |= told.any;
            self.told.accepted |= told.accepted;
            return Ok(false);
        }
        self.publish(rows);
        Ok(true)
    }

    /// Publishes these rows in order, behind those that are under way.
    fn publish(&mut self, rows: Vec<Row>) {
        for row in rows {
            self.bytes += row.message.len();
            self.rows.insert(row.id, row.message.len());
            // Each publish is polled once before the next is made, because the forwarder keeps the order of the first
            // polls. Unconstrained, because past some dozens of polls tokio's budget would return pending before the
            // forwarder sees the poll.
            let mut published = unconstrained(self.relay.forward(row)).boxed_local();
            match (&mut published).now_or_never() {
                Some((id, outcome)) => self.note(id, outcome),
                None => self.publishing.push(published),
            }
        }
    }

    /// Whether all are over, and the broker accepted none of those that were claimed last.
    pub(crate) fn is_over_in_vain(&self) -> bool {
        self.rows.is_empty() && self.told.any && !self.told.accepted
    }

    /// Rows may be claimed again although the broker accepted none of the last ones.
    pub(crate) fn try_again(&mut self) {
        self.told = Told::default();
    }

    /// Does this work while the rows are published.
    pub(crate) async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> T {
        pin_mut!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                Some((id, outcome)) = self.publishing.next() => self.note(id, outcome),
            }
        }
    }

    /// Waits until there is something to do: all are over and must be marked, or the table has more rows and there is
    /// room for them. Cancellation safe.
    pub(crate) async fn progress(&mut self, are_there_more: bool) {
        while !(self.is_over() || are_there_more && self.has_room()) {
            match self.publishing.next().await {
                Some((id, outcome)) => self.note(id, outcome),
                None => std::future::pending().await,
            }
        }
    }

    /// Whether the outcomes of all are known, and are not in the table yet.
    fn is_over(&self) -> bool {
        self.rows.is_empty() && !self.relay.unmarked().is_empty()
    }

    /// Waits until all are over; once the relay must stop, only for a while. Then the rest goes back to the table.
    pub(crate) async fn finish(&mut self, stop: &mut watch::Receiver<bool>) {
        let patience = async {
            // An error means that the actor is gone, which is a reason to stop, too.
            let _ = stop.wait_for(|asked| *asked).await;
            sleep(GRACE).await;
        };
        pin_mut!(patience);
        loop {
            tokio::select! {
                biased;
                over = self.publishing.next() => match over {
                    Some((id, outcome)) => self.note(id, outcome),
                    None => break,
                },
                () = &mut patience => break,
            }
        }
        // Dropping a publish withdraws its message if it is not on the wire yet.
        self.publishing.clear();
        self.bytes = 0;
        let rest = std::mem::take(&mut self.rows);
        self.relay.unmarked().extend(rest.into_keys().map(|id| (id, Outcome::Again)));
    }

    fn note(&mut self, id: i64, outcome: Outcome) {
        self.told.any = true;
        self.told.accepted |= outcome == Outcome::Published;
        self.bytes -= self.rows.remove(&id).unwrap_or(0);
        self.relay.unmarked().push((id, outcome));
    }
}
