//! The work of the store's thread: one transaction for all waiting commands.

use std::{path::Path, sync::Arc, time::Duration};

use super::{
    command::{Command, What},
    table::{Changes, Table},
};
use crate::{StoreError, writer::Work};

pub(super) struct Keeper {
    table: Table,
    path: Arc<Path>,
}

impl Keeper {
    pub(super) fn new(table: Table, path: Arc<Path>) -> Self {
        Self { table, path }
    }
}

impl Command {
    fn run(&self, changes: &Changes<'_>) -> Result<Option<u64>, rusqlite::Error> {
        let before = changes.find(&self.stream, &self.reader)?;
        match self.what {
            What::Find => {}
            What::Keep(next) => changes.keep(&self.stream, &self.reader, next)?,
            What::Forget => changes.forget(&self.stream, &self.reader)?,
        }
        Ok(before)
    }
}

impl Work for Keeper {
    type Command = Command;

    fn work(&mut self, commands: Vec<Command>) {
        let all = |changes: &Changes<'_>| commands.iter().map(|command| command.run(changes)).collect();
        let answers: Result<Vec<_>, _> = self.table.together(all);
        let answers = answers.map_err(|error| StoreError::from_sqlite(&self.path, error));
        for (index, command) in commands.into_iter().enumerate() {
            let answer = match &answers {
                Ok(answers) => Ok(answers.get(index).copied().flatten()),
                Err(error) => Err(error.clone()),
            };
            let _gone = command.reply.send(answer);
        }
    }

    fn patience(&self) -> Option<Duration> {
        None
    }

    fn finish(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}
