//! The work of the window's thread: one transaction for all waiting commands.

use std::{path::Path, sync::Arc, time::Duration};

use super::{
    SeenIdsOptions,
    command::{Command, Question},
    table::{Changes, Table},
};
use crate::{StoreError, writer::Work};

/// How many old ids are removed with each group, in addition to two for each id asked about. It bounds how long one
/// caller waits.
const PRUNED: usize = 64;

pub(super) struct Keeper<C> {
    table: Table,
    options: SeenIdsOptions,
    path: Arc<Path>,
    /// Milliseconds since 1970.
    clock: C,
    reclaiming: bool,
}

impl<C: Fn() -> u64> Keeper<C> {
    pub(super) fn new(table: Table, options: SeenIdsOptions, path: Arc<Path>, clock: C) -> Self {
        Self { table, options, path, clock, reclaiming: false }
    }

    fn answer(&mut self, commands: &[Command]) -> Result<Vec<Vec<bool>>, rusqlite::Error> {
        let now = (self.clock)();
        let keep = u64::try_from(self.options.keep.as_millis()).unwrap_or(u64::MAX);
        // An id past its age counts as unknown even if its row still exists.
        let is_old = |at: u64| now.saturating_sub(at) >= keep;
        let max_ids = self.options.max_ids;
        self.table.together(|changes| {
            let mut answers = Vec::with_capacity(commands.len());
            let mut asked = 0;
            for command in commands {
                let answer = command.ids.iter().map(|id| answer(changes, command.question, id, now, is_old));
                answers.push(answer.collect::<Result<Vec<_>, _>>()?);
                asked += command.ids.len();
            }
            // Prune only in a group that inserts, so that a group of mere lookups writes and syncs nothing.
            if commands.iter().any(|command| command.question == Question::Insert) {
                prune(changes, max_ids, is_old, PRUNED + 2 * asked)?;
            }
            Ok(answers)
        })
    }
}

fn answer(
    changes: &mut Changes<'_>,
    question: Question,
    id: &str,
    now: u64,
    is_old: impl Fn(u64) -> bool,
) -> Result<bool, rusqlite::Error> {
    let found = changes.find(id)?;
    let known = found.as_ref().is_some_and(|row| !is_old(row.at));
    match (question, &found) {
        (Question::Insert, Some(row)) if !known => {
            changes.remove(row)?;
            changes.insert(id, now)?;
        }
        (Question::Insert, None) => changes.insert(id, now)?,
        (Question::Remove, Some(row)) => changes.remove(row)?,
        _ => {}
    }
    Ok(if question == Question::Insert { !known } else { known })
}

/// Removes the oldest ids: those beyond the number, and those past their age. Removes at most `at_most` of them, so a
/// lowered limit is reached in steps.
fn prune(
    changes: &mut Changes<'_>,
    max_ids: u64,
    is_old: impl Fn(u64) -> bool,
    at_most: usize,
) -> Result<(), rusqlite::Error> {
    for _ in 0..at_most {
        match changes.oldest()? {
            Some(oldest) if changes.ids > max_ids || is_old(oldest.at) => changes.remove(&oldest)?,
            _ => break,
        }
    }
    Ok(())
}

impl<C: Fn() -> u64 + Send + 'static> Work for Keeper<C> {
    type Command = Command;

    fn work(&mut self, commands: Vec<Command>) {
        if !commands.is_empty() {
            match self.answer(&commands) {
                Ok(answers) => {
                    for (command, answer) in commands.into_iter().zip(answers) {
                        let _gone = command.reply.send(Ok(answer));
                    }
                }
                Err(error) => {
                    let error = StoreError::from_sqlite(&self.path, error);
                    for command in commands {
                        let _gone = command.reply.send(Err(error.clone()));
                    }
                }
            }
        }
        // An error is ignored here, because the next group tries again.
        self.reclaiming = self.table.database.reclaim().unwrap_or(false);
    }

    fn patience(&self) -> Option<Duration> {
        self.reclaiming.then_some(Duration::ZERO)
    }

    fn finish(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}
