//! What is measured, as it is at one moment: for adapters and renderers of your own.

use std::collections::BTreeMap;

use crate::{instrument::histogram::Counts, names::Name};

/// One metric, with the values of all its label sets.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Family {
    /// Its name, kind, unit and labels.
    pub name: &'static Name,
    /// Its values. Never empty.
    pub points: Vec<Point>,
}

/// The value of one label set of a metric.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Point {
    /// The values of the labels, in the order of [`Name::labels`].
    pub labels: Vec<Box<str>>,
    /// The value.
    pub value: Value,
}

/// A value of a metric.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// Of a counter.
    Count(u64),
    /// Of a gauge, or of a counter of seconds.
    Number(f64),
    /// Of a histogram.
    Counts(Counts),
}

/// Collects values, whatever the order in which they come, into families in the order of [`crate::names::ALL`].
#[derive(Default)]
pub(crate) struct Reading(BTreeMap<usize, Vec<Point>>);

impl Reading {
    pub(crate) fn count(&mut self, name: &'static Name, labels: &[&str], value: u64) {
        self.push(name, labels, Value::Count(value));
    }

    pub(crate) fn number(&mut self, name: &'static Name, labels: &[&str], value: f64) {
        self.push(name, labels, Value::Number(value));
    }

    #[allow(clippy::cast_precision_loss, reason = "numbers of messages and bytes are far below 2^53")]
    pub(crate) fn amount(&mut self, name: &'static Name, labels: &[&str], value: usize) {
        self.number(name, labels, value as f64);
    }

    pub(crate) fn counts(&mut self, name: &'static Name, labels: &[&str], value: Counts) {
        self.push(name, labels, Value::Counts(value));
    }

    fn push(&mut self, name: &'static Name, labels: &[&str], value: Value) {
        debug_assert_eq!(labels.len(), name.labels.len(), "{}", name.prometheus);
        let place = crate::names::place_of(name);
        let labels = labels.iter().copied().map(Box::from).collect();
        self.0.entry(place).or_default().push(Point { labels, value });
    }

    pub(crate) fn families(self) -> Vec<Family> {
        let named = |(place, points)| Some(Family { name: crate::names::ALL.get(place).copied()?, points });
        self.0.into_iter().filter_map(named).collect()
    }
}
