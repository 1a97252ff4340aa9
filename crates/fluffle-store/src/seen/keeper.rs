//! The work of the window's thread: one transaction for all waiting commands.

use std::{path::Path, sync::Arc, time::Duration};

use tokio::sync::oneshot;

use super::{
    SeenIdsOptions,
    answer::{self, Time},
    items::id_of,
    table::{Changes, Table},
};
use crate::{StoreError, writer::Work};

/// How many old rows are removed with each group, in addition to two for each id asked about. It bounds how long one
/// caller waits.
const PRUNED: usize = 64;

pub(super) struct Command {
    pub(super) question: Question,
    pub(super) ids: Ids,
    /// Gets one answer for each id. `None`: it has them.
    pub(super) reply: Option<oneshot::Sender<Result<Vec<bool>, StoreError>>>,
}

impl Command {
    fn reply(&mut self, answer: Result<Vec<bool>, StoreError>) {
        if let Some(reply) = self.reply.take() {
            let _gone = reply.send(answer);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    Contains,
    Insert,
    Remove,
}

pub(super) enum Ids {
    Each(Vec<String>),
    /// Items of a batch.
    Items(String, Vec<u32>),
}

impl Ids {
    fn len(&self) -> usize {
        match self {
            Self::Each(ids) => ids.len(),
            Self::Items(_, items) => items.len(),
        }
    }
}

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

    fn answer(&mut self, commands: &mut [Command]) -> Result<Vec<Vec<bool>>, rusqlite::Error> {
        let keep = u64::try_from(self.options.keep.as_millis()).unwrap_or(u64::MAX);
        let time = Time { now: (self.clock)(), keep };
        let max_ids = self.options.max_ids;
        self.table.together(|changes| {
            let mut answers = Vec::with_capacity(commands.len());
            let (mut asked, mut removes) = (0, false);
            for command in &mut *commands {
                let mut answer = answer(changes, command, time)?;
                asked += command.ids.len();
                removes |= command.question == Question::Remove;
                // What was not inserted in this transaction either is unknown whether or not it is committed: the
                // consumer need not wait for that before it begins the work.
                if command.question == Question::Contains && !removes && !answer.contains(&true) {
                    command.reply(Ok(std::mem::take(&mut answer)));
                }
                answers.push(answer);
            }
            // Prune only in a group that inserts, so that a group of mere lookups writes and syncs nothing.
            if commands.iter().any(|command| command.question == Question::Insert) {
                answer::prune(changes, max_ids, time, PRUNED + 2 * asked)?;
            }
            Ok(answers)
        })
    }
}

fn answer(changes: &mut Changes<'_>, command: &Command, time: Time) -> Result<Vec<bool>, rusqlite::Error> {
    match (command.question, &command.ids) {
        (Question::Contains, Ids::Each(ids)) => ids.iter().map(|id| answer::contains(changes, id, time)).collect(),
        (Question::Insert, Ids::Each(ids)) => ids.iter().map(|id| answer::insert(changes, id, time)).collect(),
        (Question::Remove, Ids::Each(ids)) => ids.iter().map(|id| answer::remove(changes, id, time)).collect(),
        (Question::Contains, Ids::Items(batch, items)) => answer::contains_items(changes, batch, items, time),
        (Question::Insert, Ids::Items(batch, items)) => answer::insert_items(changes, batch, items, time),
        (Question::Remove, Ids::Items(batch, items)) => {
            items.iter().map(|item| answer::remove(changes, &id_of(batch, *item), time)).collect()
        }
    }
}

impl<C: Fn() -> u64 + Send + 'static> Work for Keeper<C> {
    type Command = Command;

    fn work(&mut self, mut commands: Vec<Command>) {
        if !commands.is_empty() {
            match self.answer(&mut commands) {
                Ok(answers) => {
                    for (command, answer) in commands.iter_mut().zip(answers) {
                        command.reply(Ok(answer));
                    }
                }
                Err(error) => {
                    let error = StoreError::from_sqlite(&self.path, error);
                    for command in &mut commands {
                        command.reply(Err(error.clone()));
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

#[cfg(test)]
mod tests {
    use super::*;

    /// If the commit fails, an insert of its transaction is undone, and a remove is too.
    #[test]
    fn only_what_is_unknown_is_answered_before_the_commit() {
        let options = SeenIdsOptions::default();
        let mut keeper = Keeper::new(Table::in_memory().unwrap(), options, Path::new("test").into(), || 0);
        let questions =
            [Question::Contains, Question::Insert, Question::Contains, Question::Remove, Question::Contains];
        let mut commands = questions.map(|question| Command {
            question,
            ids: Ids::Each(vec!["a".to_owned()]),
            reply: Some(oneshot::channel().0),
        });
        let answers = keeper.answer(&mut commands).unwrap();
        assert_eq!(commands.map(|command| command.reply.is_some()), [false, true, true, true, true]);
        assert_eq!(answers[1..], [[true], [true], [true], [false]]);
    }
}
