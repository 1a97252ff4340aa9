//! The middleware of a consumer around one call of its handler.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::Arc,
};

use crate::{
    base::{
        failure::Failure,
        trace::{Carrier, within_that_of},
    },
    consume::{
        attempt::{attempt::Attempt, crash::Crash},
        handler::on_io::OnIo,
        message::{delivery_info::DeliveryInfo, settled::Settled},
        spec::middleware::{HandlerResult, HandlerStep, Handling, Middleware},
    },
};

/// The middleware of one consumer, the outermost first.
#[derive(Clone, Default)]
pub(crate) struct Middlewares {
    all: Arc<[Arc<dyn Middleware>]>,
    /// Times the handlers, together with their middleware, while they run on the `io` thread.
    pub(crate) on_io: Option<Arc<OnIo>>,
}

impl Middlewares {
    pub(crate) fn new(outer: Vec<Arc<dyn Middleware>>, inner: Vec<Arc<dyn Middleware>>) -> Self {
        Self { all: outer.into_iter().chain(inner).collect(), on_io: None }
    }

    /// The same, for handlers that run on the `io` thread.
    pub(crate) fn on_io(&self, on_io: Arc<OnIo>) -> Self {
        Self { all: Arc::clone(&self.all), on_io: Some(on_io) }
    }

    /// A handler is about to be given `attempt`, or item `index` of it. An error says why it must not be: a refusal, or
    /// a panic.
    pub(crate) fn before(
        &self,
        attempt: &Arc<Attempt>,
        index: Option<usize>,
    ) -> Result<Handlings, Result<Failure, Crash>> {
        let mut begun = Handlings { all: Vec::new(), trace: trace(attempt, index), on_io: self.on_io.clone() };
        if self.all.is_empty() {
            return Ok(begun);
        }
        let delivery = match (attempt.contents(), index) {
            (Some(contents), Some(index)) => {
                let (items, traces) = (contents.items.len(), contents.traces(attempt));
                DeliveryInfo::item(attempt, index, items, &contents.single, traces)
            }
            (Some(contents), None) => {
                DeliveryInfo::whole(attempt, Some((contents.items.len(), contents.traces(attempt))))
            }
            (None, _) => DeliveryInfo::whole(attempt, None),
        };
        for middleware in self.all.iter() {
            let refused = match catch_unwind(AssertUnwindSafe(|| {
                let handling = middleware.before(&delivery)?;
                let about = (handling.trace(), handling.on_settled());
                Ok::<_, Failure>((handling, about))
            })) {
                Ok(Ok((handling, (span, on_settled)))) => {
                    if let Some(span) = span {
                        attempt.note_span(index, &span);
                        begun.trace = Some(Arc::new(span));
                    }
                    if let Some(call) = on_settled {
                        call_when_settled(attempt, index, call);
                    }
                    if !handling.is_idle() {
                        begun.all.push(handling);
                    }
                    continue;
                }
                Ok(Err(failure)) => Ok(failure.before_the_handler()),
                Err(panic) => Err(Crash::of_a_middleware(&*panic)),
            };
            return Err(begun.end(refused, |failure| HandlerResult::Failed(failure)));
        }
        Ok(begun)
    }
}

/// Calls `call` once it is known what became of the message.
fn call_when_settled(attempt: &Arc<Attempt>, index: Option<usize>, call: Box<dyn FnOnce(Settled)>) {
    let attempt = Arc::clone(attempt);
    actix_rt::spawn(async move {
        let settled = attempt.settled().await;
        let settled = match (index, attempt.contents()) {
            (Some(index), Some(contents)) => contents.settled(index, settled),
            _ => settled,
        };
        if catch_unwind(AssertUnwindSafe(|| call(settled))).is_err() {
            tracing::error!(
                queue = %attempt.queue, message_id = attempt.id_or_dash(),
                attempt = attempt.attempt_number.get(), trace_id = attempt.trace_id(),
                "a middleware panicked when it was told what became of a message: the message is settled all the same"
            );
        }
    });
}

/// What knows the trace of a message, if the message has one.
fn trace(attempt: &Arc<Attempt>, index: Option<usize>) -> Option<Arc<dyn Carrier>> {
    if let (Some(index), Some(traces)) = (index, attempt.contents().and_then(|contents| contents.traces(attempt)))
        && traces.is_told(index)
    {
        return traces.get(index).map(|trace| Arc::new(trace.clone()) as Arc<dyn Carrier>);
    }
    attempt.tells_a_trace().then(|| Arc::clone(attempt) as Arc<dyn Carrier>)
}

impl fmt::Debug for Middlewares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Middlewares").field(&self.all.len()).finish()
    }
}

/// What follows one handling, the outermost first. Dropped before its [`end`](Self::end), it tells that the handler
/// crashed, because then the handler's actor is gone or is unwinding.
#[derive(Default)]
pub(crate) struct Handlings {
    all: Vec<Box<dyn Handling>>,
    /// The trace that the handler's code belongs to, if there is one.
    trace: Option<Arc<dyn Carrier>>,
    /// If the handler runs on the `io` thread.
    on_io: Option<Arc<OnIo>>,
}

