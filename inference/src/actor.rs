//! One queue and one thread for each loaded model.
//!
//! Callers are refused at the door when the input is wrong or the queue is full; what is in the queue is answered, also
//! while the model is being unloaded. Deadlines are checked when a request leaves the queue and between tokens. First
//! in, first out; batching of waiting requests is not done yet. Needs no runtime: tokio's channels only.

use crate::engine::Engine;
use crate::error::InferError;
use crate::request::{GenerateRequest, Generated, InferRequest, Output, TokenEvent};
use crate::worker;
use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot, watch};

/// Settings of an actor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActorOptions {
    /// Name of the thread, for debuggers and profiles. Default `model`.
    pub name: String,
    /// Most requests that wait. Default 64: at the milliseconds of the sample models a full queue is still answered
    /// within a second, the usual deadline.
    pub queue_bound: usize,
}

impl Default for ActorOptions {
    fn default() -> Self {
        Self {
            name: "model".to_owned(),
            queue_bound: 64,
        }
    }
}

/// Counters of an actor, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ActorLoad {
    /// Requests waiting or running.
    pub queued: usize,
    /// Requests answered, also with an error of the model.
    pub served: u64,
    /// Requests refused because the queue was full.
    pub overloaded: u64,
    /// Requests whose deadline passed in the queue or between tokens.
    pub expired: u64,
    /// Time spent in the model.
    pub busy: Duration,
}

/// Owns the thread of a loaded model. Dropping it closes the queue; the thread then answers what is in it and ends.
pub struct ModelActor {
    engine: Arc<dyn Engine>,
    /// `None` once closed.
    queue: Mutex<Option<mpsc::Sender<Job>>>,
    bound: usize,
    counters: Arc<Counters>,
    ended: watch::Receiver<bool>,
}

#[derive(Default)]
struct Counters {
    queued: AtomicUsize,
    served: AtomicU64,
    overloaded: AtomicU64,
    expired: AtomicU64,
    busy_micros: AtomicU64,
    /// Moving mean of the service time, for retry-after.
    mean_micros: AtomicU64,
}

struct Job {
    work: Work,
    received: Instant,
    deadline: Instant,
}

enum Work {
    Infer {
        request: InferRequest,
        answer: oneshot::Sender<Result<Output, InferError>>,
    },
    Generate {
        request: GenerateRequest,
        tokens: mpsc::Sender<Result<StreamItem, InferError>>,
    },
}

/// What a [`TokenStream`] yields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamItem {
    /// The next token.
    Token(TokenEvent),
    /// The generation ended; nothing follows.
    Done(Generated),
}

/// Tokens of one generation. Dropping it ends the generation at the next token.
pub struct TokenStream {
    receiver: mpsc::Receiver<Result<StreamItem, InferError>>,
}

impl TokenStream {
    /// The next token, the end, or the error that ended it. `None` after either of the last two.
    pub async fn next(&mut self) -> Option<Result<StreamItem, InferError>> {
        self.receiver.recv().await
    }

    /// Reads to the end.
    ///
    /// # Errors
    /// Those of the generation.
    pub async fn collect(mut self) -> Result<Generated, InferError> {
        loop {
            match self.next().await {
                Some(Ok(StreamItem::Token(_))) => {}
                Some(Ok(StreamItem::Done(generated))) => return Ok(generated),
                Some(Err(error)) => return Err(error),
                None => return Err(gone()),
            }
        }
    }
}

