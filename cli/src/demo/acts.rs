//! The two acts: what is done to a holder, and what is seen of it.

use std::time::Duration;

use chaos::{Fault, Installed, Part, Target};
use tokio_util::sync::CancellationToken;
use types::{Holder, RegionId};

use super::{
    doors::{Outcome, agent_door, pointer_door},
    memory,
    micros::Micros,
    reader,
    record::{ActSeen, FaultWindow, Standing},
    stage::Stage,
    steps,
    wait::until,
};
use crate::error::Failure;

/// How long a failover may take before the story is given up; the checker's limit is stricter.
const FAILOVER_LIMIT: Duration = Duration::from_secs(40);
/// How long a region may take to serve again.
const RETURN_LIMIT: Duration = Duration::from_secs(60);
/// How often the writers' logs are looked at.
const LOG_LOOK: Duration = Duration::from_millis(25);

/// SIGKILL to every process of the primary region but its writer.
pub(super) async fn kill(stage: &mut Stage) -> Result<(), Failure> {
    let before = stage.next_primary(None, FAILOVER_LIMIT).await?;
    let region = before.holder.region.clone();
    stage.narrator.say(&format!(
        "Act 1. kill -9 to every process of {region}, the primary; only its zombie writer lives on"
    ));
    let target = Target::Region {
        region: region.clone(),
    };
    let resident = memory::of_coordinators(stage)?;
    let struck = begin_fault(stage, &region);
    let injector = stage.cluster.injector();
    let installed = injector.install(&Fault::Kill { target }).await?;
    injector.prove(&installed).await?;
    stage.run.act1 = Some(act(before.clone(), struck, &installed, resident));
    attempt_since(stage, &before.holder, struck).await
}

fn begin_fault(stage: &mut Stage, region: &RegionId) -> Micros {
    let from = Micros::now();
    stage.run.faults.push(FaultWindow {
        region: region.clone(),
        from,
        until: None,
    });
    from
}

fn end_fault(stage: &mut Stage, region: &RegionId) -> Micros {
    let now = Micros::now();
    let open = stage.run.faults.iter_mut().rev().find(|f| &f.region == region);
    if let Some(window) = open {
        window.until = Some(now);
    }
    now
}

fn act(before: Standing, struck: Micros, installed: &Installed, resident: Vec<u64>) -> ActSeen {
    let processes = installed.hit.iter().map(|run| run.name.part.to_string());
    ActSeen {
        before,
        struck,
        processes: processes.collect(),
        coordinator_resident_bytes: resident,
        promoted: None,
        after: None,
        store_returned: None,
        released: None,
        ready: None,
    }
}

/// Waits until the writer with this holder's token has written again.
async fn attempt_since(stage: &mut Stage, holder: &Holder, since: Micros) -> Result<(), Failure> {
    let cast = stage.cast()?;
    until(
        "a write of the old holder's writer",
        RETURN_LIMIT,
        LOG_LOOK,
        async || {
            cast.refresh()?;
            let since = cast.attempts().any(|a| a.at > since && &a.holder == holder);
            Ok(since.then_some(()))
        },
    )
    .await
}

pub(super) async fn promote_after_kill(stage: &mut Stage) -> Result<(), Failure> {
    let mut act = current(&stage.run.act1)?;
    await_promotion(stage, &mut act).await?;
    stage.run.act1 = Some(act);
    Ok(())
}

pub(super) async fn promote_after_pause(stage: &mut Stage) -> Result<(), Failure> {
    let mut act = current(&stage.run.act2)?;
    await_promotion(stage, &mut act).await?;
    stage.run.act2 = Some(act);
    Ok(())
}

fn current(act: &Option<ActSeen>) -> Result<ActSeen, Failure> {
    act.clone().ok_or_else(|| Failure::other("the act has not begun"))
}

/// Another primary, and the first write that was accepted from it.
async fn await_promotion(stage: &mut Stage, act: &mut ActSeen) -> Result<(), Failure> {
    let after = stage.next_primary(Some(&act.before), FAILOVER_LIMIT).await?;
    act.promoted = Some(Micros::now());
    let cast = stage.cast()?;
    until(
        "a write of the new primary",
        FAILOVER_LIMIT,
        LOG_LOOK,
        async || {
            cast.refresh()?;
            let mut attempts = cast.attempts();
            let accepted = attempts.any(|a| {
                a.outcome == Outcome::Accepted && a.shown == after.epoch && a.holder == after.holder
            });
            Ok(accepted.then_some(()))
        },
    )
    .await?;
    act.after = Some(after);
    Ok(())
}

