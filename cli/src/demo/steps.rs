//! The quiet steps: the cluster forms, models go everywhere, regions answer; and the end of the story.

use std::{collections::BTreeMap, path::Path, time::Duration};

use artifact_store::{keys, pointer::PointerBody};
use serde::Deserialize;
use tokio::process::Command;
use types::{Digest, RegionId, VersionKey, model::VersionRecord, region::Health, replica::ReplicaState};

use super::{
    answers,
    ask::Question,
    cast::Cast,
    collect,
    doors::{Outcome, all_doors, pointer_door},
    load::Load,
    memory,
    record::{ClusterSeen, ConvergedSeen, CopyRead, PointerAtEnd, PushedVersion},
    samples,
    stage::{LOOK, Stage},
    wait::until,
};
use crate::error::Failure;

/// How long the cluster may take to form; two busy cores need some seconds.
const FORM_LIMIT: Duration = Duration::from_secs(60);
/// How long anything else may take before the step is given up.
const STEP_LIMIT: Duration = Duration::from_secs(30);
/// Refusals per door that the writers wait for; a few more than are needed.
pub(super) const REFUSALS_WANTED: usize = 25;
/// The name that the user's own model gets.
const OWN_MODEL: &str = "own.model";

pub(super) async fn cluster(stage: &mut Stage) -> Result<(), Failure> {
    let regions = stage.cluster.regions().len();
    stage.narrator.say(&format!(
        "Starting {regions} regions, each with a coordinator, a node agent and an object store: {} processes in {}",
        regions * 3,
        stage.cluster.layout().root().display()
    ));
    stage.cluster.start_all().await?;
    stage.cluster.wait_ready(FORM_LIMIT).await?;
    let primary = stage.next_primary(None, STEP_LIMIT).await?;
    let client = stage.patient_client()?;
    let status = client.status().await?;
    let (role, _) = client.get_role(&stage.role).await?;
    let ttl = role.timing.lease_ttl.as_millis();
    stage.run.cluster = Some(ClusterSeen {
        voters: status.members.iter().filter(|m| m.voter).count(),
        healthy: healthy(stage).await?,
        primary,
        lease_ttl_millis: u64::try_from(ttl).unwrap_or(u64::MAX),
        coordinator_resident_bytes: memory::of_coordinators(stage)?,
    });
    Ok(())
}

async fn healthy(stage: &mut Stage) -> Result<Vec<RegionId>, Failure> {
    let records = stage.patient_client()?.list_regions().await?;
    let healthy = records.into_iter().filter(|r| r.health == Health::Healthy);
    Ok(healthy.map(|r| r.region).collect())
}

#[derive(Deserialize)]
struct Pushed {
    version: VersionRecord,
}

/// Pushes with the command that people use; each push waits for verified copies in every region.
pub(super) async fn push(stage: &mut Stage) -> Result<(), Failure> {
    let root = stage.cluster.layout().root().join("samples");
    let mut dirs = BTreeMap::new();
    for sample in samples::ALL {
        dirs.insert(sample.name.to_owned(), sample.unpack(&root)?);
    }
    if let Some(own) = &stage.own_model {
        dirs.insert(OWN_MODEL.to_owned(), own.clone());
    }
    stage.narrator.say(&format!(
        "Pushing {} models to the primary's store; the other regions copy them",
        dirs.len()
    ));
    let context = stage.cluster.layout().context();
    let pushes = dirs.iter().map(|(name, dir)| push_one(&context, name, dir));
    for pushed in futures::future::join_all(pushes).await {
        let version = pushed?.version;
        stage
            .versions
            .insert(version.key.model.to_string(), version.key.clone());
        stage.run.pushed.push(PushedVersion {
            version: version.key.to_string(),
            artifacts: version.artifacts.iter().map(|a| a.digest).collect(),
        });
    }
    Ok(())
}

async fn push_one(context: &Path, name: &str, dir: &Path) -> Result<Pushed, Failure> {
    let exe = std::env::current_exe()
        .map_err(|e| Failure::other(format!("could not find the own executable: {e}")))?;
    let mut command = Command::new(exe);
    command
        .args(["model", "push", "--name", name, "--wait-copies", "all"])
        .args(["--wait-timeout", "60s", "--output", "json"])
        .arg("--context")
        .arg(context)
        .arg(dir)
        .kill_on_drop(true);
    let output = command.output().await;
    let output = output.map_err(|e| Failure::other(format!("could not run `regent model push`: {e}")))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Failure::other(format!(
            "pushing {} failed: {text}",
            dir.display()
        )));
    }
    serde_json::from_slice(&output.stdout)
        .map_err(|e| Failure::other(format!("`regent model push` answered no version: {e}")))
}

/// Reads every object from every endpoint and hashes it: a record that says VERIFIED is no evidence.
pub(super) async fn copies(stage: &mut Stage) -> Result<(), Failure> {
    let pushed = stage.run.pushed.clone();
    for region in stage.cluster.regions().to_vec() {
        let bucket = stage.bucket(&region).await?;
        for expected in pushed.iter().flat_map(|v| v.artifacts.clone()) {
            let key = keys::artifact(&expected).to_string();
            let object = bucket.get(&key).await.ok().flatten();
            stage.run.copies.push(CopyRead {
                region: region.clone(),
                expected,
                found: object.map(|o| Digest::of(&o.bytes)),
            });
        }
    }
    Ok(())
}

