//! How many messages arrive in each second of a week.

use std::f64::consts::PI;

use fastrand::Rng;
use serde::Deserialize;

use crate::failure::Failure;

/// All earthquakes of one week, see examples/data/README.md.
const QUAKES: &str = include_str!("../../../../examples/data/earthquakes.json");

pub(crate) const WEEK: usize = 7 * 24 * 3600;

/// What comes in, and how hard it is to handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workload {
    DayAndNight,
    Earthquakes,
    SlowDatabase,
}

impl Workload {
    pub(crate) const ALL: [Self; 3] = [Self::DayAndNight, Self::Earthquakes, Self::SlowDatabase];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::DayAndNight => "day and night",
            Self::Earthquakes => "earthquakes",
            Self::SlowDatabase => "slow database",
        }
    }

    pub(crate) fn about(self) -> &'static str {
        match self {
            Self::DayAndNight => "40 messages/s at midnight, 1,200 at noon",
            Self::Earthquakes => {
                "40 messages/s, and for each of the week's 1,707 earthquakes 60 x 4^magnitude reports, half of them \
                 within 42 s"
            }
            Self::SlowDatabase => "as day and night; from 14 to 16 o'clock each message takes four times as long",
        }
    }

    /// How many times longer a message takes in this second.
    pub(crate) fn slowness(self, second: usize) -> f64 {
        let hour = second / 3600 % 24;
        if self == Self::SlowDatabase && (14..16).contains(&hour) { 4.0 } else { 1.0 }
    }

    /// The messages of each second.
    pub(crate) fn arrivals(self, seed: u64) -> Result<Vec<u64>, Failure> {
        let mut rng = Rng::with_seed(seed);
        let rates = match self {
            Self::Earthquakes => earthquakes()?,
            _ => (0..WEEK).map(day_and_night).collect(),
        };
        Ok(rates.into_iter().map(|rate| poisson(rate, &mut rng)).collect())
    }
}

fn day_and_night(second: usize) -> f64 {
    let hour = second as f64 / 3600.0;
    40.0 + 1160.0 * (PI * hour / 24.0).sin().powi(2)
}

#[derive(Deserialize)]
struct Collection {
    features: Vec<Feature>,
}

#[derive(Deserialize)]
struct Feature {
    properties: Quake,
}

#[derive(Deserialize)]
struct Quake {
    /// Some small ones have none.
    mag: Option<f64>,
    /// Milliseconds since 1970.
    time: u64,
}

/// Reports of an earthquake come with a rate that decays with this time constant, in seconds.
const DECAY: f64 = 60.0;

fn earthquakes() -> Result<Vec<f64>, Failure> {
    let quakes: Vec<Quake> =
        serde_json::from_str::<Collection>(QUAKES)?.features.into_iter().map(|feature| feature.properties).collect();
    let first = quakes.iter().map(|quake| quake.time).min().unwrap_or_default();
    let mut new = vec![0.0; WEEK];
    for quake in quakes {
        let second = usize::try_from((quake.time - first) / 1000)?;
        if let Some(reports) = new.get_mut(second) {
            *reports += 60.0 * 4_f64.powf(quake.mag.unwrap_or_default());
        }
    }
    // Exponential decay of what has come so far.
    let (mut pending, keep) = (0.0, (-1.0 / DECAY).exp());
    Ok(new
        .into_iter()
        .map(|reports| {
            pending += reports;
            let now = pending * (1.0 - keep);
            pending *= keep;
            40.0 + now
        })
        .collect())
}

/// A number with a Poisson distribution, by Knuth's method for small rates and as a rounded normal distribution for
/// others.
fn poisson(rate: f64, rng: &mut Rng) -> u64 {
    if rate > 50.0 {
        let normal = (-2.0 * (1.0 - rng.f64()).ln()).sqrt() * (2.0 * PI * rng.f64()).cos();
        return (rate + rate.sqrt() * normal).round().max(0.0) as u64;
    }
    let (limit, mut product, mut count) = ((-rate).exp(), rng.f64(), 0);
    while product > limit {
        product *= rng.f64();
        count += 1;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_week() {
        for workload in Workload::ALL {
            let week = workload.arrivals(7).unwrap();
            assert_eq!(week.len(), WEEK);
            assert_eq!(week, workload.arrivals(7).unwrap());
            assert_ne!(week, workload.arrivals(8).unwrap());
        }
    }

    #[test]
    fn every_earthquake_brings_its_reports() {
        let sum: f64 = earthquakes().unwrap().iter().map(|rate| rate - 40.0).sum();
        let quakes: Collection = serde_json::from_str(QUAKES).unwrap();
        let expected: f64 =
            quakes.features.iter().map(|it| 60.0 * 4_f64.powf(it.properties.mag.unwrap_or_default())).sum();
        assert!((sum / expected - 1.0).abs() < 0.01, "{sum} of {expected}");
    }
}
