//! The view: draws what is seen, and follows the keys, until a key or a signal ends it.

use std::time::Duration;

use crossterm::event::{Event, EventStream};
use futures_util::{StreamExt, future::select_all};
use ratatui::DefaultTerminal;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};

use crate::{
    common::failure::Failure,
    top::{
        args::TopArgs,
        draw::{Palette, draw},
        look::Look,
        screen::Screen,
        view::{Next, View},
        watcher::{Watcher, now},
    },
};

/// How often the screen is drawn when nothing happens: times on it go on.
const TICK: Duration = Duration::from_secs(1);

/// Every signal that by default ends the process and can be caught, but for those of a program that is broken (SIGSEGV
/// and its like). After SIGKILL nobody is left to mend the terminal: `reset` does it.
const ENDING: [SignalKind; 7] = [
    SignalKind::interrupt(),
    SignalKind::terminate(),
    SignalKind::hangup(),
    SignalKind::quit(),
    SignalKind::alarm(),
    SignalKind::user_defined1(),
    SignalKind::user_defined2(),
];

/// The signals after which the view ends. From its making on, they no longer end the process by themselves.
struct Ending(Vec<Signal>);

impl Ending {
    fn new() -> Result<Self, Failure> {
        Ok(Self(ENDING.into_iter().map(signal).collect::<Result<_, _>>()?))
    }

    /// Waits for the next of them.
    async fn wait(&mut self) {
        select_all(self.0.iter_mut().map(|signal| Box::pin(signal.recv()))).await;
    }
}

pub(crate) async fn run(args: &TopArgs, watcher: Watcher) -> Result<(), Failure> {
    let mut stop = Ending::new()?;
    let mut screen = Screen::enter()?;
    let (send, looks) = watch::channel(None);
    let (end, ended) = watch::channel(());
    let watching = tokio::spawn(keep_looking(watcher, args.interval, send, ended));
    let shown = show(args, screen.terminal(), looks, &mut stop).await;
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
    stop: &mut Ending,
) -> Result<(), Failure> {
    let palette = Palette { has_colour: args.output.has_colour() };
    let mut view = View::new(args.sort);
    let mut keys = EventStream::new();
    let mut tick = tokio::time::interval(TICK);
    loop {
        let look = looks.borrow_and_update().clone();
        terminal.draw(|frame| draw(frame, &mut view, look.as_ref(), palette, now()))?;
        tokio::select! {
            // After a panic of the watcher the terminal is restored, and must not be drawn on again.
            biased;
            () = stop.wait() => return Ok(()),
            looked = looks.changed() => {
                looked.map_err(|_| Failure::new("looking at the broker crashed: its message is above"))?;
            }
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
            _ = tick.tick() => {}
        }
    }
}
