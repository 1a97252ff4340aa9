//! Transactions of a relay that write.
//!
//! SQLite has one writer at a time and no line of those who wait. A connection that finds another one writing sleeps,
//! each time longer, up to 100 ms (`sqlite3_busy_timeout`). If others write all the time, the longest sleeper rarely
//! finds the short moment between two of them. A relay would then publish seconds late, so it tries each millisecond.

use std::{ops::AsyncFnOnce, time::Duration};

use sqlx::{Connection, Sqlite, SqliteConnection, SqlitePool, pool::PoolConnection};
use tokio::{
    runtime::Handle,
    time::{Instant, sleep},
};

/// The pause between two tries to begin.
const PAUSE: Duration = Duration::from_millis(1);

/// Does this work in a transaction, and commits it. Waits for other writers as long as the connection's `busy_timeout`
/// says.
pub(super) async fn write<T>(
    pool: &SqlitePool,
    work: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, sqlx::Error>,
) -> Result<T, sqlx::Error> {
    let mut impatient = Impatient::new(pool.acquire().await?).await?;
    let (patience, begun) = (impatient.patience, Instant::now());
    let Some(connection) = &mut impatient.connection else { return Err(sqlx::Error::WorkerCrashed) };
    let mut tx = loop {
        match connection.begin_with("begin immediate").await {
            Ok(tx) => break tx,
            Err(error) if is_busy(&error) && begun.elapsed() < patience => sleep(PAUSE).await,
            Err(error) => return Err(error),
        }
    };
    set_patience(&mut tx, patience).await?;
    let done = work(&mut tx).await?;
    tx.commit().await?;
    impatient.is_patient = true;
    Ok(done)
}

/// A connection that fails at once if another one writes, and waits again as before when it goes back to its pool.
struct Impatient {
    connection: Option<PoolConnection<Sqlite>>,
    patience: Duration,
    is_patient: bool,
}

impl Impatient {
    async fn new(mut connection: PoolConnection<Sqlite>) -> Result<Self, sqlx::Error> {
        let patience: i64 = sqlx::query_scalar("pragma busy_timeout").fetch_one(&mut *connection).await?;
        let patience = Duration::from_millis(patience.unsigned_abs());
        let mut impatient = Self { connection: Some(connection), patience, is_patient: false };
        if let Some(connection) = &mut impatient.connection {
            set_patience(connection, Duration::ZERO).await?;
        }
        Ok(impatient)
    }
}

impl Drop for Impatient {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take().filter(|_| !self.is_patient) else { return };
        match Handle::try_current() {
            Ok(runtime) => {
                let patience = self.patience;
                runtime.spawn(async move {
                    // There is a transaction if this was dropped between its begin and the answer. If there is none,
                    // SQLite says so.
                    let _ = sqlx::query("rollback").execute(&mut *connection).await;
                    if set_patience(&mut connection, patience).await.is_err() {
                        connection.close_on_drop();
                    }
                });
            }
            // Closed by this thread. To give it back to its pool would need a runtime.
            Err(_) => drop(connection.detach()),
        }
    }
}

async fn set_patience(connection: &mut SqliteConnection, patience: Duration) -> Result<(), sqlx::Error> {
    let pragma = format!("pragma busy_timeout = {}", patience.as_millis());
    sqlx::query(&pragma).execute(connection).await.map(drop)
}

/// `SQLITE_BUSY` or one of its extended codes, whose lowest byte it is.
fn is_busy(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code()?.parse::<i32>().ok());
    code.is_some_and(|code| code & 0xff == 5)
}

#[cfg(test)]
mod tests {
    use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
    use tempfile::TempDir;
    use tokio::time::timeout;

    use super::*;

    /// Two connections to a file, which wait this long for each other.
    async fn two(patience: Duration) -> (SqlitePool, TempDir) {
        let folder = tempfile::tempdir().expect("a folder");
        let file = SqliteConnectOptions::new().filename(folder.path().join("file")).create_if_missing(true);
        let pool = SqlitePoolOptions::new().max_connections(2).connect_with(file.busy_timeout(patience)).await;
        (pool.expect("a file"), folder)
    }

    async fn patience(connection: &mut SqliteConnection) -> i64 {
        sqlx::query_scalar("pragma busy_timeout").fetch_one(connection).await.expect("an answer")
    }

    #[tokio::test]
    async fn a_connection_waits_as_before_once_it_is_back_in_its_pool() {
        let (pool, _folder) = two(Duration::from_secs(60)).await;
        let first = write(&pool, async |tx| Ok(patience(tx).await)).await.expect("nobody else writes");
        assert_eq!(first, 60_000, "in the transaction");
        let mut other = pool.begin_with("begin immediate").await.expect("nobody else writes");
        // Dropped while it waits.
        let given_up = timeout(Duration::from_millis(50), write(&pool, async |_| Ok(()))).await;
        assert!(given_up.is_err());
        let mut back = pool.acquire().await.expect("the connection that waited");
        assert_eq!([patience(&mut back).await, patience(&mut other).await], [60_000; 2]);
    }

    #[tokio::test]
    async fn it_waits_as_long_as_the_connection_does_and_no_longer() {
        let (pool, _folder) = two(Duration::from_millis(100)).await;
        let other = pool.begin_with("begin immediate").await.expect("nobody else writes");
        let begun = Instant::now();
        let late = write(&pool, async |_| Ok(())).await;
        assert!(late.as_ref().is_err_and(is_busy) && begun.elapsed() >= Duration::from_millis(100), "{late:?}");
        let (waiting, _) = tokio::join!(write(&pool, async |_| Ok(())), async move { other.rollback().await });
        waiting.expect("the other one has ended");
    }
}
