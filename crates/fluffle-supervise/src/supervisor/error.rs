//! Why a supervisor did not carry out an order.

use std::sync::Arc;

/// Why a child was not added.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartChildError {
    /// The supervisor has a child of this id.
    #[error("the supervisor already has a child named {id:?}: ids must differ among siblings")]
    Duplicate {
        /// The id.
        id: Arc<str>,
    },
    /// The supervisor is over or about to be.
    #[error("the child {id:?} was not started: its supervisor is over or stopping")]
    SupervisorOver {
        /// The id.
        id: Arc<str>,
    },
}

/// Why a child was not stopped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StopChildError {
    /// The supervisor has no child of this id.
    #[error("the supervisor has no child named {id:?}")]
    Unknown {
        /// The id.
        id: Arc<str>,
    },
    /// The supervisor ended meanwhile, and the child with it.
    #[error("the supervisor of {id:?} is over, and its children with it")]
    SupervisorOver {
        /// The id.
        id: Arc<str>,
    },
}
