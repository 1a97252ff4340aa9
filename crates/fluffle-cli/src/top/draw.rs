//! Draws a look. Pure: it knows no terminal and no clock. All texts from outside go through `safe` first.

use ratatui::{
    Frame,
    layout::{Alignment, Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span, Text},
    widgets::{Cell, Clear, Paragraph, Row as TableRow, Table, Wrap},
};

use crate::{
    common::output::{Colour, safe},
    top::{
        cells::{self, HEADS},
        look::{Look, Row, Source},
        order::Key,
        print::{lost_text, service_lines},
        view::View,
    },
};

/// The widths of the numbers, in the order of [`HEADS`].
const WIDTHS: [u16; 7] = [7, 7, 5, 7, 7, 7, 7];
/// From this width on there are columns for type and state.
const WIDE: u16 = 120;
/// From this width on the service is beside the queues.
const BESIDE: u16 = 160;

const HELP: &str = "
 q Esc Ctrl-C      end
 arrows PgUp PgDn  move (also j, k, Home, End)
 s                 sort by the next column
 r                 turn the order round
 /                 filter by a part of the name; Enter keeps it, Esc drops it
 Tab               move in the service, or in the queues
 ?                 this help; any key closes it

 ?  in a cell: cannot be known. Rates, unacked messages and ages need --api;
    the oldest message's age needs a classic queue and a publisher that sets
    the property `timestamp`.
 -  there is no message, so none is the oldest.";

/// How things look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Palette {
    pub(crate) has_colour: bool,
}

impl Palette {
    fn of(self, colour: Color) -> Style {
        if self.has_colour { Style::new().fg(colour) } else { Style::new() }
    }

    fn style(self, colour: Option<Colour>) -> Style {
        match colour {
            None => Style::new(),
            Some(Colour::Bold) => Style::new().add_modifier(Modifier::BOLD),
            Some(Colour::Dim) => Style::new().add_modifier(Modifier::DIM),
            Some(Colour::Red) => self.of(Color::Red),
            Some(Colour::Green) => self.of(Color::Green),
            Some(Colour::Yellow) => self.of(Color::Yellow),
            Some(Colour::Cyan) => self.of(Color::Cyan),
        }
    }
}

/// Draws the whole screen. `now` is in milliseconds since 1970; `look` is `None` before the first one.
pub(crate) fn draw(frame: &mut Frame<'_>, view: &mut View, look: Option<&Look>, palette: Palette, now: u64) {
    // Why the broker is lost is longer than a line of 80 columns, and its end says most.
    let heads = if look.is_some_and(|look| look.lost.is_some()) { 4 } else { 2 };
    let [head, body, foot] =
        Layout::vertical([Constraint::Length(heads), Constraint::Fill(1), Constraint::Length(1)]).areas(frame.area());
    frame.render_widget(Paragraph::new(foot_line(view, look.is_some_and(|look| look.service.is_some()))), foot);
    let Some(look) = look else {
        frame.render_widget(Paragraph::new("fluffle top: asking the broker …"), head);
        return;
    };
    frame.render_widget(Paragraph::new(head_lines(view, look, palette, now)).wrap(Wrap { trim: true }), head);
    match &look.service {
        None => {
            view.is_at_service = false;
            queues(frame, body, view, look, palette);
        }
        Some(service) => {
            let halves = [Constraint::Fill(1), Constraint::Fill(1)];
            let [left, right] = if body.width >= BESIDE {
                Layout::horizontal(halves).spacing(2).areas(body)
            } else {
                Layout::vertical(halves).spacing(1).areas(body)
            };
            queues(frame, left, view, look, palette);
            let lines = service_lines(service, now);
            let page = usize::from(right.height);
            view.pages[1] = page;
            view.lengths[1] = lines.len();
            view.service_top = view.service_top.min(lines.len().saturating_sub(page));
            let shown = lines.into_iter().skip(view.service_top).take(page);
            let text: Text<'_> = shown.map(|(colour, line)| Line::styled(line, palette.style(colour))).collect();
            frame.render_widget(Paragraph::new(text), right);
        }
    }
    if view.helps {
        let area = frame.area();
        let height = u16::try_from(HELP.lines().count()).unwrap_or(u16::MAX).saturating_add(1).min(area.height);
        let place = Rect { x: 0, y: area.height.saturating_sub(height) / 2, width: area.width, height };
        frame.render_widget(Clear, place);
        frame.render_widget(Paragraph::new(HELP), place);
    }
}

fn head_lines(view: &View, look: &Look, palette: Palette, now: u64) -> Vec<Line<'static>> {
    let shown = view.rows(look).len();
    let all = look.queues.len();
    let count = if shown == all { format!("{all} queues") } else { format!("{shown} of {all} queues") };
    let order = match view.sort {
        Key::Name => "name".to_owned(),
        key => format!("{key:?}").to_lowercase(),
    };
    let turned = if view.reversed { " reversed" } else { "" };
    let title = format!("{} {}", safe(&look.broker), safe(&look.vhost));
    let first = Line::from(vec![
        Span::styled(title, Style::new().add_modifier(Modifier::BOLD)),
        Span::raw(format!("  {count}, by {order}{turned}")),
    ]);
    let second = if let Some(lost) = &look.lost {
        let text = lost_text("NO ANSWER from the broker", lost, now);
        Line::styled(text, palette.of(Color::Red).add_modifier(Modifier::BOLD))
    } else {
        let late = now.saturating_sub(look.at) / 1000;
        let source = match look.source {
            Source::ManagementApi => "told by the management API",
            Source::Amqp => "told over AMQP",
        };
        // A slow broker: what is shown is not what is now.
        let late = if late > 5 { format!(", {} ago", cells::age(late)) } else { String::new() };
        let why = cells::why_unknown(look);
        let why = if why.is_empty() { String::new() } else { format!("  {why}") };
        Line::raw(format!("{source}{late}{why}"))
    };
    vec![first, second]
}

