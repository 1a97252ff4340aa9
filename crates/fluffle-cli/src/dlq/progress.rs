//! How far a look is, on standard error: a bar on a terminal, else a line now and then.

use std::{
    io::{IsTerminal, stderr},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::units::count;

/// Letters from which on a bar is worth its place.
const FEW: u64 = 100;

/// How often a line says how far the look is, if standard error is no terminal.
const PAUSE: Duration = Duration::from_secs(10);

pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    done: u64,
    most: u64,
    said: Instant,
}

impl Progress {
    pub(crate) fn new(most: u64) -> Self {
        let bar = (stderr().is_terminal() && most >= FEW).then(|| ProgressBar::new(most));
        let style = ProgressStyle::with_template("{pos}/{len} letters {wide_bar:.cyan/blue} {per_sec}, {eta} left");
        if let (Some(bar), Ok(style)) = (&bar, style) {
            bar.set_style(style);
        }
        Self { bar, done: 0, most, said: Instant::now() }
    }

    /// One letter more was taken.
    pub(crate) fn step(&mut self) {
        self.done += 1;
        match &self.bar {
            Some(bar) => bar.inc(1),
            None if self.said.elapsed() >= PAUSE => {
                self.said = Instant::now();
                eprintln!("{} of {} letters", count(self.done), count(self.most));
            }
            None => {}
        }
    }

    /// There are so many letters after all.
    pub(crate) fn set_most(&mut self, most: u64) {
        self.most = most;
        if let Some(bar) = &self.bar {
            bar.set_length(most);
        }
    }

    /// A line of text, above the bar.
    pub(crate) fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => eprintln!("{line}"),
        }
    }

    /// Takes the bar away.
    pub(crate) fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
