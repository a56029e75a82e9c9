//! A model whose engine has a defect.

use std::{
    path::Path,
    sync::{Arc, Condvar, Mutex},
};

use inference::{
    Engine, InferError, InferRequest, InputError, LoadError, Output, Signature, Tensor, fake::FakeEngine,
};
use node_agent::{Agent, board::Board, serving::LoadModel};
use serde_json::json;

use crate::world::{BYTES, World, key, ready};

/// Panics at an image that begins with this.
const DEADLY: f32 = 13.0;

struct Fragile(FakeEngine);

impl Engine for Fragile {
    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn admit(&self, request: &InferRequest) -> Result<(), InputError> {
        self.0.admit(request)
    }

    fn infer(&self, request: &InferRequest) -> Result<Output, InferError> {
        let pixels = request.inputs.first().and_then(Tensor::as_fp32);
        assert_ne!(pixels.unwrap_or_default().first(), Some(&DEADLY), "as tests do");
        self.0.infer(request)
    }
}

/// Loads as often as it is allowed to.
#[derive(Default)]
struct Loader {
    allowed: Mutex<usize>,
    changed: Condvar,
}

impl Loader {
    fn allow(&self) {
        *self.allowed.lock().unwrap() += 1;
        self.changed.notify_all();
    }
}

impl LoadModel for Loader {
    fn load(&self, _: &Path) -> Result<Arc<dyn Engine>, LoadError> {
        let allowed = self.allowed.lock().unwrap();
        let mut allowed = self.changed.wait_while(allowed, |n| *n == 0).unwrap();
        *allowed -= 1;
        let signature = Signature::digits(64, 16.0, 10, 32);
        Ok(Arc::new(Fragile(FakeEngine::new(signature))))
    }
}

/// Status and reason of an answer to an image of one shade.
async fn ask(agent: &Agent, shade: f32) -> (u16, String) {
    let url = format!("http://{}/predict", agent.addresses().inference);
    let question = json!({"model": "digits", "input": vec![shade; 64]});
    let answer = reqwest::Client::new()
        .post(url)
        .json(&question)
        .send()
        .await
        .unwrap();
    let status = answer.status().as_u16();
    let body: serde_json::Value = answer.json().await.unwrap();
    (status, body["error"].to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_whose_engine_panics_is_loaded_again_and_the_node_stays_fit_for_the_others() {
    let world = World::new().await;
    let loader = Arc::new(Loader::default());
    loader.allow();
    let agent = world.agent_with(Arc::clone(&loader) as Arc<dyn LoadModel>).await;
    world.put_champion("digits@1", BYTES).await;
    ready(&agent).await;
    assert_eq!(ask(&agent, 1.0).await.0, 200);

    let (status, error) = ask(&agent, DEADLY).await;
    assert_eq!(status, 500, "{error}");
    // Nobody loads it before it is allowed to, so this is no glance at a moment.
    let mut board = agent.board();
    let lost = |board: &Board| !board.unloaded.is_empty() && !board.load_errors.is_empty();
    {
        let board = board.wait_for(lost).await.unwrap();
        assert_eq!(board.ready, Ok(()));
        // It is loaded again: nobody is told that this is in vain.
        assert!(board.defective.is_empty() && board.failed.contains(&key("digits@1")));
    }
    let (status, error) = ask(&agent, 1.0).await;
    assert_eq!(status, 500, "{error}");
    assert!(error.contains("its engine panicked"), "{error}");

    loader.allow();
    ready(&agent).await;
    assert_eq!(ask(&agent, 1.0).await.0, 200);
    agent.shutdown().await.unwrap();
}