pub(super) async fn answers(stage: &mut Stage) -> Result<(), Failure> {
    for region in stage.cluster.regions().to_vec() {
        ready(stage, &region, STEP_LIMIT).await?;
        let endpoint = stage.endpoint(&region)?;
        let own = stage.own_model.is_some().then_some(OWN_MODEL);
        let seen = answers::of_region(&region, &endpoint, &stage.fixtures, own).await;
        let seen = seen.map_err(|why| Failure::other(format!("{region}: {why}")))?;
        stage.run.answers.push(seen);
    }
    Ok(())
}

/// Waits until a region's agent serves everything that it should.
pub(super) async fn ready(stage: &Stage, region: &RegionId, limit: Duration) -> Result<(), Failure> {
    let endpoint = stage.endpoint(region)?;
    let what = format!("{region} to serve");
    until(&what, limit, Duration::from_millis(20), async || {
        Ok(endpoint.is_ready().await.then_some(()))
    })
    .await
}

pub(super) async fn load(stage: &mut Stage) -> Result<(), Failure> {
    stage.narrator.say(
        "From now on every region gets more than 20 inference requests a second, deadline 1 s, never retried",
    );
    let mut endpoints = Vec::new();
    for region in stage.cluster.regions() {
        endpoints.push((region.clone(), stage.endpoint(region)?));
    }
    let load = Load::start(&endpoints, &Question::all(&stage.fixtures));
    until("the first answers", STEP_LIMIT, LOOK, async || {
        let seen = load.so_far();
        Ok(seen.iter().all(|l| l.requests.len() > 20).then_some(()))
    })
    .await?;
    stage.load = Some(load);
    Ok(())
}

pub(super) async fn zombies(stage: &mut Stage) -> Result<(), Failure> {
    stage.narrator.say(
        "In every region a zombie writer starts: a process that writes through every door (the registry, each agent, each \
         store's pointer) with the last token that its agent gave it. It is blind to the lease and has the holder's own \
         certificate, so that only the token's epoch can give it away",
    );
    let client = stage.patient_client()?;
    let version = digits(stage)?;
    let cast = Cast::start(&stage.cluster, &client, &stage.role, &version).await?;
    stage.cast = Some(cast);
    let doors = all_doors(&stage.run.regions);
    let cast = stage.cast()?;
    until("an accepted write at every door", STEP_LIMIT, LOOK, async || {
        cast.refresh()?;
        let through = |door: &String| {
            let mut attempts = cast.attempts();
            attempts.any(|a| &a.door == door && a.outcome == Outcome::Accepted)
        };
        Ok(doors.iter().all(through).then_some(()))
    })
    .await
}

fn digits(stage: &Stage) -> Result<VersionKey, Failure> {
    let version = stage.versions.get(samples::DIGITS.name).cloned();
    version.ok_or_else(|| Failure::other("the digits classifier was not pushed"))
}

/// Waits until the writers were refused often enough everywhere, then ends them: the records are complete after that.
pub(super) async fn refusals(stage: &mut Stage) -> Result<(), Failure> {
    let doors = all_doors(&stage.run.regions);
    let cast = stage.cast()?;
    until("refusals at every door", STEP_LIMIT, LOOK, async || {
        cast.refresh()?;
        let enough = |door: &String| {
            let refused = cast
                .attempts()
                .filter(|a| &a.door == door && a.outcome == Outcome::Refused);
            refused.count() >= REFUSALS_WANTED
        };
        Ok(doors.iter().all(enough).then_some(()))
    })
    .await?;
    cast.stop().await?;
    stage.run.doors = collect::all_doors(&stage.cluster, &stage.role);
    Ok(())
}

/// The bodies that the pointers end with, through their endpoints.
pub(super) async fn doors(stage: &mut Stage) -> Result<(), Failure> {
    let key = keys::pointer(&stage.role).to_string();
    for region in stage.cluster.regions().to_vec() {
        let bucket = stage.bucket(&region).await?;
        let object = bucket.get(&key).await;
        let object = object.map_err(|e| Failure::other(format!("the pointer of {region}: {}", e.why)))?;
        let object = object.ok_or_else(|| Failure::other(format!("the pointer of {region} is gone")))?;
        let body = PointerBody::from_bytes(&object.bytes)
            .map_err(|e| Failure::other(format!("the pointer of {region}: {e}")))?;
        stage.run.pointers.push(PointerAtEnd {
            door: pointer_door(&region),
            epoch: body.epoch,
            id: body.nonce,
        });
    }
    Ok(())
}

pub(super) async fn converged(stage: &mut Stage) -> Result<(), Failure> {
    let client = stage.patient_client()?;
    let regions = stage.run.regions.len();
    let wanted = stage.run.pushed.len() * regions;
    let (replicas, replicas_behind) = until(
        "healthy regions and verified copies",
        STEP_LIMIT,
        LOOK,
        async || {
            let records = client.list_regions().await?;
            let sick = records.iter().any(|r| r.health != Health::Healthy);
            let replicas = client.list_replicas(None, None).await?;
            let behind = replicas
                .iter()
                .filter(|r| r.state != ReplicaState::Verified)
                .count();
            let done = !sick && records.len() == regions && behind == 0 && replicas.len() >= wanted;
            Ok(done.then_some((replicas.len(), behind)))
        },
    )
    .await?;
    stage.run.converged = Some(ConvergedSeen {
        healthy: healthy(stage).await?,
        replicas_behind,
        replicas,
        coordinator_resident_bytes: memory::of_coordinators(stage)?,
    });
    if let Some(load) = stage.load.take() {
        stage.run.load = load.finish().await;
    }
    Ok(())
}