impl Handlings {
    /// Whether the handler's code runs as it would by itself.
    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty() && self.trace.is_none() && self.on_io.is_none()
    }

    /// Runs the handler's code inside the middleware, and inside the message's trace. A panic of the handler unwinds
    /// from here as it would without middleware; a panic of a middleware is an error.
    pub(crate) fn step<T>(&mut self, run: impl FnOnce() -> T) -> Result<T, Crash> {
        let Self { all, trace, on_io } = self;
        let _timed = on_io.as_deref().map(OnIo::begin);
        match trace {
            Some(trace) => within_that_of(Arc::clone(trace), || step_inside(all, run)),
            None => step_inside(all, run),
        }
    }

    /// The handler has answered, or crashed. A panic of a middleware turns any answer into a crash, for the middleware
    /// outside it and for the message.
    pub(crate) fn end<T>(
        mut self,
        mut said: Result<T, Crash>,
        result: impl for<'a> Fn(&'a T) -> HandlerResult<'a>,
    ) -> Result<T, Crash> {
        while let Some(handling) = self.all.pop() {
            let told = said.as_ref().map_or(HandlerResult::Crashed, &result);
            let after = catch_unwind(AssertUnwindSafe(|| handling.after(told)));
            if let (Err(panic), true) = (after, said.is_ok()) {
                said = Err(Crash::of_a_middleware(&*panic));
            }
        }
        said
    }
}

impl Drop for Handlings {
    fn drop(&mut self) {
        if !self.all.is_empty() {
            // Nobody waits for what this says: the message is charged already.
            let rest = Self { all: std::mem::take(&mut self.all), trace: None, on_io: None };
            let _ = rest.end(Err::<(), _>(Crash::default()), |()| HandlerResult::Crashed);
        }
    }
}

/// Runs the handler's code inside the middleware.
fn step_inside<T>(handlings: &mut [Box<dyn Handling>], run: impl FnOnce() -> T) -> Result<T, Crash> {
    if handlings.is_empty() {
        return Ok(run());
    }
    let (mut run, mut ran, mut crash) = (Some(run), None, None);
    nest(handlings, &mut crash, &mut || {
        if let Some(run) = run.take() {
            ran = Some(catch_unwind(AssertUnwindSafe(run)));
        }
    });
    match (ran, crash) {
        (Some(Err(panic)), _) => resume_unwind(panic),
        (Some(Ok(done)), None) => Ok(done),
        (_, crash) => Err(crash.unwrap_or_default()),
    }
}

