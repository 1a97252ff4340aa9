//! The declarations of one connection: callers that ask for one at the same time share it.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;

/// Without this, each of a thousand consumers that start at once would have the whole topology declared.
#[derive(Default)]
pub(crate) struct Declarations {
    /// How many callers have asked.
    asked: AtomicU64,
    /// How many of them had asked before the last successful declaration began. Held during a declaration.
    served: Mutex<u64>,
}

impl Declarations {
    /// Waits until a declaration has succeeded that began after this call: `declare`, or that of another caller.
    /// Cancellation: if this future is dropped, the next caller declares.
    pub(crate) async fn share<E>(&self, declare: impl Future<Output = Result<(), E>>) -> Result<(), E> {
        let own = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let mut served = self.served.lock().await;
        if *served >= own {
            return Ok(());
        }
        let before = self.asked.load(Ordering::SeqCst);
        declare.await?;
        *served = before;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, convert::Infallible};

    use futures_util::future::join_all;
    use tokio::task::yield_now;

    use super::*;

    #[tokio::test]
    async fn who_asks_during_a_declaration_shares_the_next_one() {
        let (declarations, run) = (Declarations::default(), Cell::new(0));
        let declare = || async {
            run.set(run.get() + 1);
            yield_now().await;
            Ok::<_, Infallible>(())
        };
        let first = declarations.share(declare());
        let rest = async {
            // The first one has begun, and knows nothing of what these have added.
            join_all((0..100).map(|_| declarations.share(declare()))).await
        };
        let (first, rest) = tokio::join!(first, rest);
        assert!(first.is_ok() && rest.iter().all(Result::is_ok));
        assert_eq!(run.get(), 2);
        declarations.share(declare()).await.unwrap();
        assert_eq!(run.get(), 3, "a later caller needs one of its own");
    }

    #[tokio::test]
    async fn a_declaration_that_failed_serves_nobody_else() {
        let declarations = Declarations::default();
        let failed = declarations.share(async {
            yield_now().await;
            Err("refused")
        });
        let (failed, other) = tokio::join!(failed, declarations.share(async { Ok::<_, &str>(()) }));
        assert_eq!((failed, other), (Err("refused"), Ok(())));
    }
}
