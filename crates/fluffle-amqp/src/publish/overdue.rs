//! Notices that a confirm does not come.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Notices that a message has been on the wire for too long without a verdict. It costs nothing for each message,
/// because it looks only a few times within the limit, and remembers how far publishing had got at each look.
pub(crate) struct Overdue {
    limit: Duration,
    /// For each look within the limit: the sequence number that the next message would have got, and the time.
    marks: VecDeque<(u64, Instant)>,
}

impl Overdue {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, marks: VecDeque::new() }
    }

    /// The time between two looks: a quarter of the limit and 1 ms, so that the fourth look after a mark is past the
    /// limit.
    pub(crate) fn interval(&self) -> Duration {
        self.limit / 4 + Duration::from_millis(1)
    }

    /// Whether the message `oldest`, the oldest one without a verdict, has been on the wire for longer than the limit.
    /// `next` is the sequence number of the next message.
    pub(crate) fn look(&mut self, oldest: Option<u64>, next: u64, now: Instant) -> bool {
        let mut sent_before = 0;
        while let Some((mark, at)) = self.marks.front().copied()
            && now.duration_since(at) >= self.limit
        {
            sent_before = mark;
            self.marks.pop_front();
        }
        self.marks.push_back((next, now));
        oldest.is_some_and(|oldest| oldest < sent_before)
    }

    /// The broker blocks publishers, so no confirm can be expected. The time starts again at the next look.
    pub(crate) fn pause(&mut self) {
        self.marks.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(4);

    /// Looks once a second, and gives the seconds at which a message is overdue.
    fn overdue(looks: impl IntoIterator<Item = (Option<u64>, u64)>) -> Vec<usize> {
        let (mut overdue, start) = (Overdue::new(LIMIT), Instant::now());
        let look = |(second, (oldest, next))| {
            overdue.look(oldest, next, start + Duration::from_secs(second as u64)).then_some(second)
        };
        looks.into_iter().enumerate().filter_map(look).collect()
    }

    #[test]
    fn a_message_is_overdue_after_the_limit_and_not_before() {
        assert_eq!(overdue([(Some(0), 1); 6]), [4, 5]);
    }

    #[test]
    fn a_flow_that_is_confirmed_is_never_overdue() {
        assert_eq!(overdue((0..20).map(|second| (Some(second * 100), second * 100 + 300))), [0; 0]);
    }

    #[test]
    fn one_missing_confirm_in_a_flow_is_noticed() {
        assert_eq!(overdue((0..8).map(|second| (Some(150), second * 100))).first(), Some(&6));
    }

    #[test]
    fn nothing_unconfirmed_is_nothing_overdue() {
        assert_eq!(overdue([(None, 7); 20]), [0; 0]);
    }

    #[test]
    fn after_a_pause_the_time_starts_anew() {
        let (mut overdue, start) = (Overdue::new(LIMIT), Instant::now());
        assert!(!overdue.look(Some(0), 1, start));
        overdue.pause();
        assert!(!overdue.look(Some(0), 1, start + 2 * LIMIT));
        assert!(overdue.look(Some(0), 1, start + 3 * LIMIT));
    }
}
