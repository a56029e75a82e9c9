//! Steps of plans that this run of this node carries out: VERIFY_TARGET and CLAIM.
//!
//! Absent on purpose: starting, ordering and retrying steps; the leader does that. Invariant: one task for each (plan,
//! step, attempt); its outcome is computed once and told until the leader has heard it or the step is over.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{sync::watch, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use types::{
    NodeIncarnation, VersionKey,
    plan::{DoorClaim, StepKind},
    reason::Category,
};

use crate::{
    board::Board,
    control::Control,
    desired::{StepId, StepWish},
    roles::Roles,
    serving::Serving,
};

/// How long a target may take to become ready before it says that it is not, as a part of the step's time: a load of a
/// sample model takes less.
const READY_PART: f64 = 0.4;
/// Time for one real inference of every model, as a part of the step's time.
const SELF_TEST_PART: f64 = 0.4;
/// Time for the claim of every door; one try has less.
const CLAIMS_LIMIT: Duration = Duration::from_secs(3);
/// Most characters of each reason in a step's detail.
const WHY_MAX: usize = 120;
/// Wait between two tries to tell the leader.
const REPORT_RETRY: Duration = Duration::from_millis(200);

/// The running steps.
pub struct Steps {
    worker: Arc<Worker>,
    running: BTreeMap<StepId, CancellationToken>,
    tasks: TaskTracker,
}

struct Worker {
    run: NodeIncarnation,
    control: Arc<dyn Control>,
    roles: Roles,
    serving: Serving,
    board: watch::Receiver<Board>,
}

struct Outcome {
    result: Result<String, String>,
    doors: Vec<DoorClaim>,
}

impl Steps {
    /// Runs nothing yet; reports as `run`.
    pub fn new(
        run: NodeIncarnation,
        control: Arc<dyn Control>,
        roles: Roles,
        serving: Serving,
        board: watch::Receiver<Board>,
    ) -> Self {
        let worker = Worker {
            run,
            control,
            roles,
            serving,
            board,
        };
        Self {
            worker: Arc::new(worker),
            running: BTreeMap::new(),
            tasks: TaskTracker::new(),
        }
    }

    /// Starts what is wanted and not running, and ends what is no longer wanted.
    pub fn update(&mut self, wishes: &BTreeMap<StepId, StepWish>) {
        self.running.retain(|id, stop| {
            let kept = wishes.contains_key(id);
            if !kept {
                stop.cancel();
            }
            kept
        });
        for (id, wish) in wishes {
            if self.running.contains_key(id) {
                continue;
            }
            let stop = CancellationToken::new();
            self.running.insert(*id, stop.clone());
            let (worker, id, wish) = (Arc::clone(&self.worker), *id, wish.clone());
            self.tasks.spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = worker.carry_out(id, wish) => {}
                }
            });
        }
    }

    /// Ends all steps and waits for their tasks.
    pub async fn shutdown(&mut self) {
        self.update(&BTreeMap::new());
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Worker {
    async fn carry_out(&self, id: StepId, wish: StepWish) {
        tracing::info!(plan = %id.plan, step = %id.step, attempt = id.attempt, role = %wish.role, "step begins");
        let outcome = match id.step {
            StepKind::VerifyTarget => self.verify_target(wish.time).await,
            StepKind::Claim => self.claim(&wish).await,
            StepKind::Detect | StepKind::Fence | StepKind::WaitLease | StepKind::Promote => return,
        };
        tracing::info!(plan = %id.plan, step = %id.step, result = ?outcome.result, "step ends");
        self.tell(id, &outcome).await;
    }

    /// Shows within `time` that this node can serve: copies verified, models loaded, one real inference of each.
    async fn verify_target(&self, time: Duration) -> Outcome {
        let mut board = self.board.clone();
        let fit = |board: &Board| board.ready.is_ok() && board.missing.is_empty();
        let waited = timeout(time.mul_f64(READY_PART), board.wait_for(fit))
            .await
            .is_ok();
        let result = if waited {
            let tested = self.serving.self_test(time.mul_f64(SELF_TEST_PART)).await;
            tested.map(|count| verified(count, &self.board.borrow()))
        } else {
            Err(why_unfit(&self.board.borrow()))
        };
        Outcome {
            result,
            doors: Vec::new(),
        }
    }

    /// Takes every door that can be reached (L15). One that can be reached and still takes an older epoch ends the
    /// attempt: nobody is promoted over it.
    async fn claim(&self, wish: &StepWish) -> Outcome {
        let failed = |why: String| Outcome {
            result: Err(why),
            doors: Vec::new(),
        };
        let Some(token) = &wish.token else {
            return failed("the plan names no epoch to claim under".to_owned());
        };
        let claims = self
            .roles
            .first_claims(&wish.role, token.epoch, CLAIMS_LIMIT)
            .await;
        match claims {
            Ok(doors) => {
                let claimed = doors.iter().filter(|d| d.claimed).count();
                let text = format!("{claimed} of {} doors claimed under {}", doors.len(), token.epoch);
                Outcome {
                    result: Ok(text),
                    doors,
                }
            }
            Err(refusal) => failed(refusal.message),
        }
    }

    /// Until the leader has heard it, or says that it no longer matters.
    async fn tell(&self, id: StepId, outcome: &Outcome) {
        let result = outcome.result.as_deref().map_err(String::as_str);
        loop {
            let told = self
                .control
                .report_step(id.plan, id.step, id.attempt, result, &outcome.doors, self.run)
                .await;
            match told {
                Ok(()) => return,
                Err(refusal) if may_pass(refusal.reason.category()) => {
                    tracing::debug!(plan = %id.plan, step = %id.step, "step not told yet: {refusal}");
                    tokio::time::sleep(REPORT_RETRY).await;
                }
                Err(refusal) => {
                    tracing::info!(plan = %id.plan, step = %id.step, "step's outcome refused: {refusal}");
                    return;
                }
            }
        }
    }
}

fn may_pass(category: Category) -> bool {
    matches!(
        category,
        Category::Unavailable | Category::Unknown | Category::ResourceExhausted
    )
}

fn verified(count: usize, board: &Board) -> String {
    let text = format!("{count} versions loaded, each answered one inference");
    if board.unloaded.is_empty() {
        return text;
    }
    let why = |key: &VersionKey| match board.why_unloaded(key) {
        Some(error) => format!("{key} ({})", error.chars().take(WHY_MAX).collect::<String>()),
        None => format!("{key} (on its way)"),
    };
    let unloaded: Vec<_> = board.unloaded.iter().map(why).collect();
    format!("{text}; not loaded here: {}", unloaded.join(", "))
}

fn why_unfit(board: &Board) -> String {
    match (&board.ready, board.missing.first()) {
        (Err(why), _) => why.clone(),
        (Ok(()), Some(key)) => format!("{key} is not verified in this region yet"),
        (Ok(()), None) => "it became ready too late".to_owned(),
    }
}
