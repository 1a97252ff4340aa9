//! The contract of the store, on disk and in memory.

use super::Offsets;
use crate::{OpenError, SeenIds, StoreErrorKind};

#[tokio::test]
async fn an_offset_is_kept_across_a_restart_until_it_is_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("billing.offsets");
    let offsets = Offsets::open(&path).unwrap();
    assert_eq!(offsets.kept("events", "billing").await.unwrap(), None);
    offsets.keep("events", "billing", 7).await.unwrap();
    offsets.close().await.unwrap();
    assert_eq!(offsets.kept("events", "billing").await.unwrap_err().kind(), StoreErrorKind::Closed);

    let offsets = Offsets::open(&path).unwrap();
    assert!(matches!(Offsets::open(&path), Err(OpenError::Locked { .. })));
    assert_eq!(offsets.kept("events", "billing").await.unwrap(), Some(7));
    assert_eq!(offsets.forget("events", "billing").await.unwrap(), Some(7));
    assert_eq!(offsets.kept("events", "billing").await.unwrap(), None);
}

#[tokio::test]
async fn an_offset_never_goes_back_and_each_reader_of_each_stream_has_its_own() {
    let offsets = Offsets::in_memory().unwrap();
    for next in [5, 9, 3, 9] {
        offsets.keep("events", "billing", next).await.unwrap();
    }
    offsets.keep("events", "audit", 2).await.unwrap();
    offsets.keep("orders", "billing", 0).await.unwrap();
    assert_eq!(offsets.kept("events", "billing").await.unwrap(), Some(9));
    assert_eq!(offsets.kept("events", "audit").await.unwrap(), Some(2));
    assert_eq!(offsets.kept("orders", "billing").await.unwrap(), Some(0));
    assert_eq!(offsets.kept("orders", "audit").await.unwrap(), None);
}

#[tokio::test]
async fn a_file_of_another_kind_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.seen");
    SeenIds::options().open(&path).unwrap().close().await.unwrap();
    assert!(matches!(Offsets::open(&path), Err(OpenError::Foreign { .. })));
}
