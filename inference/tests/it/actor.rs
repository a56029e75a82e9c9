//! The queue before a model: overload, deadlines, streams, drain. The fake engine's gate stands in for time.

use inference::fake::FakeEngine;
use inference::{
    ActorOptions, FinishReason, GenerateRequest, InferError, InferRequest, ModelActor, Sampling, Signature,
    StreamItem,
};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

fn start(engine: &Arc<FakeEngine>, queue_bound: usize) -> Arc<ModelActor> {
    let options = ActorOptions {
        name: "test-model".to_owned(),
        queue_bound,
    };
    Arc::new(ModelActor::start(engine.clone(), &options).unwrap())
}

fn embedder() -> Signature {
    Signature::embedding(4, 16, 4)
}

fn text(text: &str) -> InferRequest {
    InferRequest::texts(vec![text.to_owned()])
}

fn spawn(
    actor: &Arc<ModelActor>,
    request: InferRequest,
    deadline: Instant,
) -> tokio::task::JoinHandle<Answer> {
    let actor = Arc::clone(actor);
    tokio::spawn(async move { actor.infer(request, deadline).await })
}

type Answer = Result<inference::Output, InferError>;

/// Lets spawned callers run until `queued` requests wait or run.
async fn until_queued(actor: &ModelActor, queued: usize) {
    while actor.load().queued != queued {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn answers_are_those_of_the_engine() {
    let engine = Arc::new(FakeEngine::new(embedder()));
    let actor = start(&engine, 4);
    let direct = inference::Engine::infer(engine.as_ref(), &text("hello")).unwrap();
    assert_eq!(actor.infer(text("hello"), soon()).await.unwrap(), direct);
    assert_ne!(actor.infer(text("other"), soon()).await.unwrap(), direct);
}

#[tokio::test]
async fn refused_input_never_reaches_the_queue() {
    let engine = Arc::new(FakeEngine::gated(embedder()));
    let actor = start(&engine, 1);
    assert!(matches!(
        actor.infer(text(""), soon()).await,
        Err(InferError::Input(_))
    ));
    assert_eq!((actor.load().queued, engine.calls()), (0, 0));
    engine.open();
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_says_when_to_come_back() {
    let engine = Arc::new(FakeEngine::gated(embedder()));
    let actor = start(&engine, 2);
    let running = spawn(&actor, text("running"), soon());
    until_queued(&actor, 1).await;
    engine.await_call();
    let waiting = [spawn(&actor, text("a"), soon()), spawn(&actor, text("b"), soon())];
    until_queued(&actor, 3).await;
    let refused = actor.infer(text("c"), soon()).await.unwrap_err();
    let InferError::Overloaded {
        queued,
        limit,
        retry_after,
    } = refused
    else {
        panic!("{refused}")
    };
    assert_eq!((queued, limit), (2, 2));
    assert!(retry_after >= Duration::from_millis(10) && retry_after <= Duration::from_secs(5));
    engine.open();
    assert!(running.await.unwrap().is_ok());
    for answer in waiting {
        assert!(answer.await.unwrap().is_ok());
    }
    actor.drain().await;
    let load = actor.load();
    assert_eq!((load.queued, load.served, load.overloaded), (0, 3, 1));
}

#[tokio::test]
async fn a_deadline_that_passed_in_the_queue_costs_no_forward() {
    let engine = Arc::new(FakeEngine::gated(embedder()));
    let actor = start(&engine, 4);
    let running = spawn(&actor, text("running"), soon());
    until_queued(&actor, 1).await;
    engine.await_call();
    let late = spawn(&actor, text("late"), Instant::now());
    until_queued(&actor, 2).await;
    engine.open();
    assert!(running.await.unwrap().is_ok());
    assert!(matches!(
        late.await.unwrap(),
        Err(InferError::Deadline { generated: 0, .. })
    ));
    actor.drain().await;
    assert_eq!((engine.calls(), actor.load().expired), (1, 1));
}

#[tokio::test]
async fn a_caller_that_left_costs_no_forward() {
    let engine = Arc::new(FakeEngine::gated(embedder()));
    let actor = start(&engine, 4);
    let running = spawn(&actor, text("running"), soon());
    until_queued(&actor, 1).await;
    engine.await_call();
    {
        let left = actor.infer(text("left"), soon());
        tokio::pin!(left);
        // Polled once: in the queue. Then dropped.
        assert!(futures_poll_once(left.as_mut()).await);
    }
    engine.open();
    assert!(running.await.unwrap().is_ok());
    actor.drain().await;
    assert_eq!(engine.calls(), 1);
}

/// Polls once; true if the future is not ready.
async fn futures_poll_once<F: Future>(mut future: std::pin::Pin<&mut F>) -> bool {
    std::future::poll_fn(|context| std::task::Poll::Ready(future.as_mut().poll(context).is_pending())).await
}

#[tokio::test]
async fn draining_answers_what_waits_and_refuses_the_rest() {
    let engine = Arc::new(FakeEngine::gated(embedder()));
    let actor = start(&engine, 4);
    let running = spawn(&actor, text("a"), soon());
    until_queued(&actor, 1).await;
    engine.await_call();
    let waiting = spawn(&actor, text("b"), soon());
    until_queued(&actor, 2).await;
    actor.close();
    assert_eq!(actor.infer(text("c"), soon()).await, Err(InferError::Closing));
    engine.open();
    actor.drain().await;
    assert!(running.await.unwrap().is_ok() && waiting.await.unwrap().is_ok());
    drop(actor);
    assert_eq!(Arc::strong_count(&engine), 1, "the thread let go of the model");
}

fn generator() -> Signature {
    Signature::generator(64, 32)
}

#[tokio::test]
async fn tokens_come_one_by_one() {
    let engine = Arc::new(FakeEngine::gated(generator()));
    let actor = start(&engine, 1);
    let mut stream = actor
        .generate(GenerateRequest::greedy("one two", 3), soon())
        .unwrap();
    for word in [" one", " two", " one"] {
        engine.pass();
        let Some(Ok(StreamItem::Token(event))) = stream.next().await else {
            panic!("no token")
        };
        assert_eq!(event.text, word);
    }
    let Some(Ok(StreamItem::Done(generated))) = stream.next().await else {
        panic!("no end")
    };
    assert_eq!(
        (generated.text.as_str(), generated.finish),
        (" one two one", FinishReason::Length)
    );
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn a_reader_that_left_ends_the_generation() {
    let engine = Arc::new(FakeEngine::gated(generator()));
    let actor = start(&engine, 1);
    let mut stream = actor
        .generate(GenerateRequest::greedy("one two", 30), soon())
        .unwrap();
    engine.pass();
    assert!(stream.next().await.is_some());
    engine.await_call();
    drop(stream);
    engine.open();
    actor.drain().await;
    assert_eq!(engine.calls(), 2, "the token in the works, and no more");
}

#[tokio::test]
async fn a_deadline_between_tokens_ends_the_generation() {
    let engine = Arc::new(FakeEngine::gated(generator()));
    let actor = start(&engine, 1);
    let deadline = Instant::now() + Duration::from_millis(200);
    let stream = actor
        .generate(GenerateRequest::greedy("one two", 30), deadline)
        .unwrap();
    engine.await_call();
    // The deadline itself is the event waited for.
    tokio::time::sleep_until(deadline.into()).await;
    engine.open();
    assert!(matches!(stream.collect().await, Err(InferError::Deadline { .. })));
    actor.drain().await;
    assert_eq!(engine.calls(), 1);
}

#[tokio::test]
async fn generation_by_tensors_goes_through_the_same_queue() {
    let engine = Arc::new(FakeEngine::new(generator()));
    let actor = start(&engine, 1);
    let mut request = InferRequest::new(vec![inference::Tensor::texts(
        "prompt",
        vec!["one two".to_owned()],
    )]);
    request.sampling = Sampling {
        max_tokens: 3,
        ..Sampling::default()
    };
    let output = actor.infer(request, soon()).await.unwrap();
    assert_eq!(
        output.tensor("text").unwrap().as_texts().unwrap(),
        [" one two one"]
    );
}