/// Runs `run` inside all of `handlings`, each exactly once. Each panic is caught where it comes from, so that no
/// middleware sees that of another, nor swallows it.
fn nest(handlings: &mut [Box<dyn Handling>], crash: &mut Option<Crash>, run: &mut dyn FnMut()) {
    let Some((outer, inner)) = handlings.split_first_mut() else { return run() };
    let mut has_run = false;
    let step = catch_unwind(AssertUnwindSafe(|| {
        outer.step(HandlerStep::new(&mut || {
            has_run = true;
            nest(inner, crash, run);
        }));
    }));
    match step {
        Ok(()) if has_run => {}
        Ok(()) => nest(inner, crash, run),
        Err(panic) => *crash = crash.take().or_else(|| Some(Crash::of_a_middleware(&*panic))),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use super::*;
    use crate::consume::attempt::attempt::tests::attempt;

    type Log = Arc<Mutex<Vec<String>>>;

    /// Logs each call, and panics or refuses where it is told to.
    #[derive(Clone)]
    struct Logs {
        name: &'static str,
        log: Log,
        /// The call that panics.
        panics_in: &'static str,
        refuses: bool,
        /// Whether it runs the step it is given.
        runs: bool,
    }

    fn logs(log: &Log, name: &'static str) -> Logs {
        Logs { name, log: Arc::clone(log), panics_in: "", refuses: false, runs: true }
    }

    impl Logs {
        fn log(&self, call: &str, more: &str) {
            let line = format!("{} {call}{more}", self.name);
            self.log.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            assert!(self.panics_in != call, "{} fell", self.name);
        }
    }

    impl Middleware for Logs {
        fn before(&self, _: &DeliveryInfo<'_>) -> Result<Box<dyn Handling>, Failure> {
            self.log("before", "");
            if self.refuses { Err(Failure::reject("not you")) } else { Ok(Box::new(self.clone())) }
        }
    }

    impl Handling for Logs {
        fn step(&mut self, step: HandlerStep<'_>) {
            self.log("step", "");
            if self.runs {
                step.run();
                self.log("end of step", "");
            }
        }

        fn after(self: Box<Self>, result: HandlerResult<'_>) {
            self.log("after", &format!(": {result:?}"));
        }
    }

    /// What became of a handler inside these, and the log.
    fn handle(middlewares: Vec<Logs>, log: &Log, handler: impl FnOnce() -> u32) -> (String, Vec<String>) {
        let all = middlewares.into_iter().map(|one| Arc::new(one) as Arc<dyn Middleware>).collect();
        let around = Middlewares::new(all, Vec::new());
        let said = match around.before(&Arc::new(attempt(1)), None) {
            Err(refused) => refused.map(|failure| failure.to_string()),
            Ok(mut around) => {
                let said = around.step(handler);
                around.end(said.map(|said| said.to_string()), |_| HandlerResult::Handled)
            }
        };
        let log = std::mem::take(&mut *log.lock().unwrap());
        (said.unwrap_or_else(|crash| crash.text()), log)
    }

    #[test]
    fn the_first_is_the_outermost() {
        let log = Log::default();
        let (said, lines) = handle(vec![logs(&log, "a"), logs(&log, "b")], &log, || 7);
        assert_eq!(said, "7");
        let steps = ["a before", "b before", "a step", "b step", "b end of step", "a end of step"];
        assert_eq!(lines, [&steps[..], &["b after: Handled", "a after: Handled"]].concat());
    }

    #[test]
    fn those_inside_a_refusal_see_nothing_and_those_outside_see_a_failure() {
        let log = Log::default();
        let refusing = Logs { refuses: true, ..logs(&log, "b") };
        let (said, lines) = handle(vec![logs(&log, "a"), refusing, logs(&log, "c")], &log, || panic!("called"));
        assert_eq!(said, "not you");
        assert_eq!(lines, ["a before", "b before", "a after: Failed(Failure::reject(not you))"]);
    }

    #[test]
    fn a_panic_before_the_handler_keeps_the_handler_from_being_called() {
        let log = Log::default();
        for call in ["before", "step"] {
            let falling = Logs { panics_in: call, ..logs(&log, "b") };
            let (said, lines) = handle(vec![logs(&log, "a"), falling], &log, || panic!("called"));
            assert_eq!(said, "the middleware around the handler panicked: b fell");
            assert_eq!(lines.last().unwrap(), "a after: Crashed");
        }
    }

    #[test]
    fn a_panic_behind_the_handler_makes_its_answer_a_crash_and_the_others_go_on() {
        let log = Log::default();
        for call in ["end of step", "after"] {
            let falling = Logs { panics_in: call, ..logs(&log, "b") };
            let (said, lines) = handle(vec![logs(&log, "a"), falling, logs(&log, "c")], &log, || 7);
            assert_eq!(said, "the middleware around the handler panicked: b fell");
            assert!(lines.contains(&"a end of step".to_owned()), "{lines:?}");
            assert_eq!(lines.last().unwrap(), "a after: Crashed");
        }
    }

    #[test]
    fn a_step_that_a_middleware_does_not_run_is_run_all_the_same_inside_the_others() {
        let log = Log::default();
        let forgetful = Logs { runs: false, ..logs(&log, "a") };
        let (said, lines) = handle(vec![forgetful, logs(&log, "b")], &log, || 7);
        assert_eq!(said, "7");
        assert_eq!(lines[2..5], ["a step", "b step", "b end of step"]);
    }

    #[test]
    fn a_panic_of_the_handler_goes_on_to_its_actor_and_is_told_even_if_that_panics_too() {
        let log = Log::default();
        let falling = Logs { panics_in: "after", ..logs(&log, "b") };
        let middlewares = vec![logs(&log, "a"), falling];
        let unwound = catch_unwind(AssertUnwindSafe(|| handle(middlewares, &log, || panic!("the handler's own"))));
        assert_eq!(unwound.unwrap_err().downcast_ref::<&str>(), Some(&"the handler's own"));
        let lines = log.lock().unwrap();
        assert_eq!(lines[2..6], ["a step", "b step", "b end of step", "a end of step"]);
        assert_eq!(lines[6..], ["b after: Crashed", "a after: Crashed"]);
    }

    #[test]
    fn a_middleware_that_has_nothing_more_to_do_costs_no_allocation() {
        struct Looks;

        impl Middleware for Looks {
            fn before(&self, _: &DeliveryInfo<'_>) -> Result<Box<dyn Handling>, Failure> {
                Ok(Box::new(()))
            }
        }

        let around = Middlewares::new(vec![Arc::new(Looks)], vec![Arc::new(Looks)]);
        let around = around.before(&Arc::new(attempt(1)), None).unwrap();
        assert_eq!((around.is_empty(), around.all.capacity()), (true, 0));
    }

    #[test]
    fn without_middleware_nothing_is_allocated() {
        let around = Middlewares::default().before(&Arc::new(attempt(1)), None).unwrap();
        assert_eq!((around.is_empty(), around.all.capacity()), (true, 0));
    }
}
