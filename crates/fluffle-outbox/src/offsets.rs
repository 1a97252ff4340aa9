//! Offsets as the column of a table. Both databases have signed integers of 64 bits, and so has RabbitMQ.

pub(crate) fn to_row(next: u64) -> i64 {
    i64::try_from(next).unwrap_or(i64::MAX)
}

pub(crate) fn from_row(next: i64) -> u64 {
    u64::try_from(next).unwrap_or(0)
}
