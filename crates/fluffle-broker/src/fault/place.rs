//! Where faults are carried out, and which faults are possible there.

use super::{Chosen, Fault, FaultError, Target};

/// What carries out the faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Broker,
    Proxy,
}

impl Place {
    pub(super) fn check_fault(self, fault: &Fault) -> Result<(), FaultError> {
        if self == Self::Proxy && !fault.is_of_transport() && *fault != Fault::Refuse {
            return Err(FaultError::NeedsBroker { fault: fault.name() });
        }
        match fault {
            Fault::Slow { bytes_per_second: 0, .. } => Err(FaultError::OutOfRange {
                what: "bytes_per_second",
                value: 0.0,
                allowed: "1 or more; Stall lets nothing pass",
            }),
            _ => Ok(()),
        }
    }

    pub(super) fn check_strike(self, fault: &Fault, target: &Target) -> Result<(), FaultError> {
        self.check_fault(fault)?;
        if fault.answers_a_publish() || *fault == Fault::Refuse {
            return Err(FaultError::NeedsRule { fault: fault.name() });
        }
        if fault.is_of_the_broker() && target.0 != Chosen::All {
            return Err(FaultError::NeedsAll { fault: fault.name() });
        }
        match (self, &target.0) {
            (Self::Proxy, Chosen::Connection(_)) => Err(FaultError::NeedsBroker { fault: "the name of a connection" }),
            (Self::Proxy, Chosen::Queue(_)) => Err(FaultError::NeedsBroker { fault: "the name of a queue" }),
            _ => Ok(()),
        }
    }
}
