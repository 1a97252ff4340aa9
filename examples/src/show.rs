//! What the terminal shows.

use std::fmt::Display;

use comfy_table::{CellAlignment, Table, TableComponent, presets};
use indicatif::{ProgressBar, ProgressStyle};

/// A line of the narrative, after an empty one.
pub fn say(line: impl Display) {
    println!("\n{line}");
}

/// A table with these column heads; columns of numbers are aligned to the right.
pub fn table(heads: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Table {
    let rows: Vec<Vec<String>> = rows.into_iter().collect();
    let is_number = |text: &String| text.starts_with(|first: char| first.is_ascii_digit());
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

/// A progress bar for `total` messages; silent when the output is not a terminal.
pub fn progress(total: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:>10} {bar:40.cyan/blue} {pos:>6}/{len}  {per_sec}  {msg}");
    ProgressBar::new(total).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
