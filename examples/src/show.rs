//! Output on the terminal.

use std::{
    fmt::Display,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use comfy_table::{CellAlignment, Table, TableComponent, presets};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tokio::task::JoinHandle;

/// Prints a line of text, after an empty one.
pub fn say(line: impl Display) {
    println!("\n{line}");
}

/// Wraps the text into lines of at most 100 characters, each indented by `indent` spaces.
pub fn wrapped(text: &str, indent: usize) -> String {
    let margin = " ".repeat(indent);
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + word.chars().count() < 100 => line.extend([" ", word]),
            _ => lines.push(format!("{margin}{word}")),
        }
    }
    lines.join("\n")
}

/// A table with these column heads; columns of numbers are aligned to the right.
pub fn table(heads: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Table {
    let rows: Vec<Vec<String>> = rows.into_iter().collect();
    // Numbers are "3.4", "12.0 ms" and "85 %", but not "3km NE of".
    let is_number = |text: &String| text.split(' ').next().is_some_and(|word| word.parse::<f64>().is_ok());
    let numbers: Vec<bool> = rows.first().into_iter().flatten().map(is_number).collect();
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
    for between_rows in [TableComponent::HorizontalLines, TableComponent::MiddleIntersections] {
        table.remove_style(between_rows);
    }
    table.set_header(heads.to_vec()).add_rows(rows);
    for (column, _) in table.column_iter_mut().zip(numbers).filter(|(_, is_number)| *is_number) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Progress bars that follow counters until they are finished. They print nothing if the output is not a terminal.
#[derive(Default)]
pub struct Progress {
    together: MultiProgress,
    bars: Arc<Mutex<Vec<Bar>>>,
    ticker: Option<JoinHandle<()>>,
}

type Bar = (ProgressBar, Box<dyn Fn() -> u64 + Send>);

impl Progress {
    /// Starts without bars. Must be called within an actix system, where it reads the counters twenty times a second.
    pub fn new() -> Self {
        let bars = Arc::<Mutex<Vec<Bar>>>::default();
        let followed = Arc::clone(&bars);
        let ticker = actix::spawn(async move {
            let mut tick = tokio::time::interval(Duration::from_millis(50));
            loop {
                tick.tick().await;
                draw(&followed);
            }
        });
        Self { together: MultiProgress::new(), bars, ticker: Some(ticker) }
    }

    /// Adds a bar that follows `count` up to `total`.
    pub fn bar(&mut self, name: &str, total: usize, count: impl Fn() -> u64 + Send + 'static) {
        let style = ProgressStyle::with_template("  {prefix:<10} {bar:50.cyan/blue} {pos:>5} of {len}");
        let bar = ProgressBar::new(total as u64).with_prefix(name.to_owned());
        let bar = self.together.add(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())));
        self.bars.lock().unwrap_or_else(PoisonError::into_inner).push((bar, Box::new(count)));
    }

    /// Leaves the bars on the terminal as they are now.
    pub fn finish(&mut self) {
        let Some(ticker) = self.ticker.take() else { return };
        ticker.abort();
        draw(&self.bars);
        for (bar, _) in self.bars.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            bar.abandon();
        }
        if !self.together.is_hidden() {
            eprintln!();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

fn draw(bars: &Mutex<Vec<Bar>>) {
    for (bar, count) in bars.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        bar.set_position(count());
    }
}
