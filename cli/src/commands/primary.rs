//! `regent primary …` and `regent switchover`: who may write, and moving it.

use std::time::Duration;

use client::Client;
use serde_json::json;
use tokio::time::{Instant, sleep};
use types::{
    PlanId, RoleName, UnixMillis,
    plan::{PlanRecord, PlanState},
    reason::{Reason, Refusal},
    role::{FailoverMode, RoleRecord},
    time::{Clock as _, SystemClock},
};

use super::{VALIDATED, changed, reader, role_changer, tell, tell_change};
use crate::{
    args::{PauseArgs, PrimaryCommand, ReadArgs, RoleChangeArgs, RoleGetArgs, Shared, SwitchoverArgs},
    error::Failure,
    exit::Exit,
    output::{ago, answer, conclude, or_dash, table},
};

/// How often a plan is read while its end is awaited.
const PLAN_POLL: Duration = Duration::from_millis(200);
/// Plans shown with a role.
const PLANS: u32 = 5;

/// Runs one.
pub(crate) async fn run(command: PrimaryCommand, shared: Shared) -> Result<(), Failure> {
    match command {
        PrimaryCommand::List(read) => list(&read, &shared).await,
        PrimaryCommand::Get(args) => get(&args, &shared).await,
        PrimaryCommand::Pause(args) => pause(&args, &shared).await,
        PrimaryCommand::Resume(args) => {
            set_mode(&args.role, FailoverMode::Automatic, &args.change, &shared).await
        }
    }
}

async fn list(read: &ReadArgs, shared: &Shared) -> Result<(), Failure> {
    let client = reader(shared, read)?;
    let roles = client.list_roles().await?;
    tell(&client, shared.output, json!({ "roles": roles }), || {
        role_table(&roles)
    })
}

async fn get(args: &RoleGetArgs, shared: &Shared) -> Result<(), Failure> {
    let client = reader(shared, &args.read)?;
    let (role, _) = client.get_role(&args.role).await?;
    let plans = client.list_plans(Some(&args.role), PLANS).await?;
    let document = json!({ "role": role, "plans": plans });
    tell(&client, shared.output, document, || {
        let mut text = role_table(std::slice::from_ref(&role));
        if !plans.is_empty() {
            text = format!("{text}\n\n{}{}", plan_table(&plans), remarks(&plans));
        }
        text
    })
}

async fn pause(args: &PauseArgs, shared: &Shared) -> Result<(), Failure> {
    let until: UnixMillis = SystemClock.now().plus(args.duration);
    set_mode(&args.role, FailoverMode::Paused { until }, &args.change, shared).await
}

async fn set_mode(
    role: &RoleName,
    mode: FailoverMode,
    args: &RoleChangeArgs,
    shared: &Shared,
) -> Result<(), Failure> {
    let client = role_changer(shared, args)?;
    let role = client.set_role_mode(role, mode).await.map_err(|refusal| {
        Failure::from(refusal).or_ask_again("`regent primary get` shows the mode; asking again is safe")
    })?;
    tell_change(&client, shared.output, json!({ "role": role }), || {
        role_table(std::slice::from_ref(&role))
    })
}

/// Starts the hand-over, and follows it where `--wait` says so.
pub(crate) async fn switchover(args: SwitchoverArgs, shared: Shared) -> Result<(), Failure> {
    let client = role_changer(&shared, &args.change)?;
    let mut plan = match client.switchover(&args.role, &args.to, None).await {
        Ok(plan) => plan,
        Err(refusal) => return refused(&client, &args, &shared, refusal).await,
    };
    if args.wait {
        plan = follow(&client, plan, args.wait_timeout).await?;
    }
    let failure = (plan.state == PlanState::Failed).then(|| {
        let message = format!("plan {} failed: {}", plan.plan, plan.reason);
        Failure::new(Exit::Safety, message)
            .with("plan", plan.plan)
            .with("why", &plan.reason)
            .remedy("`regent primary get` shows who holds the role now; `regent region list` who is fit to")
    });
    let document = changed(&client, json!({ "plan": plan }));
    conclude(shared.output, document, failure, || {
        let shown = std::slice::from_ref(&plan);
        let validated = if args.change.change.validate_only {
            format!("\n\n{VALIDATED}")
        } else {
            String::new()
        };
        format!("{}{}{validated}", plan_table(shown), remarks(shown))
    })
}

/// The present holder is no target for a plan; for whoever asks, everything is as it should be.
async fn refused(
    client: &Client,
    args: &SwitchoverArgs,
    shared: &Shared,
    refusal: Refusal,
) -> Result<(), Failure> {
    if refusal.reason != Reason::TargetNotQualified {
        return Err(refusal.into());
    }
    let (role, _) = client.get_role(&args.role).await?;
    if role.holder.as_ref().is_none_or(|holder| holder.region != args.to) {
        return Err(refusal.into());
    }
    if let Some(expected) = args
        .change
        .expect_epoch
        .filter(|expected| *expected != role.epoch)
    {
        let message = format!("{} is at {}, not at {expected}", role.role, role.epoch);
        let refusal = Refusal::new(Reason::StaleEpoch, message).with("shown", expected);
        return Err(refusal.with("current", role.epoch).into());
    }
    let document = changed(client, json!({ "plan": null, "already": true, "role": role }));
    answer(shared.output, &document, || {
        format!(
            "{} holds {} already, under {}; nothing was changed",
            args.to, role.role, role.epoch
        )
    })
}

