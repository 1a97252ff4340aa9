//! Medians and ratios, and the JSON object with them.

use serde::{Serialize, Serializer};

use crate::{
    contestant::Contestant, figures::Figures, machine::Machine, rounds::Results, scenario::Scenario, targets::Headline,
};

/// The contestants that are always listed in the object, even if they did not take part.
const REGULARS: [Contestant; 5] =
    [Contestant::LapinNaive, Contestant::LapinTuned, Contestant::Amqprs, Contestant::Ruststream, Contestant::Fluffle];

/// The result of a comparison, as printed by `--json`.
#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) scenario: &'static str,
    pub(crate) rounds: usize,
    pub(crate) payload_bytes: usize,
    pub(crate) contestants: InOrder<Option<Medians>>,
    pub(crate) ratios: InOrder<Median>,
    pub(crate) machine: Machine,
}

/// An object whose keys keep their order.
pub(crate) struct InOrder<T>(pub(crate) Vec<(String, T)>);

/// The figures of one contestant over all rounds. Values that do not apply are null.
#[derive(Serialize)]
pub(crate) struct Medians {
    pub(crate) msgs_per_s: Median,
    pub(crate) mb_per_s: Median,
    pub(crate) client_cpu_us_per_msg: Median,
    pub(crate) broker_cpu_us_per_msg: Option<Median>,
    pub(crate) p50_us: Option<Median>,
    pub(crate) p99_us: Option<Median>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) wire_bytes_per_msg: Option<Median>,
}

/// A median, and its range; in JSON only the median.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Median {
    pub(crate) least: f64,
    pub(crate) median: f64,
    pub(crate) most: f64,
}

impl Report {
    pub(crate) fn new(scenario: Scenario, payload_bytes: usize, results: &Results, machine: Machine) -> Self {
        let medians = |contestant: Contestant| {
            let figures = results.iter().find(|(other, _)| *other == contestant);
            figures.and_then(|(_, rounds)| Medians::of(rounds))
        };
        let guests = results.iter().map(|(contestant, _)| *contestant).filter(|guest| !REGULARS.contains(guest));
        let contestants = REGULARS.into_iter().chain(guests).map(|who| (who.name().into(), medians(who))).collect();
        Self {
            scenario: scenario.name(),
            rounds: results.first().map_or(0, |(_, rounds)| rounds.len()),
            payload_bytes,
            contestants: InOrder(contestants),
            ratios: InOrder(ratios(scenario, results)),
            machine,
        }
    }
}

impl Report {
    /// The median of the ratio of this name.
    pub(crate) fn ratio(&self, name: &str) -> Option<f64> {
        self.ratios.0.iter().find(|(other, _)| other == name).map(|(_, ratio)| ratio.median)
    }

    /// The processor time of the client, in µs per message.
    pub(crate) fn client_cpu(&self, who: Contestant) -> Option<f64> {
        let (_, medians) = self.contestants.0.iter().find(|(name, _)| name == who.name())?;
        Some(medians.as_ref()?.client_cpu_us_per_msg.median)
    }
}

impl Medians {
    pub(crate) fn of(rounds: &[Figures]) -> Option<Self> {
        let median = |field: fn(&Figures) -> Option<f64>| Median::of(rounds.iter().filter_map(field).collect());
        Some(Self {
            msgs_per_s: median(|figures| Some(figures.msgs_per_s))?,
            mb_per_s: median(|figures| Some(figures.mb_per_s))?,
            client_cpu_us_per_msg: median(|figures| Some(figures.client_cpu_us_per_msg))?,
            broker_cpu_us_per_msg: median(|figures| figures.broker_cpu_us_per_msg),
            p50_us: median(|figures| figures.p50_us),
            p99_us: median(|figures| figures.p99_us),
            wire_bytes_per_msg: median(|figures| figures.wire_bytes_per_msg),
        })
    }
}

impl Median {
    /// `None` without values.
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) };
        Some(Self { least, median, most })
    }
}

/// The ratios of Fluffle to each of the others, in the figures that matter for the scenario. Each is the median of the
/// ratios in each round, because a slow phase of the machine slows down a whole round.
fn ratios(scenario: Scenario, results: &Results) -> Vec<(String, Median)> {
    let mut ratios = Vec::new();
    for (ours, our_rounds) in results.iter().filter(|(who, _)| who.is_ours()) {
        for (theirs, their_rounds) in results.iter().filter(|(who, _)| who.is_compared_with(*ours)) {
            for headline in Headline::of(scenario) {
                let pairs = our_rounds.iter().zip(their_rounds);
                let quotients = pairs.filter_map(|(our, their)| Some(headline.read(our)? / headline.read(their)?));
                let name = format!("{}/{}{}", ours.name(), theirs.name(), headline.suffix());
                ratios.extend(Median::of(quotients.collect()).map(|median| (name, median)));
            }
        }
    }
    ratios
}

