//! A registry as large as it is asked for, made in memory by entries alone, as a log would have made it.
//!
//! Absent on purpose: a cluster, and clocks: its time is what the caller says.

use std::time::Duration;

use state::{Command, ControlState, Entry, Expects, ReplicaReport, features::SUPPORTED};
use types::{
    ByteCount, ClusterId, Digest, ModelName, ModelVersion, NodeId, NodeIncarnation, Principal, RegionId,
    RequestId, Revision, UnixMillis, VersionKey,
    model::{Artifact, ArtifactPath, Placement},
    region::{Endpoints, FencingDoor, Health, NodeKind, StoreBinding},
    replica::ReplicaKey,
    role::TimingPolicy,
};

/// Versions of each model.
pub const VERSIONS_EACH: usize = 10;
/// Files of each version.
pub const FILES_EACH: usize = 5;
/// State time that a version takes: of its twelve requests an hour's are some 72,000.
pub const EACH: Duration = Duration::from_millis(600);

/// Name of region `n`.
pub fn region(n: usize) -> anyhow::Result<RegionId> {
    Ok(RegionId::new(format!("r{n}"))?)
}

/// Name of model `n`.
pub fn model(n: usize) -> anyhow::Result<ModelName> {
    Ok(format!("team-{}.model-{n:06}", n / 100).parse()?)
}

/// The files of a version of model `n`; the first version is 0.
pub fn artifacts(n: usize, version: usize) -> anyhow::Result<Vec<Artifact>> {
    let file = |at: usize| {
        Ok(Artifact {
            path: ArtifactPath::new(format!("weights/part-{at:05}.safetensors"))?,
            size: ByteCount(1_000),
            digest: Digest::of(format!("{n}/{version}/{at}").as_bytes()),
            media_type: "application/octet-stream".to_owned(),
        })
    };
    (0..FILES_EACH).map(file).collect()
}

/// The store of region `n`.
pub fn store(n: usize) -> StoreBinding {
    StoreBinding {
        endpoint: format!("https://s3.r{n}.example.com"),
        bucket: "models".to_owned(),
        fencing_door: FencingDoor::Qualified,
    }
}

/// The log so far, and where it leads.
pub struct Made {
    /// What it has made.
    pub state: ControlState,
    /// State time of the next entry.
    pub time: UnixMillis,
    /// Where it is there, it gets every entry.
    pub kept: Option<Vec<Entry>>,
    regions: usize,
}

impl Made {
    /// A cluster of so many regions, each with an agent, a store, and in good health. `state` is an empty one.
    pub fn new(state: ControlState, regions: usize, start: UnixMillis) -> anyhow::Result<Self> {
        let mut made = Self {
            state,
            time: start,
            kept: None,
            regions,
        };
        made.cluster()?;
        Ok(made)
    }

    /// Applies what a user asks for.
    pub fn by_user(&mut self, command: Command) -> anyhow::Result<()> {
        self.run("spiffe://regent.local/user/bench".parse()?, command)
    }

    fn by_agent(&mut self, at: usize, command: Command) -> anyhow::Result<()> {
        let agent = format!("spiffe://regent.local/region/r{at}/node/a{at}").parse()?;
        self.run(agent, command)
    }

    fn run(&mut self, actor: Principal, command: Command) -> anyhow::Result<()> {
        let revision = Revision(self.state.revision().0 + 1);
        let entry = Entry {
            proposed_at: self.time,
            request_id: RequestId::v7_from_parts(self.time.0, u128::from(revision.0)),
            actor,
            expects: Expects::default(),
            command,
        };
        let applied = self.state.apply(revision, &entry);
        applied.outcome?;
        self.kept.iter_mut().for_each(|kept| kept.push(entry.clone()));
        Ok(())
    }

    fn cluster(&mut self) -> anyhow::Result<()> {
        self.by_user(Command::InitCluster {
            cluster_id: ClusterId::from_u128(1),
            generation: 1,
            timing: TimingPolicy::fast(),
        })?;
        self.by_user(Command::SetFeatureLevel { level: SUPPORTED })?;
        (0..self.regions).try_for_each(|n| self.join(n))
    }

    fn join(&mut self, n: usize) -> anyhow::Result<()> {
        self.by_user(Command::RegisterRegion { region: region(n)? })?;
        let node = Command::RegisterNode {
            node: NodeId::new(format!("a{n}"))?,
            region: region(n)?,
            kind: NodeKind::Agent,
            incarnation: NodeIncarnation::from_u128(1),
            endpoints: Endpoints::default(),
            zone: None,
        };
        self.by_agent(n, node)?;
        self.by_user(Command::AttachStore {
            region: region(n)?,
            store: store(n),
        })?;
        self.by_user(Command::SetRegionHealth {
            region: region(n)?,
            from: Health::Recovering,
            to: Health::Healthy,
            evidence: "measured".to_owned(),
        })
    }

    /// Models with all of their versions, each copied into every region.
    pub fn models(&mut self, count: usize) -> anyhow::Result<()> {
        (0..count).try_for_each(|n| {
            self.by_user(Command::CreateModel {
                name: model(n)?,
                description: "a model of this size".to_owned(),
                tags: [("team".to_owned(), "scale".to_owned())].into(),
                placement: Placement::Everywhere,
            })?;
            (0..VERSIONS_EACH).try_for_each(|version| self.publish(n, version))
        })
    }

    fn publish(&mut self, n: usize, version: usize) -> anyhow::Result<()> {
        self.time = self.time.plus(EACH);
        self.by_user(Command::CreateVersion {
            model: model(n)?,
            source_region: region(0)?,
            artifacts: artifacts(n, version)?,
            framework: "bert".to_owned(),
            metadata: [("run".to_owned(), format!("run-{n}-{version}"))].into(),
            datasets: Default::default(),
        })?;
        let key = VersionKey {
            model: model(n)?,
            version: ModelVersion(version as u64 + 1),
        };
        self.by_user(Command::CompleteUpload { version: key.clone() })?;
        (0..self.regions).try_for_each(|at| self.copy(&key, at))
    }

    fn copy(&mut self, version: &VersionKey, at: usize) -> anyhow::Result<()> {
        let key = ReplicaKey {
            version: version.clone(),
            region: region(at)?,
        };
        let source = (at > 0).then(|| region(0)).transpose()?;
        let reports = [
            ReplicaReport::Started { source },
            ReplicaReport::Verified {
                attempt: 1,
                bytes: ByteCount(1_000 * FILES_EACH as u64),
            },
        ];
        reports.into_iter().try_for_each(|report| {
            let key = key.clone();
            self.by_agent(at, Command::ReportReplica { key, report })
        })
    }
}
