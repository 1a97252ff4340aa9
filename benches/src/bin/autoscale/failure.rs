//! Why a run could not be carried out.

use std::error::Error;

pub(crate) type Failure = Box<dyn Error + Send + Sync>;
