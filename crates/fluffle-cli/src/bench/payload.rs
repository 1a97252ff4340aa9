//! The payloads of the messages. The same seed, stream and number always give the same bytes, so that a receiver can
//! check that they are the ones that were sent.

use std::{fs, path::Path};

use bytes::Bytes;
use fastrand::Rng;

use crate::{
    bench::args::PayloadSource,
    bench::message::{SMALLEST, payload_len},
    common::failure::Failure,
    units::Sizes,
};

/// Random and compressible payloads are slices of a pool; this is its smallest size, in bytes.
const POOL: usize = 1 << 20;

/// The largest file of records, in bytes. Limited because it is kept in memory.
const LARGEST_FILE: u64 = 1 << 30;

/// The largest message, in bytes: the framework's own limit.
const LARGEST: usize = 16 << 20;

/// The source of payloads.
pub(crate) struct Payload {
    seed: u64,
    source: Source,
}

enum Source {
    /// Slices of a pool, with the sizes of the messages.
    Cut { pool: Bytes, sizes: Sizes },
    /// The lines of a file, in order.
    Records(Vec<Bytes>),
}

impl Payload {
    /// Makes the pool, or reads the file.
    pub(crate) fn new(source: &PayloadSource, sizes: &Sizes, seed: u64) -> Result<Self, Failure> {
        if *sizes.0.start() < SMALLEST {
            return Err(Failure::new(format!(
                "--size {sizes}: a message takes at least {SMALLEST} bytes, because it carries its producer, its \
                 number and the time at which it was due"
            )));
        }
        if *sizes.0.end() > LARGEST {
            return Err(Failure::new(format!("--size {sizes}: a message takes at most 16 MiB")));
        }
        let mut random = Rng::with_seed(seed);
        let len = POOL.max(2 * sizes.0.end());
        let source = match source {
            PayloadSource::Random => Source::Cut { pool: noise(&mut random, len), sizes: sizes.clone() },
            PayloadSource::Compressible => Source::Cut { pool: text(&mut random, len), sizes: sizes.clone() },
            PayloadSource::File(path) => Source::Records(records(path)?),
        };
        Ok(Self { seed, source })
    }

    /// The payload of this message. Cheap, because it shares the pool's memory.
    pub(crate) fn of(&self, stream: u32, sequence: u64) -> Bytes {
        match &self.source {
            Source::Cut { pool, sizes } => {
                let draw = mixed(self.seed ^ (u64::from(stream) << 40) ^ sequence);
                let (least, most) = (*sizes.0.start() as u64, *sizes.0.end() as u64);
                // One half of the draw gives the size, the other the place. They are independent enough.
                let len = payload_len((least + (draw >> 32) % (most - least + 1)) as usize);
                let start = (draw as u32 as usize) % (pool.len() - len + 1);
                pool.slice(start..start + len)
            }
            Source::Records(records) => {
                let place = sequence.wrapping_add(u64::from(stream)) % records.len() as u64;
                records[place as usize].clone()
            }
        }
    }

    /// How many different records there are, if they come from a file.
    pub(crate) fn records(&self) -> Option<usize> {
        match &self.source {
            Source::Cut { .. } => None,
            Source::Records(records) => Some(records.len()),
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators").
fn mixed(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn noise(random: &mut Rng, len: usize) -> Bytes {
    let mut pool = vec![0; len];
    random.fill(&mut pool);
    pool.into()
}

/// Lines like those of a log or of JSON records, with repeated words and unique numbers.
fn text(random: &mut Rng, len: usize) -> Bytes {
    const PLACES: [&str; 8] =
        ["Alaska", "Papua New Guinea", "Northern California", "Fiji", "Hawaii", "Chile", "Tonga", "Oklahoma"];
    const KINDS: [&str; 4] = ["earthquake", "quarry blast", "explosion", "ice quake"];
    let mut pool = String::with_capacity(len + 256);
    while pool.len() < len {
        let (number, depth, magnitude) = (random.u32(..), random.u32(0..700), random.u32(0..90));
        let (place, kind) = (PLACES[random.usize(..8)], KINDS[random.usize(..4)]);
        pool.push_str(&format!(
            "{{\"id\":\"us{number:08x}\",\"type\":\"{kind}\",\"place\":\"{depth} km of {place}\",\"magnitude\":{}.{},\
             \"status\":\"reviewed\",\"tsunami\":false}}\n",
            magnitude / 10,
            magnitude % 10
        ));
    }
    pool.truncate(len);
    pool.into()
}

fn records(path: &Path) -> Result<Vec<Bytes>, Failure> {
    let cannot = |why: String| Failure::new(format!("--payload file:{}: {why}", path.display()));
    let len = fs::metadata(path).map_err(|error| cannot(error.to_string()))?.len();
    if len > LARGEST_FILE {
        return Err(cannot("it is larger than 1 GiB, and it must fit into memory".to_owned()));
    }
    let all = Bytes::from(fs::read(path).map_err(|error| cannot(error.to_string()))?);
    let lines = all.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let records: Vec<Bytes> = lines.filter(|line| !line.is_empty()).map(|line| all.slice_ref(line)).collect();
    if records.is_empty() {
        return Err(cannot("there is no line in the file".to_owned()));
    }
    match records.iter().position(|record| record.len() > LARGEST - SMALLEST - 4) {
        Some(index) => Err(cannot(format!("record {} is larger than a message may be, 16 MiB", index + 1))),
        None => Ok(records),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn sizes(text: &str) -> Sizes {
        text.parse().unwrap()
    }

    #[test]
    fn the_same_seed_gives_the_same_payloads_and_another_others() {
        let [one, again, other] =
            [1, 1, 2].map(|seed| Payload::new(&PayloadSource::Random, &sizes("100"), seed).unwrap());
        for sequence in 0..100 {
            assert_eq!(one.of(3, sequence), again.of(3, sequence));
            assert_ne!(one.of(3, sequence), other.of(3, sequence));
            assert_ne!(one.of(3, sequence), one.of(4, sequence));
        }
    }

    #[test]
    fn a_range_of_sizes_reaches_both_its_ends() {
        let payload = Payload::new(&PayloadSource::Random, &sizes("100-110"), 1).unwrap();
        let mut seen: Vec<usize> = (0..1000).map(|sequence| payload.of(0, sequence).len()).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, (payload_len(100)..=payload_len(110)).collect::<Vec<_>>());
    }

    #[test]
    fn a_size_without_room_for_the_header_says_why() {
        for (size, words) in [("29", "at least 30"), ("29-100", "at least 30"), ("17MiB", "at most 16 MiB")] {
            let error = Payload::new(&PayloadSource::Random, &sizes(size), 1).err().unwrap().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn records_are_the_lines_of_a_file_in_order() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"one\r\n\ntwo\nthree").unwrap();
        let source = PayloadSource::File(file.path().to_owned());
        let payload = Payload::new(&source, &sizes("100"), 1).unwrap();
        let all: Vec<Bytes> = (0..4).map(|sequence| payload.of(0, sequence)).collect();
        assert_eq!(all, ["one", "two", "three", "one"]);
        assert_eq!(payload.records(), Some(3));
    }

    #[test]
    fn a_file_that_is_not_there_or_empty_says_so() {
        let empty = tempfile::NamedTempFile::new().unwrap();
        for (path, words) in [("/no/such/file", "No such file"), (empty.path().to_str().unwrap(), "no line")] {
            let error = Payload::new(&PayloadSource::File(path.into()), &sizes("100"), 1).err().unwrap().to_string();
            assert!(error.contains(words) && error.contains(path), "{error}");
        }
    }
}
