//! The view: draws what is seen, and follows the keys, until a key or a signal ends it.

use std::time::Duration;

use crossterm::event::{Event, EventStream};
use futures_util::StreamExt;
use ratatui::DefaultTerminal;
use tokio::sync::watch;

use crate::{
    common::{failure::Failure, runtime::Interrupt},
    top::{
        args::TopArgs,
        draw::{Palette, draw},
        look::Look,
        view::{Next, View},
        watcher::{Watcher, now},
    },
};

/// How often the screen is drawn when nothing happens: times on it go on.
const TICK: Duration = Duration::from_secs(1);

/// The terminal in raw mode, on its other screen. Dropped, the terminal is as it was; after a panic as well, by
/// ratatui's hook, before the panic's message is printed.
struct Screen(DefaultTerminal);

impl Screen {
    fn enter() -> Result<Self, Failure> {
        match ratatui::try_init() {
            Ok(terminal) => Ok(Self(terminal)),
            Err(error) => {
                // It may have got half of the way.
                ratatui::restore();
                Err(Failure::new(format!("the terminal cannot show the view: {error}; use --once")))
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone cannot be told, and needs nothing.
        let _ = self.0.show_cursor();
        let _ = ratatui::try_restore();
    }
}

pub(crate) async fn run(args: &TopArgs, watcher: Watcher) -> Result<(), Failure> {
    let mut stop = Interrupt::new()?;
    let mut screen = Screen::enter()?;
    let (send, looks) = watch::channel(None);
    let (end, ended) = watch::channel(());
    let watching = tokio::spawn(keep_looking(watcher, args.interval, send, ended));
    let shown = show(args, &mut screen.0, looks, &mut stop).await;
    drop(screen);
    drop(end);
    // The watcher says goodbye to the broker; a look that hangs is not waited for.
    let _ = tokio::time::timeout(Duration::from_secs(3), watching).await;
    shown
}

async fn keep_looking(
    mut watcher: Watcher,
    interval: Duration,
    send: watch::Sender<Option<Look>>,
    mut ended: watch::Receiver<()>,
) {
    let looking = async {
        loop {
            send.send_replace(Some(watcher.look().await));
            tokio::time::sleep(interval).await;
        }
    };
    tokio::select! {
        _ = ended.changed() => {}
        () = looking => {}
    }
    watcher.close().await;
}

async fn show(
    args: &TopArgs,
    terminal: &mut DefaultTerminal,
    mut looks: watch::Receiver<Option<Look>>,
    stop: &mut Interrupt,
) -> Result<(), Failure> {
    let palette = Palette { has_colour: args.output.has_colour() };
    let mut view = View::new(args.sort);
    let mut keys = EventStream::new();
    let mut tick = tokio::time::interval(TICK);
    loop {
        let look = looks.borrow_and_update().clone();
        terminal.draw(|frame| draw(frame, &mut view, look.as_ref(), palette, now()))?;
        tokio::select! {
            () = stop.wait() => return Ok(()),
            event = keys.next() => match event {
                Some(Ok(Event::Key(key))) => {
                    if view.key(key) == Next::End {
                        return Ok(());
                    }
                }
                // A new size, for example: it is drawn again.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(Failure::new(format!("the terminal gives no keys: {error}"))),
                None => return Ok(()),
            },
            looked = looks.changed() => {
                looked.map_err(|_| Failure::new("looking at the broker crashed: its message is above"))?;
            }
            _ = tick.tick() => {}
        }
    }
}
