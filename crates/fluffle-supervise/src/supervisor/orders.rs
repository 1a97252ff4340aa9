//! Orders from a handle to a supervisor. They are messages to the supervisor's own mailbox, so they wait while it
//! restarts.

use std::sync::Arc;

use actix::{Context, Handler, Message, ResponseFuture};
use tokio::sync::oneshot;

use crate::{
    spec::ChildSpec,
    supervisor::{
        actor::Supervisor,
        error::{StartChildError, StopChildError},
        family::Refused,
    },
};

pub(crate) struct StartChild(pub(crate) ChildSpec);

impl Message for StartChild {
    type Result = Result<(), StartChildError>;
}

impl Handler<StartChild> for Supervisor {
    type Result = Result<(), StartChildError>;

    fn handle(&mut self, StartChild(spec): StartChild, _: &mut Context<Self>) -> Self::Result {
        let id = spec.node().id().clone();
        self.family.add(spec).map_err(|refused| match refused {
            Refused::Duplicate => StartChildError::Duplicate { id },
            Refused::Ending | Refused::Unknown => StartChildError::SupervisorOver { id },
        })
    }
}

pub(crate) struct StopChild(pub(crate) Arc<str>);

impl Message for StopChild {
    type Result = Result<(), StopChildError>;
}

impl Handler<StopChild> for Supervisor {
    type Result = ResponseFuture<Result<(), StopChildError>>;

    fn handle(&mut self, StopChild(id): StopChild, _: &mut Context<Self>) -> Self::Result {
        let (done, down) = oneshot::channel();
        let ordered = self.family.stop(&id, done);
        Box::pin(async move {
            if ordered.is_err() {
                return Err(StopChildError::Unknown { id });
            }
            // The sender is dropped unused if the supervisor ends first.
            down.await.map_err(|_| StopChildError::SupervisorOver { id })
        })
    }
}
