//! Stands in for the supervisor above the root of a tree. It never restarts the root.

use std::sync::Arc;

use crate::{
    control::{Control, Report, Signal, Token, Watch},
    event::AfterExit,
    spec::ChildSpec,
};

pub(crate) struct Root(ChildSpec);

impl Root {
    pub(crate) fn start(spec: ChildSpec) {
        let root = Arc::new(Self(spec));
        let node = root.0.node();
        node.settle_paths();
        let control = Arc::new(Control::new());
        node.starting(&control);
        root.0.spawn(Report::new(control, root.clone()));
    }
}

impl Watch for Root {
    fn signal(&self, _: Token, signal: Signal) {
        let node = self.0.node();
        match signal {
            Signal::Ready => node.ready(),
            // Health matters only for a restart, and a root is not restarted.
            Signal::Healthy => {}
            Signal::Exited(reason) => {
                node.exited(&reason);
                node.log_exit(AfterExit::Nothing);
                node.finish(reason);
            }
        }
    }
}
