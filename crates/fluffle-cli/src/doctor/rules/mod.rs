//! The rules: what is wrong with a broker, by what the management API tells of it.

use crate::doctor::{args::DoctorArgs, finding::Report, routes::Routes, snapshot::Snapshot};

pub(crate) mod broker;
mod clients;
mod dead_letters;
mod nodes;
mod orphans;
pub(crate) mod queues;
#[cfg(test)]
mod tests;

/// Applies every rule. `now` is the time in milliseconds since 1970.
pub(crate) fn check(snapshot: &Snapshot, args: &DoctorArgs, now: u64, report: &mut Report) {
    let routes = Routes::new(snapshot);
    let graveyards = queues::graveyards(snapshot, &routes);
    nodes::check(snapshot, report);
    broker::check(snapshot, report);
    clients::check(snapshot, args, now, report);
    orphans::check(snapshot, now, report);
    queues::check(snapshot, &graveyards, &routes, args, report);
    dead_letters::check(snapshot, &graveyards, &routes, report);
}