async fn follow(client: &Client, mut plan: PlanRecord, limit: Duration) -> Result<PlanRecord, Failure> {
    let deadline = Instant::now() + limit;
    while plan.state == PlanState::Running {
        if Instant::now() >= deadline {
            return Err(still_running(plan.plan, limit));
        }
        sleep(PLAN_POLL).await;
        let read = client.get_plan(plan.plan).await;
        plan = read.map_err(|refusal| out_of_sight(plan.plan, &refusal))?;
    }
    Ok(plan)
}

fn still_running(plan: PlanId, limit: Duration) -> Failure {
    let limit = types::units::format_duration(limit);
    Failure::new(Exit::Unknown, format!("plan {plan} still runs after {limit}"))
        .with("plan", plan)
        .remedy("it goes on by itself; `regent primary get` shows how it ended")
}

/// The plan was started, whatever the reason for which it cannot be read now.
fn out_of_sight(plan: PlanId, refusal: &Refusal) -> Failure {
    let message = format!("plan {plan} was started, and cannot be followed: {refusal}");
    Failure::new(Exit::Unknown, message)
        .with("plan", plan)
        .remedy("it goes on by itself; `regent primary get` shows how it ended")
}

fn role_table(roles: &[RoleRecord]) -> String {
    let headings = ["ROLE", "EPOCH", "HOLDER", "MODE", "TIMING", "CHANGED", "WHY"];
    table(
        headings,
        roles.iter().map(|role| {
            [
                role.role.to_string(),
                role.epoch.to_string(),
                or_dash(role.holder.as_ref().map(ToString::to_string).unwrap_or_default()),
                role.mode.to_string(),
                role.timing.name.clone(),
                ago(role.changed_at),
                or_dash(role.reason.as_str()),
            ]
        }),
    )
}

/// What the newest of these plans left open: doors that it did not claim, and what its target does not serve. A line each.
fn remarks(plans: &[PlanRecord]) -> String {
    let Some(plan) = plans.iter().max_by_key(|plan| plan.plan) else {
        return String::new();
    };
    let open = plan.doors.iter().filter(|door| !door.claimed);
    let doors = open.map(|door| {
        format!(
            "\n{}: {} was no fenced door when the plan claimed it: {}; the agents beside it claim it once it can be had",
            plan.plan, door.door, door.error
        )
    });
    let steps = plan
        .steps
        .iter()
        .filter(|step| step.detail.contains("not loaded"));
    let steps = steps.map(|step| format!("\n{}: {} {}: {}", plan.plan, step.kind, step.state, step.detail));
    let lines: String = doors.chain(steps).collect();
    if lines.is_empty() {
        lines
    } else {
        format!("\n{lines}")
    }
}

fn plan_table(plans: &[PlanRecord]) -> String {
    let headings = ["PLAN", "KIND", "STATE", "FROM", "TARGET", "EPOCH", "STEP", "WHY"];
    table(
        headings,
        plans.iter().map(|plan| {
            let why = match (plan.trigger.as_str(), plan.reason.as_str()) {
                (why, "") | ("", why) => why.to_owned(),
                (trigger, failed) => format!("{trigger}; failed: {failed}"),
            };
            [
                plan.plan.to_string(),
                plan.kind.to_string(),
                plan.state.to_string(),
                or_dash(plan.from.as_ref().map(ToString::to_string).unwrap_or_default()),
                plan.target.to_string(),
                or_dash(plan.target_epoch.map(|e| e.to_string()).unwrap_or_default()),
                or_dash(
                    plan.current_step()
                        .map(|s| s.kind.to_string())
                        .unwrap_or_default(),
                ),
                or_dash(why),
            ]
        }),
    )
}

#[cfg(test)]
mod tests {
    use types::{
        Epoch, Holder, Revision,
        plan::{DoorClaim, PlanKind, StepKind, StepRecord, StepState},
    };

    use super::*;

    fn plan(number: u64, doors: Vec<DoorClaim>, detail: &str) -> PlanRecord {
        let holder = Holder {
            region: "eu".parse().unwrap(),
            node: "a1".parse().unwrap(),
            incarnation: types::NodeIncarnation::from_u128(1),
        };
        PlanRecord {
            plan: PlanId(number),
            role: RoleName::global(),
            kind: PlanKind::Switchover,
            trigger: String::new(),
            from: None,
            from_epoch: Epoch::ZERO,
            target: holder,
            target_epoch: None,
            steps: vec![StepRecord {
                kind: StepKind::VerifyTarget,
                state: StepState::Done,
                attempt: 1,
                detail: detail.to_owned(),
                started_at: None,
                finished_at: None,
            }],
            state: PlanState::Succeeded,
            reason: String::new(),
            doors,
            created_at: UnixMillis(0),
            created_by: "spiffe://regent.local/user/admin".parse().unwrap(),
            finished_at: None,
            modified: Revision::default(),
        }
    }

    #[test]
    fn what_the_newest_plan_left_open_is_said_below_the_table() {
        let door = |region: &str, error: &str| DoorClaim {
            door: format!("pointer/{region}"),
            claimed: error.is_empty(),
            error: error.to_owned(),
        };
        let open = plan(
            7,
            vec![door("eu", ""), door("us", "it said nothing")],
            "m@2: not loaded here",
        );
        let settled = plan(8, vec![door("eu", "")], "2 versions loaded");
        let text = remarks(std::slice::from_ref(&open));
        assert!(
            text.starts_with("\n\np7: pointer/us was no fenced door when"),
            "{text}"
        );
        assert!(text.contains(": it said nothing; "), "{text}");
        assert!(
            text.ends_with("\np7: VERIFY_TARGET DONE: m@2: not loaded here"),
            "{text}"
        );
        assert!(!text.contains("pointer/eu"), "{text}");
        assert_eq!(remarks(&[open, settled]), "");
        assert_eq!(remarks(&[]), "");
    }
}