impl<T: Serialize> Serialize for InOrder<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

impl Serialize for Median {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // More than three decimals would be meaningless.
        serializer.serialize_f64((self.median * 1000.0).round() / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn figures(msgs_per_s: f64, p50_us: Option<f64>) -> Figures {
        Figures {
            messages: 1000,
            msgs_per_s,
            mb_per_s: msgs_per_s / 1e4,
            client_cpu_us_per_msg: 20.0,
            broker_cpu_us_per_msg: None,
            p50_us,
            p99_us: p50_us.map(|p50| p50 * 3.0),
            wire_bytes_per_msg: None,
        }
    }

    fn json(scenario: Scenario, results: &Results) -> Value {
        serde_json::to_value(Report::new(scenario, 100, results, Machine::default())).unwrap()
    }

    fn rounds(rates: [f64; 3]) -> Vec<Figures> {
        rates.map(|rate| figures(rate, None)).to_vec()
    }

    #[test]
    fn a_median_is_in_the_middle() {
        let of = |values: &[f64]| Median::of(values.to_vec()).map(|median| median.median);
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[3.0]), Some(3.0));
        assert_eq!(of(&[9.0, 1.0, 4.0]), Some(4.0));
        assert_eq!(of(&[9.0, 1.0, 4.0, 5.0]), Some(4.5));
        assert_eq!(Median::of(vec![9.0, 1.0, 4.0]), Some(Median { least: 1.0, median: 4.0, most: 9.0 }));
    }

    #[test]
    fn a_ratio_is_the_median_of_the_ratios_of_each_round() {
        // The machine was slow in the second round, for both contestants.
        let results = vec![
            (Contestant::LapinTuned, rounds([40.0, 10.0, 50.0])),
            (Contestant::Fluffle, rounds([40.0, 20.0, 60.0])),
        ];
        let found = ratios(Scenario::Single, &results);
        assert_eq!(found, [("fluffle/lapin_tuned".into(), Median { least: 1.0, median: 1.2, most: 2.0 })]);
    }

    #[test]
    fn the_object_has_exactly_the_promised_keys() {
        let report = json(
            Scenario::Single,
            &vec![(Contestant::LapinNaive, rounds([1.0, 2.0, 3.0])), (Contestant::Fluffle, rounds([4.0; 3]))],
        );
        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&report), ["contestants", "machine", "payload_bytes", "ratios", "rounds", "scenario"]);
        assert_eq!(keys(&report["contestants"]), ["amqprs", "fluffle", "lapin_naive", "lapin_tuned", "ruststream"]);
        assert_eq!(
            report["contestants"]["lapin_naive"],
            json!({"msgs_per_s": 2.0, "mb_per_s": 0.0, "client_cpu_us_per_msg": 20.0, "broker_cpu_us_per_msg": null,
                   "p50_us": null, "p99_us": null})
        );
        assert_eq!(report["contestants"]["amqprs"], Value::Null);
        assert_eq!(report["ratios"], json!({"fluffle/lapin_naive": 2.0}));
        assert_eq!((&report["scenario"], &report["rounds"]), (&json!("single"), &json!(3)));
        assert_eq!(report["payload_bytes"], json!(100));
    }

    #[test]
    fn latency_is_compared_by_both_percentiles() {
        let results = vec![
            (Contestant::LapinTuned, vec![figures(2000.0, Some(500.0))]),
            (Contestant::Fluffle, vec![figures(2000.0, Some(600.0))]),
        ];
        let report = json(Scenario::Latency, &results);
        assert_eq!(report["ratios"], json!({"fluffle/lapin_tuned": 1.2, "fluffle/lapin_tuned p99": 1.2}));
    }

    #[test]
    fn a_journal_is_compared_with_the_same_publisher_without_one() {
        let results = vec![
            (Contestant::LapinTuned, rounds([8.0; 3])),
            (Contestant::Fluffle, rounds([4.0; 3])),
            (Contestant::FluffleJournaled, rounds([2.0; 3])),
        ];
        let names: Vec<String> = ratios(Scenario::Journal, &results).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["fluffle/lapin_tuned", "fluffle_journaled/lapin_tuned", "fluffle_journaled/fluffle"]);
    }
}
