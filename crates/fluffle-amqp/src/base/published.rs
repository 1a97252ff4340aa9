//! When a message was first published, by its publisher's clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lapin::BasicProperties;
use uuid::Uuid;

use crate::base::events::BetweenHosts;

/// A `timestamp` from here on is not in seconds, as AMQP says, but in milliseconds: it counts as missing.
const NOT_SECONDS: u64 = 100_000_000_000;

/// When a message was first published. Retry copies, dead letters and replays keep it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Published {
    /// Since 1970.
    millis: u64,
    /// Whether that is to the millisecond, and not to the second.
    pub(crate) is_precise: bool,
}

impl Published {
    /// AMQP's `timestamp` is in seconds. The id that a Fluffle publisher gives is a UUIDv7, which has the milliseconds;
    /// it is made when the message is accepted, or when its batch is opened. An application's own UUIDv7 is that of an
    /// entity which may be older. So the id counts only if it is of the second of the timestamp or of the one before.
    pub(crate) fn read(properties: &BasicProperties) -> Option<Self> {
        let seconds = (*properties.timestamp()).filter(|seconds| (1..NOT_SECONDS).contains(seconds))?;
        let id = properties.message_id().as_ref().and_then(|id| millis_of(id.as_str()));
        let precise = id.filter(|millis| (seconds - 1..=seconds).contains(&(millis / 1000)));
        Some(Self { millis: precise.unwrap_or(seconds * 1000), is_precise: precise.is_some() })
    }

    pub(crate) fn since(self) -> BetweenHosts {
        since(self.millis)
    }
}

/// The time since `millis` after 1970, by this host's clock.
pub(crate) fn since(millis: u64) -> BetweenHosts {
    let then = UNIX_EPOCH + Duration::from_millis(millis);
    match SystemTime::now().duration_since(then) {
        Ok(time) => BetweenHosts { time, is_clamped: false },
        Err(_) => BetweenHosts { time: Duration::ZERO, is_clamped: true },
    }
}

/// The time in a UUIDv7, or in the id of an item of a batch with such an id: `<uuid>/<index>`.
pub(crate) fn millis_of(id: &str) -> Option<u64> {
    let id = id.split_once('/').map_or(id, |(id, _)| id);
    let id = Uuid::try_parse(id).ok().filter(|id| id.get_version_num() == 7)?;
    u64::try_from(id.as_u128() >> 80).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_700_000_000;

    fn id_at(millis: u64) -> String {
        Uuid::new_v7(uuid::Timestamp::from_unix(
            uuid::NoContext,
            millis / 1000,
            u32::try_from(millis % 1000).unwrap() * 1_000_000,
        ))
        .to_string()
    }

    fn read(id: &str, timestamp: Option<u64>) -> Option<(u64, bool)> {
        let mut properties = BasicProperties::default().with_message_id(id.into());
        if let Some(timestamp) = timestamp {
            properties = properties.with_timestamp(timestamp);
        }
        Published::read(&properties).map(|published| (published.millis, published.is_precise))
    }

    #[test]
    fn an_id_gives_the_milliseconds_only_if_it_is_of_the_time_of_publishing() {
        let (at, coarse) = (SECOND * 1000 + 250, Some((SECOND * 1000, false)));
        let table = [
            (id_at(at), Some(SECOND), Some((at, true))),
            (format!("{}/7", id_at(at)), Some(SECOND), Some((at, true))),
            (id_at(at - 1000), Some(SECOND), Some((at - 1000, true))),
            (id_at(at - 3000), Some(SECOND), coarse),
            (id_at(at + 1000), Some(SECOND), coarse),
            ("order-7".to_owned(), Some(SECOND), coarse),
            (id_at(at), None, None),
            (id_at(at), Some(0), None),
            (id_at(at), Some(at), None),
        ];
        for (id, timestamp, expected) in table {
            assert_eq!(read(&id, timestamp), expected, "{id} {timestamp:?}");
        }
    }

    #[test]
    fn a_time_that_is_still_to_come_is_zero_and_says_so() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let now = u64::try_from(now.as_millis()).unwrap();
        assert_eq!(since(now + 60_000), BetweenHosts { time: Duration::ZERO, is_clamped: true });
        let past = since(now - 60_000);
        assert!(!past.is_clamped && past.time >= Duration::from_secs(60));
    }
}