fn foot_line(view: &View, has_service: bool) -> Line<'static> {
    if view.is_writing {
        return Line::raw(format!("filter: {}_   Enter keeps it, Esc drops it", safe(&view.filter)));
    }
    let filter = if view.filter.is_empty() { String::new() } else { format!("   filter: {}", safe(&view.filter)) };
    let tab = if has_service { "  Tab service" } else { "" };
    Line::raw(format!("q end  ? help  s sort  r reverse  / filter{tab}{filter}"))
}

fn queues(frame: &mut Frame<'_>, area: Rect, view: &mut View, look: &Look, palette: Palette) {
    let rows = view.rows(look);
    view.pages[0] = usize::from(area.height.saturating_sub(1)).max(1);
    view.lengths[0] = rows.len();
    if rows.is_empty() {
        let text = if look.queues.is_empty() { "no queues" } else { "no queue has this in its name" };
        // Before the first answer nothing is known, so there is nothing to say of queues.
        let text = if look.lost.is_some() && look.queues.is_empty() { "" } else { text };
        frame.render_widget(Paragraph::new(text), area);
        return;
    }
    let selected = view.table.selected().unwrap_or(0).min(rows.len() - 1);
    view.table.select(Some(selected));
    // After a filter there may be fewer queues than were scrolled past.
    let last_top = rows.len().saturating_sub(view.pages[0]);
    *view.table.offset_mut() = view.table.offset().min(last_top);
    let is_wide = area.width >= WIDE;
    let more: &[u16] = if is_wide { &[8, 10] } else { &[] };
    let numbers = WIDTHS.iter().chain(more);
    let taken: u16 = numbers.clone().map(|width| width + 1).sum();
    let names = area.width.saturating_sub(taken).max(8);
    let widths = std::iter::once(Constraint::Length(names)).chain(numbers.map(|width| Constraint::Length(*width)));
    let heads = HEADS.iter().map(|head| right((*head).to_owned()));
    let extra = if is_wide { vec![Cell::from("TYPE"), Cell::from("STATE")] } else { Vec::new() };
    let head = TableRow::new(std::iter::once(Cell::from("QUEUE")).chain(heads).chain(extra));
    let head = head.style(Style::new().add_modifier(Modifier::BOLD));
    let is_old = look.lost.is_some();
    let body = rows.iter().map(|row| line(row, usize::from(names), is_wide, is_old, palette));
    let table = Table::new(body, widths).header(head).column_spacing(1);
    let table = table.row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    frame.render_stateful_widget(table, area, &mut view.table);
}

fn right(text: String) -> Cell<'static> {
    Cell::from(Text::raw(text).alignment(Alignment::Right))
}

fn line(row: &Row, names: usize, is_wide: bool, is_old: bool, palette: Palette) -> TableRow<'static> {
    let mut cells = vec![Cell::from(fit(&cells::name(row), names))];
    cells.extend(cells::numbers(row).map(right));
    if is_wide {
        let text = |text: &Option<String>| Cell::from(safe(text.as_deref().unwrap_or(cells::UNKNOWN)));
        cells.extend([text(&row.kind), text(&row.state)]);
    }
    let style = if is_old { Style::new().add_modifier(Modifier::DIM) } else { colour(row, palette) };
    TableRow::new(cells).style(style)
}

/// Red: messages wait and nobody takes them, or the queue cannot be seen. Yellow: the queue does not run.
fn colour(row: &Row, palette: Palette) -> Style {
    let nobody_takes = row.consumers == Some(0) && row.ready.is_some_and(|ready| ready > 0);
    let runs = row.state.as_deref().is_none_or(|state| matches!(state, "running" | "idle"));
    if row.problem.is_some() || nobody_takes {
        palette.of(Color::Red)
    } else if !runs {
        palette.of(Color::Yellow)
    } else {
        Style::new()
    }
}

/// A text in at most `width` columns: what does not fit is taken out of its middle, because long names of queues often
/// differ at their ends.
fn fit(text: &str, width: usize) -> String {
    let columns = |text: &str| Span::raw(text).width();
    if columns(text) <= width {
        return text.to_owned();
    }
    let room = width.saturating_sub(1);
    let (mut begin, mut end) = (String::new(), Vec::new());
    let (mut used, mut is_begin) = (0, false);
    let (mut from_begin, mut from_end) = (text.chars(), text.chars().rev());
    loop {
        is_begin = !is_begin;
        let next = if is_begin { from_begin.next() } else { from_end.next() };
        let Some(character) = next else { break };
        let columns = columns(character.encode_utf8(&mut [0; 4]));
        if used + columns.max(1) > room {
            break;
        }
        used += columns.max(1);
        if is_begin {
            begin.push(character);
        } else {
            end.push(character);
        }
    }
    begin.push('…');
    begin.extend(end.into_iter().rev());
    begin
}

#[cfg(test)]
mod tests;
