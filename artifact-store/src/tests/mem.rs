//! The store in memory.

use std::sync::Arc;

use crate::{
    MemStore,
    conformance::{Known, check_store},
};

#[tokio::test]
async fn memory_conforms() {
    check_store(Arc::new(MemStore::new("mem")), Known::AsAws).await;
}
