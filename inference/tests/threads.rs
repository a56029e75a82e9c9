//! No forward of a small model wakes a thread pool. A binary of its own: the threads of other tests would be counted.

#![cfg(all(feature = "candle", target_os = "linux"))]
#![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

use inference::{ActorOptions, InferRequest, LoadOptions, ModelActor, load};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

fn thread_ids() -> BTreeSet<std::ffi::OsString> {
    std::fs::read_dir("/proc/self/task")
        .unwrap()
        .map(|task| task.unwrap().file_name())
        .collect()
}

#[tokio::test]
async fn a_model_has_one_thread_and_its_forwards_start_no_other() {
    for name in ["digits", "embedder", "tinylm"] {
        let before = thread_ids();
        let engine = load(
            &Path::new(env!("CARGO_MANIFEST_DIR")).join("../models").join(name),
            &LoadOptions::default(),
        );
        let engine = engine.unwrap();
        let actor = ModelActor::start(engine, &ActorOptions::default()).unwrap();
        let mut request = InferRequest::sample(actor.engine().signature());
        request.sampling.max_tokens = 16;
        actor
            .infer(request, Instant::now() + Duration::from_secs(60))
            .await
            .unwrap();
        let started = thread_ids().difference(&before).count();
        assert_eq!(started, 1, "{name} started {started} threads");
        actor.drain().await;
    }
}
