//! Screens, drawn into memory.

use ratatui::{Terminal, backend::TestBackend, buffer::Buffer};

use super::*;
use crate::top::{
    lost::Lost,
    service::{Node, Service, Verdict},
};

fn look(queues: Vec<Row>) -> Look {
    Look {
        at: 1_000_000,
        broker: "amqp://localhost:5672".to_owned(),
        vhost: "/".to_owned(),
        source: Source::ManagementApi,
        lost: None,
        queues,
        unknown: Vec::new(),
        service: None,
    }
}

fn row(name: &str, ready: u64) -> Row {
    Row { name: name.to_owned(), ready: Some(ready), consumers: Some(0), ..Row::default() }
}

fn buffer(size: (u16, u16), view: &mut View, look: &Look, has_colour: bool) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(size.0, size.1)).unwrap();
    terminal.draw(|frame| draw(frame, view, Some(look), Palette { has_colour }, 1_012_000)).unwrap();
    terminal.backend().buffer().clone()
}

fn screen(size: (u16, u16), view: &mut View, look: &Look) -> Vec<String> {
    let buffer = buffer(size, view, look, false);
    let cells: Vec<&str> = buffer.content().iter().map(|cell| cell.symbol()).collect();
    cells.chunks(usize::from(size.0)).map(|line| line.concat().trim_end().to_owned()).collect()
}

#[test]
fn a_name_from_the_broker_cannot_move_the_cursor() {
    let hostile = "\u{1b}[2J\u{9b}31m\u{202e}evil";
    let mut look = look(vec![row(hostile, 1)]);
    look.service = Some(Service { name: hostile.to_owned(), ready: vec![hostile.to_owned()], ..Service::default() });
    let screen = screen((120, 24), &mut View::new(Key::Ready), &look).join("\n");
    assert!(screen.contains("\\u{1b}[2J\\u{9b}31m\\u{202e}evil"), "{screen}");
    assert!(screen.chars().all(|it| it == '\n' || (!it.is_control() && it != '\u{202e}')), "{screen:?}");
}

#[test]
fn a_long_name_shows_both_its_ends_and_the_numbers_stay() {
    let long = format!("{}.the-end", "tenant".repeat(40));
    for width in [80, 200] {
        let lines = screen((width, 10), &mut View::new(Key::Ready), &look(vec![row(&long, 61)]));
        let line = lines.iter().find(|line| line.contains("tenant")).unwrap();
        assert!(line.starts_with("tenant") && line.contains("the-end ") && line.contains("61"), "{line}");
    }
    assert_eq!(fit("兎兎兎兎", 5), "兎…兎", "a character may take two columns");
}

#[test]
fn unknown_numbers_are_a_question_mark() {
    let lines = screen((80, 6), &mut View::new(Key::Ready), &look(vec![row("q", 5)]));
    let cells: Vec<_> = lines[3].split_whitespace().collect();
    assert_eq!(cells, ["q", "5", "?", "0", "?", "?", "?", "?"], "{lines:#?}");
}

#[test]
fn of_a_thousand_queues_the_selected_one_is_seen() {
    let look = look((0..1000).map(|number| row(&format!("q{number:03}"), 1)).collect());
    let mut view = View::new(Key::Name);
    screen((80, 24), &mut view, &look);
    view.key(crossterm::event::KeyCode::End.into());
    let lines = screen((80, 24), &mut view, &look);
    assert!(lines[22].starts_with("q999"), "{lines:#?}");
    assert!(lines[0].contains("1000 queues, by name"), "{lines:#?}");
    view.filter = "q12".to_owned();
    let lines = screen((80, 24), &mut view, &look);
    assert!(lines[0].contains("10 of 1000 queues") && lines[3].starts_with("q120"), "{lines:#?}");
}

#[test]
fn a_lost_broker_is_told_with_its_time_and_the_last_numbers_stay() {
    let mut look = look(vec![row("orders", 61)]);
    look.lost = Some(Lost { since: 1_000_000, why: "connection refused".to_owned() });
    let lines = screen((80, 8), &mut View::new(Key::Ready), &look);
    assert!(lines[1].contains("NO ANSWER from the broker (for 12s): connection refused"), "{lines:#?}");
    assert!(lines[5].starts_with("orders"), "{lines:#?}");
}

#[test]
fn a_service_is_below_on_a_narrow_terminal_and_beside_on_a_wide_one() {
    let mut look = look(vec![row("orders", 61)]);
    let node = Node { id: "consume".to_owned(), state: "running".to_owned(), depth: 1, ..Node::default() };
    let verdict = Verdict { name: "orders".to_owned(), verdict: "idle".to_owned(), ..Verdict::default() };
    let (tree, queues) = (vec![node], vec![verdict]);
    look.service = Some(Service { name: "shop".to_owned(), tree, queues, ..Service::default() });
    let narrow = screen((80, 24), &mut View::new(Key::Ready), &look);
    let at = |lines: &[String]| lines.iter().position(|line| line.contains("consume running")).unwrap();
    assert!(narrow[at(&narrow)].starts_with("  consume"), "{narrow:#?}");
    let wide = screen((200, 24), &mut View::new(Key::Ready), &look);
    assert!(!wide[at(&wide)].starts_with("  consume") && at(&wide) < 8, "{wide:#?}");
}

#[test]
fn without_colour_there_is_none_and_a_tiny_terminal_does_not_panic() {
    let look = look(vec![row("orders", 61)]);
    let coloured = |has_colour| {
        let buffer = buffer((80, 8), &mut View::new(Key::Ready), &look, has_colour);
        buffer.content().iter().any(|cell| cell.fg != Color::Reset)
    };
    assert!(coloured(true) && !coloured(false));
    for size in [(1, 1), (10, 2), (20, 3)] {
        let mut view = View::new(Key::Ready);
        view.helps = true;
        screen(size, &mut view, &look);
    }
}
