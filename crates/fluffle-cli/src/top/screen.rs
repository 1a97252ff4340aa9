//! The terminal while the view has it: in raw mode, on its other screen.

use std::{
    io::{self, Stdout, stdout},
    panic,
    sync::{
        Once,
        atomic::{AtomicBool, Ordering},
    },
};

use crossterm::{
    cursor::Show,
    execute,
    terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
};
use ratatui::{DefaultTerminal, Terminal, backend::CrosstermBackend};

use crate::common::failure::Failure;

/// Whether the view has the terminal. There is one terminal, so this is the whole process's.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// Dropped, the terminal is as it was; after a panic of any thread as well, before the panic's message is printed.
///
/// Not `ratatui::init`, whose terminal would be given back a second time here, after a panic. To leave the other screen
/// puts the cursor where it was before the view, so that what is printed next would go over the panic's message.
pub(crate) struct Screen(DefaultTerminal);

impl Screen {
    pub(crate) fn enter() -> Result<Self, Failure> {
        give_back_before_a_panic_s_message();
        match take() {
            Ok(terminal) => Ok(Self(terminal)),
            Err(error) => {
                // It may have got half of the way.
                give_back();
                Err(Failure::new(format!("the terminal cannot show the view: {error}; use --once")))
            }
        }
    }

    pub(crate) fn terminal(&mut self) -> &mut DefaultTerminal {
        &mut self.0
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

fn take() -> io::Result<Terminal<CrosstermBackend<Stdout>>> {
    IS_TAKEN.store(true, Ordering::SeqCst);
    enable_raw_mode()?;
    execute!(stdout(), EnterAlternateScreen)?;
    Terminal::new(CrosstermBackend::new(stdout()))
}

/// Once for each [`take`], whoever is first. A terminal that is gone cannot be told, and needs nothing.
fn give_back() {
    if IS_TAKEN.swap(false, Ordering::SeqCst) {
        let _ = disable_raw_mode();
        let _ = execute!(stdout(), LeaveAlternateScreen, Show);
    }
}

fn give_back_before_a_panic_s_message() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            give_back();
            print(panic);
        }));
    });
}

/// A panic of the real view in a terminal. The panic itself is the test's: no argument makes the program panic.
#[cfg(test)]
mod tests {
    use std::{io::Read, num::NonZeroU16, sync::mpsc, thread, time::Duration};

    use portable_pty::{CommandBuilder, PtySize, native_pty_system};

    use super::*;

    const CHILD: &str = "FLUFFLE_TOP_PANICS_IN";

    /// Takes the terminal as the view does, and panics where the variable says.
    #[test]
    #[ignore = "the test below runs it in a terminal"]
    fn child_that_panics() {
        let Ok(place) = std::env::var(CHILD) else { return };
        let mut screen = Screen::enter().unwrap();
        screen.terminal().draw(|frame| frame.render_widget("the view is shown", frame.area())).unwrap();
        match place.as_str() {
            "drawing" => {
                screen.terminal().draw(|_| panic!("a panic in drawing")).unwrap();
            }
            "watching" => assert!(thread::spawn(|| panic!("a panic in watching")).join().is_err()),
            other => panic!("no such place: {other}"),
        }
    }

    #[test]
    fn a_panic_leaves_the_terminal_as_it_was_and_its_message_to_be_read() {
        for place in ["drawing", "watching"] {
            let (screen, was_other) = run_child(place);
            let contents = screen.screen().contents();
            assert!(was_other, "the view was never shown: {contents}");
            assert!(contents.contains(&format!("a panic in {place}")), "{contents}");
            let words: Vec<_> = contents.split_whitespace().collect();
            assert!(["icanon", "isig", "echo"].iter().all(|word| words.contains(word)), "{contents}");
            assert!(!screen.screen().alternate_screen() && !screen.screen().hide_cursor(), "{contents}");
        }
    }

    /// What is on the terminal at the end, and whether the other screen was in use before.
    fn run_child(place: &str) -> (vt100::Parser, bool) {
        let pty = native_pty_system().openpty(PtySize { rows: 50, cols: 150, ..PtySize::default() }).unwrap();
        let mut shell = CommandBuilder::new("sh");
        let test = std::env::current_exe().unwrap();
        shell.args(["-c", "\"$@\"; stty -a; echo \"the end\"", "sh", test.to_str().unwrap()]);
        shell.args(["--exact", "top::screen::tests::child_that_panics", "--ignored", "--nocapture"]);
        shell.env("TERM", "xterm-256color");
        shell.env(CHILD, place);
        let mut child = pty.slave.spawn_command(shell).unwrap();
        let mut output = pty.master.try_clone_reader().unwrap();
        let (send, receive) = mpsc::channel();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = output.read(&mut bytes) {
                if send.send(bytes[..read].to_vec()).is_err() {
                    break;
                }
            }
        });
        let number = |number: u16| NonZeroU16::new(number).unwrap();
        let mut parser = vt100::Parser::new(number(50), number(150), 0);
        let mut was_other = false;
        while !parser.screen().contents().contains("the end") {
            let Ok(bytes) = receive.recv_timeout(Duration::from_secs(60)) else {
                let _ = child.kill();
                panic!("it hangs:\n{}", parser.screen().contents());
            };
            for byte in bytes {
                parser.process(&[byte]);
                was_other |= parser.screen().alternate_screen();
            }
        }
        child.wait().unwrap();
        (parser, was_other)
    }
}