/// The old region's processes start again. Meanwhile every agent is asked for the pointer in its store.
pub(super) async fn come_back(stage: &mut Stage) -> Result<(), Failure> {
    let mut act = current(&stage.run.act1)?;
    let after = act
        .after
        .clone()
        .ok_or_else(|| Failure::other("nobody took over"))?;
    let region = act.before.holder.region.clone();
    stage
        .narrator
        .say(&format!("The processes of {region} are started again"));
    let readers = reader::all(stage, &region, after.epoch)?;
    let store = reader::Lookout::new(stage, &region).await?;
    let cluster = stage.cluster.clone();
    let started = CancellationToken::new();
    let (outcome, returned, reads) = tokio::join!(
        async {
            let outcome = Box::pin(cluster.start_region(&region)).await;
            started.cancel();
            outcome.map(|()| Micros::now())
        },
        store.first_answer(&started),
        reader::until_used(&readers, &started)
    );
    act.released = Some(outcome?);
    act.store_returned = returned;
    stage.run.reads.extend(reads);
    steps::ready(stage, &region, RETURN_LIMIT).await?;
    let ready = end_fault(stage, &region);
    act.ready = Some(ready);
    let old = act.before.holder.clone();
    stage.run.act1 = Some(act);
    refused_at_home(stage, &old).await
}

/// Waits until the old holder's writer was refused often enough by its own region's doors. Now, because this region
/// may be the next to hold the role: its writer then gets a new token, and nobody is left to be refused there.
async fn refused_at_home(stage: &mut Stage, old: &Holder) -> Result<(), Failure> {
    let doors = [agent_door(&old.region), pointer_door(&old.region)];
    let cast = stage.cast()?;
    until(
        "refusals at the revived region's doors",
        RETURN_LIMIT,
        LOG_LOOK,
        async || {
            cast.refresh()?;
            let enough = |door: &String| {
                let refused = cast
                    .attempts()
                    .filter(|a| &a.door == door && &a.holder == old && a.outcome == Outcome::Refused);
                refused.count() >= steps::REFUSALS_WANTED
            };
            Ok(doors.iter().all(enough).then_some(()))
        },
    )
    .await
}

/// SIGSTOP of the new primary's holder, with one of its writes half sent.
pub(super) async fn pause(stage: &mut Stage) -> Result<(), Failure> {
    let before = current(&stage.run.act1)?.after;
    let before = before.ok_or_else(|| Failure::other("nobody took over in act 1"))?;
    let region = before.holder.region.clone();
    stage.narrator.say(&format!(
        "Act 2. SIGSTOP to the agent of {region}, the new primary, while a PUT to its pointer is half sent"
    ));
    let cast = stage.cast()?;
    let held = cast.held(&region);
    cast.hold(&region)?;
    until(
        "the writer to leave its pointer alone",
        RETURN_LIMIT,
        LOG_LOOK,
        async || {
            cast.refresh()?;
            Ok((cast.held(&region) > held).then_some(()))
        },
    )
    .await?;
    let half = cast.half_put(&region).await?;
    stage.run.half_put = Some(half.seen.clone());
    let target = Target::Process {
        region: region.clone(),
        part: Part::Agent,
    };
    let resident = memory::of_coordinators(stage)?;
    let struck = begin_fault(stage, &region);
    half.process.pause()?;
    let injector = stage.cluster.injector();
    let installed = injector.install(&Fault::Pause { target }).await?;
    injector.prove(&installed).await?;
    stage.run.act2 = Some(act(before, struck, &installed, resident));
    stage.paused = Some((installed, half));
    Ok(())
}

/// SIGCONT: the holder finds out that it is none any more, and its write in flight arrives.
pub(super) async fn resume(stage: &mut Stage) -> Result<(), Failure> {
    let mut act = current(&stage.run.act2)?;
    let region = act.before.holder.region.clone();
    let (installed, half) = stage
        .paused
        .take()
        .ok_or_else(|| Failure::other("nobody is paused"))?;
    outlast_the_lease(stage, &act).await;
    stage.narrator.say(&format!(
        "SIGCONT to the agent of {region} and to its write in flight"
    ));
    let released = Micros::now();
    act.released = Some(released);
    stage.cluster.injector().heal(installed).await?;
    half.process.resume()?;
    stage.run.half_put = Some(half.finish().await?);
    stage.cast()?.let_go(&region)?;
    steps::ready(stage, &region, RETURN_LIMIT).await?;
    act.ready = Some(end_fault(stage, &region));
    let old = act.before.holder.clone();
    stage.run.act2 = Some(act);
    attempt_since(stage, &old, released).await
}

/// A failover takes longer than a lease; should that ever change, the pause still lasts long enough to prove anything.
/// Time itself is the event here: the lease of a stopped process runs out by its own clock, while it executes nothing that
/// could say so, and what others decided meanwhile followed the leader's clock.
async fn outlast_the_lease(stage: &Stage, act: &ActSeen) {
    let ttl = stage.run.cluster.as_ref().map_or(0, |c| c.lease_ttl_millis);
    let end = act.struck.plus(ttl * 1500);
    let left = end.0.saturating_sub(Micros::now().0);
    tokio::time::sleep(Duration::from_micros(left)).await;
}
