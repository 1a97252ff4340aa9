//! What a person has chosen to see: selection, order, filter. Knows keys, and no terminal.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::widgets::TableState;

use crate::top::{
    look::{Look, Row},
    order::{self, Key},
};

/// The longest filter.
const LONGEST: usize = 255;

/// The state of the view.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) sort: Key,
    pub(crate) reversed: bool,
    /// Only queues with this in their name.
    pub(crate) filter: String,
    /// Whether the filter is being written.
    pub(crate) is_writing: bool,
    pub(crate) helps: bool,
    /// Whether the arrows move the service, and not the queues.
    pub(crate) is_at_service: bool,
    /// The first line of the service.
    pub(crate) service_top: usize,
    pub(crate) table: TableState,
    /// How many queues, and how many lines of the service, fit on the screen; told by the last drawing.
    pub(crate) pages: [usize; 2],
    /// How many queues, and lines of the service, there were then.
    pub(crate) lengths: [usize; 2],
}

/// What a key leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Stay,
    End,
}

impl View {
    pub(crate) fn new(sort: Key) -> Self {
        Self {
            sort,
            reversed: false,
            filter: String::new(),
            is_writing: false,
            helps: false,
            is_at_service: false,
            service_top: 0,
            table: TableState::new().with_selected(0),
            pages: [1, 1],
            lengths: [0, 0],
        }
    }

    /// The queues to show, in order.
    pub(crate) fn rows<'a>(&self, look: &'a Look) -> Vec<&'a Row> {
        let mut rows: Vec<_> = look.queues.iter().filter(|row| row.name.contains(&self.filter)).collect();
        order::sort(&mut rows, self.sort, self.reversed);
        rows
    }

    pub(crate) fn key(&mut self, key: KeyEvent) -> Next {
        if key.kind == KeyEventKind::Release {
            return Next::Stay;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return if key.code == KeyCode::Char('c') { Next::End } else { Next::Stay };
        }
        if self.is_writing {
            self.write(key.code);
            return Next::Stay;
        }
        if self.helps {
            self.helps = false;
            return if key.code == KeyCode::Char('q') { Next::End } else { Next::Stay };
        }
        let page = isize::try_from(self.pages[usize::from(self.is_at_service)]).unwrap_or(1);
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Next::End,
            KeyCode::Char('?' | 'h') => self.helps = true,
            KeyCode::Char('/') => self.is_writing = true,
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('r') => self.reversed = !self.reversed,
            KeyCode::Tab => self.is_at_service = !self.is_at_service,
            KeyCode::Up | KeyCode::Char('k') => self.go(-1),
            KeyCode::Down | KeyCode::Char('j') => self.go(1),
            KeyCode::PageUp => self.go(-page),
            KeyCode::PageDown => self.go(page),
            KeyCode::Home => self.go(isize::MIN),
            KeyCode::End => self.go(isize::MAX),
            _ => {}
        }
        Next::Stay
    }

    fn write(&mut self, key: KeyCode) {
        match key {
            KeyCode::Enter => self.is_writing = false,
            KeyCode::Esc => {
                self.is_writing = false;
                self.filter.clear();
            }
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char(character) if self.filter.len() < LONGEST => self.filter.push(character),
            _ => {}
        }
        self.table.select(Some(0));
    }

    fn go(&mut self, by: isize) {
        if self.is_at_service {
            let last = self.lengths[1].saturating_sub(self.pages[1]);
            self.service_top = self.service_top.saturating_add_signed(by).min(last);
        } else {
            let last = self.lengths[0].saturating_sub(1);
            self.table.select(Some(self.table.selected().unwrap_or(0).saturating_add_signed(by).min(last)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(view: &mut View, codes: &[KeyCode]) -> Next {
        codes.iter().fold(Next::Stay, |_, code| view.key(KeyEvent::from(*code)))
    }

    #[test]
    fn every_way_out_ends_and_a_filter_takes_q_as_a_letter() {
        let mut view = View::new(Key::Ready);
        assert_eq!(press(&mut view, &[KeyCode::Char('q')]), Next::End);
        assert_eq!(press(&mut view, &[KeyCode::Esc]), Next::End);
        assert_eq!(press(&mut view, &[KeyCode::Char('/'), KeyCode::Char('q')]), Next::Stay);
        assert_eq!(view.filter, "q");
        let ctrl_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(view.key(ctrl_c), Next::End, "also while a filter is written");
        press(&mut view, &[KeyCode::Esc]);
        assert_eq!((view.filter.as_str(), view.is_writing), ("", false));
    }

    #[test]
    fn the_selection_stays_within_the_queues() {
        let mut view = View::new(Key::Ready);
        view.lengths = [30, 0];
        view.pages = [10, 5];
        press(&mut view, &[KeyCode::PageDown, KeyCode::Down]);
        assert_eq!(view.table.selected(), Some(11));
        press(&mut view, &[KeyCode::End, KeyCode::Down]);
        assert_eq!(view.table.selected(), Some(29));
        press(&mut view, &[KeyCode::Home, KeyCode::Up]);
        assert_eq!(view.table.selected(), Some(0));
    }
}
