//! Reads the week of earthquakes from GeoJSON, and converts it to Protobuf.

use fluffle::Error;
use prost_types::Timestamp;
use protos::usgs::{AlertLevel, Location, Quake, ReviewStatus};
use serde::Deserialize;

/// The smallest magnitude that causes an alert.
pub const ALERT_FROM: f64 = 4.5;

#[derive(Deserialize)]
struct Feed {
    features: Vec<Feature>,
}

#[derive(Deserialize)]
struct Feature {
    id: String,
    properties: Properties,
    geometry: Geometry,
}

#[derive(Deserialize)]
struct Geometry {
    /// Longitude, latitude, depth in kilometres.
    coordinates: [f64; 3],
}

/// As <https://earthquake.usgs.gov/earthquakes/feed/v1.0/geojson.php> describes them.
#[derive(Deserialize)]
struct Properties {
    mag: Option<f64>,
    place: String,
    time: i64,
    updated: i64,
    url: String,
    felt: Option<u32>,
    cdi: Option<f64>,
    mmi: Option<f64>,
    alert: Option<String>,
    status: String,
    tsunami: u32,
    sig: u32,
    net: String,
    code: String,
    nst: Option<u32>,
    dmin: Option<f64>,
    rms: Option<f64>,
    gap: Option<f64>,
    #[serde(rename = "magType")]
    mag_type: String,
    #[serde(rename = "type")]
    kind: String,
    title: String,
}

/// Returns all events of the week.
pub fn read() -> Result<Vec<Quake>, Error> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/data/earthquakes.json");
    let text = std::fs::read(path).map_err(|error| Error::other(format!("{path}: {error}")))?;
    let feed: Feed = serde_json::from_slice(&text).map_err(|error| Error::other(format!("{path}: {error}")))?;
    Ok(feed.features.into_iter().map(quake).collect())
}

fn quake(Feature { id, properties, geometry }: Feature) -> Quake {
    let [longitude, latitude, depth_km] = geometry.coordinates;
    let status = match properties.status.as_str() {
        "automatic" => ReviewStatus::Automatic,
        "reviewed" => ReviewStatus::Reviewed,
        _ => ReviewStatus::Unspecified,
    };
    let alert_level = match properties.alert.as_deref() {
        Some("green") => AlertLevel::Green,
        Some("yellow") => AlertLevel::Yellow,
        Some("orange") => AlertLevel::Orange,
        Some("red") => AlertLevel::Red,
        _ => AlertLevel::Unspecified,
    };
    Quake {
        id,
        magnitude: properties.mag,
        place: properties.place,
        event_time: Some(timestamp(properties.time)),
        update_time: Some(timestamp(properties.updated)),
        network: properties.net,
        code: properties.code,
        location: Some(Location { latitude, longitude, depth_km }),
        status: status.into(),
        event_type: properties.kind,
        tsunami: properties.tsunami != 0,
        significance: properties.sig,
        magnitude_type: properties.mag_type,
        felt_reports: properties.felt,
        reported_intensity: properties.cdi,
        instrumental_intensity: properties.mmi,
        alert_level: alert_level.into(),
        station_count: properties.nst,
        nearest_station_degrees: properties.dmin,
        rms_seconds: properties.rms,
        azimuthal_gap_degrees: properties.gap,
        title: properties.title,
        url: properties.url,
    }
}

fn timestamp(milliseconds: i64) -> Timestamp {
    let nanos = milliseconds.rem_euclid(1000) as i32 * 1_000_000;
    Timestamp { seconds: milliseconds.div_euclid(1000), nanos }
}

/// The survey's class of the quake's magnitude.
pub fn class(quake: &Quake) -> &'static str {
    match quake.magnitude {
        None => "unknown",
        Some(magnitude) if magnitude < 3.0 => "micro",
        Some(magnitude) if magnitude < 4.0 => "minor",
        Some(magnitude) if magnitude < 5.0 => "light",
        Some(magnitude) if magnitude < 6.0 => "moderate",
        Some(magnitude) if magnitude < 7.0 => "strong",
        Some(magnitude) if magnitude < 8.0 => "major",
        Some(_) => "great",
    }
}

/// `quake.<class>.<network>`, such as `quake.light.us`.
pub fn routing_key(quake: &Quake) -> String {
    format!("quake.{}.{}", class(quake), quake.network)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use fluffle::{
        prelude::Gzip,
        wire::{EncodeErrorKind, Wire},
    };

    use super::*;

    /// The size of the encoded quakes: as sent, and before gzip.
    fn packed(quakes: &[Quake], gzip: Gzip) -> (usize, usize) {
        let wire = Wire::protobuf().gzip(gzip);
        let mut batch = wire.batch().at_most(64 * 1024, 10_000);
        let mut envelopes = Vec::new();
        for quake in quakes {
            match batch.push(quake) {
                Err(full) if full.kind() == EncodeErrorKind::BatchFull => {
                    envelopes.push(batch.finish().unwrap());
                    batch.push(quake).unwrap();
                }
                pushed => pushed.unwrap(),
            }
        }
        envelopes.push(batch.finish().unwrap());
        (envelopes.iter().map(|sent| sent.body.len()).sum(), envelopes.iter().map(|sent| sent.raw_len).sum())
    }

    #[test]
    fn the_week_in_batches_takes_less_than_four_tenths_of_the_wire_with_gzip() {
        let week = read().unwrap();
        let (sent, raw) = packed(&week, Gzip::auto());
        assert!(sent * 1000 < raw * 385, "{sent} of {raw} bytes");
        assert_eq!(packed(&week, Gzip::Off), (raw, raw));
    }
}