impl ModelActor {
    /// Starts the thread of a model.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(engine: Arc<dyn Engine>, options: &ActorOptions) -> io::Result<Self> {
        let bound = options.queue_bound.max(1);
        let (queue, jobs) = mpsc::channel(bound);
        let (end, ended) = watch::channel(false);
        let counters = Arc::new(Counters::default());
        let runner = Runner {
            engine: Arc::clone(&engine),
            counters: Arc::clone(&counters),
        };
        worker::spawn(&options.name, move || {
            runner.run(jobs);
            // The engine goes first: who waits for the end may count on its memory.
            drop(runner);
            end.send_replace(true);
        })?;
        Ok(Self {
            engine,
            queue: Mutex::new(Some(queue)),
            bound,
            counters,
            ended,
        })
    }

    /// The model.
    #[must_use]
    pub fn engine(&self) -> &Arc<dyn Engine> {
        &self.engine
    }

    /// Runs the model once. Dropping the future gives up the answer; if the request still waits it is not run.
    ///
    /// # Errors
    /// Refused input, full queue, deadline, closing, or a failed forward pass.
    pub async fn infer(&self, request: InferRequest, deadline: Instant) -> Result<Output, InferError> {
        self.engine.admit(&request)?;
        let (answer, result) = oneshot::channel();
        self.enqueue(Work::Infer { request, answer }, deadline)?;
        result.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Starts a generation; its tokens come by the stream.
    ///
    /// # Errors
    /// Refused input, full queue, or closing. Later errors come by the stream.
    pub fn generate(&self, request: GenerateRequest, deadline: Instant) -> Result<TokenStream, InferError> {
        self.engine.admit_generate(&request)?;
        // Room for every token and the end: the model's thread never waits for a slow reader. Admission bounds
        // max_tokens, so the room is bounded too.
        let (tokens, receiver) = mpsc::channel(request.sampling.max_tokens.saturating_add(1));
        self.enqueue(Work::Generate { request, tokens }, deadline)?;
        Ok(TokenStream { receiver })
    }

    /// Counters so far.
    #[must_use]
    pub fn load(&self) -> ActorLoad {
        let counters = &self.counters;
        ActorLoad {
            queued: counters.queued.load(Ordering::Relaxed),
            served: counters.served.load(Ordering::Relaxed),
            overloaded: counters.overloaded.load(Ordering::Relaxed),
            expired: counters.expired.load(Ordering::Relaxed),
            busy: Duration::from_micros(counters.busy_micros.load(Ordering::Relaxed)),
        }
    }

    /// Refuses new requests from now on. What is in the queue is still answered.
    pub fn close(&self) {
        self.queue().take();
    }

    /// Closes, and waits until the queue is answered and the thread let go of the model.
    pub async fn drain(&self) {
        self.close();
        self.ended().await;
    }

    /// Waits until the thread ended: after [`Self::close`] and the last answer, or because the engine panicked.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut ended = self.ended.clone();
        // An error means that the thread is gone and could not say so.
        async move { drop(ended.wait_for(|ended| *ended).await) }
    }

    /// Whether the thread ended.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        *self.ended.borrow() || self.ended.has_changed().is_err()
    }

    fn enqueue(&self, work: Work, deadline: Instant) -> Result<(), InferError> {
        let queue = self.queue();
        let sender = queue.as_ref().ok_or(InferError::Closing)?;
        // Counted before it is sent, so that the thread never counts below zero.
        self.counters.queued.fetch_add(1, Ordering::Relaxed);
        let refused = match sender.try_send(Job {
            work,
            received: Instant::now(),
            deadline,
        }) {
            Ok(()) => return Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => self.overloaded(),
            Err(mpsc::error::TrySendError::Closed(_)) => InferError::Closing,
        };
        self.counters.queued.fetch_sub(1, Ordering::Relaxed);
        Err(refused)
    }

    fn overloaded(&self) -> InferError {
        self.counters.overloaded.fetch_add(1, Ordering::Relaxed);
        let mean = self.counters.mean_micros.load(Ordering::Relaxed);
        // The time after which half of the queue is gone, if things go on as they did.
        let wait = Duration::from_micros(mean.saturating_mul(self.bound as u64) / 2);
        let retry_after = wait.clamp(Duration::from_millis(10), Duration::from_secs(5));
        InferError::Overloaded {
            queued: self.bound,
            limit: self.bound,
            retry_after,
        }
    }

    fn queue(&self) -> MutexGuard<'_, Option<mpsc::Sender<Job>>> {
        // Nothing in the guarded sections can leave the option half changed.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the thread owns.
struct Runner {
    engine: Arc<dyn Engine>,
    counters: Arc<Counters>,
}

impl Runner {
    fn run(&self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(job) = jobs.blocking_recv() {
            self.run_one(job);
            self.counters.queued.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn run_one(&self, job: Job) {
        let started = Instant::now();
        if started >= job.deadline {
            self.counters.expired.fetch_add(1, Ordering::Relaxed);
            return job.work.fail(InferError::Deadline {
                waited: started - job.received,
                generated: 0,
            });
        }
        match job.work {
            // The caller is gone: nobody would read the answer.
            Work::Infer { answer, .. } if answer.is_closed() => return,
            Work::Infer { request, answer } => drop(answer.send(self.engine.infer(&request))),
            Work::Generate { request, tokens } => {
                self.generate(&request, &tokens, job.received, job.deadline)
            }
        }
        self.observe(started.elapsed());
    }

    fn generate(
        &self,
        request: &GenerateRequest,
        tokens: &mpsc::Sender<Result<StreamItem, InferError>>,
        received: Instant,
        deadline: Instant,
    ) {
        let (mut expired, mut sent) = (false, 0);
        let result = self.engine.generate(request, &mut |event| {
            expired = Instant::now() >= deadline;
            if expired || tokens.try_send(Ok(StreamItem::Token(event))).is_err() {
                return ControlFlow::Break(());
            }
            sent += 1;
            ControlFlow::Continue(())
        });
        let result = if expired {
            self.counters.expired.fetch_add(1, Ordering::Relaxed);
            Err(InferError::Deadline {
                waited: received.elapsed(),
                generated: sent,
            })
        } else {
            result.map(StreamItem::Done)
        };
        // Fails only when the reader is gone.
        let _ = tokens.try_send(result);
    }

    fn observe(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.counters.served.fetch_add(1, Ordering::Relaxed);
        self.counters.busy_micros.fetch_add(micros, Ordering::Relaxed);
        // One writer: this thread. Weight 1/8 follows a change of load within some ten requests.
        let mean = self.counters.mean_micros.load(Ordering::Relaxed);
        let next = if mean == 0 {
            micros
        } else {
            mean - mean / 8 + micros / 8
        };
        self.counters.mean_micros.store(next, Ordering::Relaxed);
    }
}

impl Work {
    fn fail(self, error: InferError) {
        // Either send fails only when the caller is gone.
        match self {
            Self::Infer { answer, .. } => drop(answer.send(Err(error))),
            Self::Generate { tokens, .. } => drop(tokens.try_send(Err(error))),
        }
    }
}

/// The thread ended without an answer, which only a defect of an engine can cause.
fn gone() -> InferError {
    InferError::Internal {
        what: "the model's thread ended without an answer".to_owned(),
    }
}
