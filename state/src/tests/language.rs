//! Commands as one line of text, for scripts and tables: `Name key=value key="two words"`.

use std::{collections::BTreeMap, fmt::Debug, str::FromStr, time::Duration};

use types::{
    ByteCount, ClusterId, Digest, DiskId, Epoch, FencingToken, Holder, MetricName, Micros, ModelVersion,
    NodeIncarnation, PlanId, Rebind, Revision, RoleName, SignedRebind, UnixMillis, VersionKey,
    election::ElectionTiming,
    experiment::Share,
    model::{Artifact, ArtifactPath, Placement},
    plan::{DoorClaim, PlanKind, StepKind},
    region::{Endpoints, FencingDoor, Health, NodeKind, NodeStatus, RegionLabels, StoreBinding},
    replica::ReplicaKey,
    role::{FailoverMode, TimingPolicy},
    time::ClockReading,
    units::parse_duration,
};

use crate::command::{Command, Expects, ReplicaReport, StepOutcome};

/// The cluster that scripts are about.
pub(super) const CLUSTER: ClusterId = ClusterId::from_u128(0xc1);

pub(super) struct Line {
    pub(super) name: String,
    args: BTreeMap<String, String>,
}

impl Line {
    pub(super) fn parse(text: &str) -> Self {
        let mut words = Vec::new();
        let (mut word, mut quoted) = (String::new(), false);
        for c in text.trim().chars() {
            match c {
                '"' => quoted = !quoted,
                ' ' if !quoted => words.push(std::mem::take(&mut word)),
                c => word.push(c),
            }
        }
        words.push(word);
        let mut words = words.into_iter().filter(|w| !w.is_empty());
        let name = words.next().unwrap_or_default();
        let pair = |w: String| w.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned()));
        Self {
            name,
            args: words
                .map(|w| pair(w.clone()).unwrap_or((w, String::new())))
                .collect(),
        }
    }

    /// With a value where the line has none.
    pub(super) fn or(mut self, key: &str, value: u64) -> Self {
        self.args
            .entry(key.to_owned())
            .or_insert_with(|| value.to_string());
        self
    }
    pub(super) fn text(&self, key: &str) -> String {
        self.args.get(key).cloned().unwrap_or_default()
    }
    pub(super) fn get<T: FromStr<Err: Debug>>(&self, key: &str) -> T {
        self.maybe(key)
            .unwrap_or_else(|| panic!("{} needs {key}=", self.name))
    }
    pub(super) fn maybe<T: FromStr<Err: Debug>>(&self, key: &str) -> Option<T> {
        let text = self.args.get(key)?;
        Some(
            text.parse()
                .unwrap_or_else(|e| panic!("{} {key}={text}: {e:?}", self.name)),
        )
    }
    fn list<T: FromStr<Err: Debug>>(&self, key: &str) -> Vec<T> {
        let text = self.text(key);
        text.split(',')
            .filter(|t| !t.is_empty())
            .map(|t| t.parse().unwrap())
            .collect()
    }
    fn pairs(&self, key: &str) -> BTreeMap<String, String> {
        let text = self.text(key);
        let pairs = text.split(',').filter_map(|t| t.split_once(':'));
        pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
    }
    /// `accuracy:0.93,loss:0.2`
    fn metrics(&self, key: &str) -> BTreeMap<MetricName, Micros> {
        let read = |(name, value): (String, String)| (name.parse().unwrap(), value.parse().unwrap());
        self.pairs(key).into_iter().map(read).collect()
    }
    fn etag(&self) -> Option<Revision> {
        self.maybe("etag").map(Revision)
    }
    /// What the caller believes: `if_etag=9`, `if_epoch=g1.e2`.
    pub(super) fn expects(&self) -> Expects {
        Expects {
            etag: self.maybe("if_etag").map(Revision),
            epoch: self.maybe("if_epoch"),
            asked: self
                .maybe::<String>("asked")
                .map(|text| types::Digest::of(text.as_bytes())),
        }
    }
    fn plan(&self) -> PlanId {
        self.get("plan")
    }
    fn attempt(&self) -> u32 {
        self.maybe("attempt").unwrap_or(1)
    }
    fn timing(&self) -> Option<TimingPolicy> {
        let mut timing = TimingPolicy::named(&self.maybe::<String>("timing")?).unwrap();
        if let Some(ttl) = self.maybe::<String>("ttl") {
            timing.lease_ttl = parse_duration(&ttl).unwrap();
        }
        Some(timing)
    }
    /// `heartbeat=50ms min=250ms max=400ms`, or nothing.
    fn elections(&self) -> Option<ElectionTiming> {
        let of = |key: &str| parse_duration(&self.text(key)).unwrap();
        self.args.contains_key("heartbeat").then(|| ElectionTiming {
            heartbeat: of("heartbeat"),
            election_min: of("min"),
            election_max: of("max"),
        })
    }
    fn version(&self) -> VersionKey {
        self.get("version")
    }
    /// `c0:-5s,c1:12s`: clocks, by how far they are from the start of every world.
    fn readings(&self) -> Vec<ClockReading> {
        let read = |one: String| {
            let (node, away) = one.split_once(':').unwrap();
            let start = UnixMillis(super::world::START);
            let time = match away.strip_prefix('-') {
                Some(behind) => UnixMillis(start.0 - u64::try_from(millis(behind).as_millis()).unwrap()),
                None => start.plus(millis(away)),
            };
            ClockReading {
                node: node.parse().unwrap(),
                time,
            }
        };
        self.list::<String>("readings").into_iter().map(read).collect()
    }
    fn health(&self, key: &str) -> Health {
        match self.text(key).as_str() {
            "HEALTHY" => Health::Healthy,
            "UNHEALTHY" => Health::Unhealthy,
            "RECOVERING" => Health::Recovering,
            other => panic!("health {other}"),
        }
    }
    fn mode(&self) -> FailoverMode {
        match self.text("mode").as_str() {
            "" | "AUTOMATIC" => FailoverMode::Automatic,
            "MANUAL" => FailoverMode::Manual,
            until => FailoverMode::Paused {
                until: UnixMillis(until.parse().unwrap()),
            },
        }
    }
    fn step(&self) -> StepKind {
        let text = self.text("step");
        let all = [
            StepKind::Detect,
            StepKind::VerifyTarget,
            StepKind::Fence,
            StepKind::Claim,
            StepKind::WaitLease,
        ];
        let found = all
            .into_iter()
            .chain([StepKind::Promote])
            .find(|s| s.to_string() == text);
        found.unwrap_or_else(|| panic!("step {text}"))
    }
    fn kind(&self) -> PlanKind {
        match self.text("kind").as_str() {
            "ASSIGN" => PlanKind::Assign,
            "FAILOVER" => PlanKind::Failover,
            "SWITCHOVER" => PlanKind::Switchover,
            other => panic!("plan kind {other}"),
        }
    }

    pub(super) fn command(&self) -> Command {
        let reason = self.text("reason");
        match self.name.as_str() {
            "InitCluster" => Command::InitCluster {
                cluster_id: CLUSTER,
                generation: self.maybe("generation").unwrap_or(1),
                timing: self.timing().unwrap_or_else(TimingPolicy::fast),
            },
            "SetTiming" => Command::SetTiming {
                timing: self.timing().unwrap(),
            },
            "MarkTime" => Command::MarkTime {
                readings: self.readings(),
            },
            "SetFeatureLevel" => Command::SetFeatureLevel {
                level: self.get("level"),
            },
            "RegisterRegion" => Command::RegisterRegion {
                region: self.get("region"),
            },
            "CreateRegion" => Command::CreateRegion {
                region: self.get("region"),
                labels: RegionLabels {
                    display_name: self.text("display_name"),
                    provider: self.text("provider"),
                    cost_tags: self.pairs("cost_tags"),
                },
            },
            "UpdateRegion" => Command::UpdateRegion {
                region: self.get("region"),
                display_name: self.maybe("display_name"),
                provider: self.maybe("provider"),
                set_cost_tags: self.pairs("set"),
                remove_cost_tags: self.list("remove").into_iter().collect(),
            },
            "DeleteRegion" => Command::DeleteRegion {
                region: self.get("region"),
            },
            "RemoveNode" => Command::RemoveNode {
                node: self.get("node"),
            },
            "AttachStore" => Command::AttachStore {
                region: self.get("region"),
                store: self.store(),
            },
            "SetRegionHealth" => Command::SetRegionHealth {
                region: self.get("region"),
                from: self.health("from"),
                to: self.health("to"),
                evidence: self.text("evidence"),
            },
            "RegisterNode" => Command::RegisterNode {
                node: self.get("node"),
                region: self.get("region"),
                kind: match self.text("kind").as_str() {
                    "coordinator" => NodeKind::Coordinator,
                    "witness" => NodeKind::Witness,
                    _ => NodeKind::Agent,
                },
                incarnation: self.incarnation(),
                endpoints: Endpoints {
                    api: self.text("api"),
                    raft: self.text("raft"),
                    agent: self.text("agent"),
                    inference: self.text("inference"),
                },
                zone: self.maybe("zone"),
            },
            "RemoveCoordinator" => Command::RemoveCoordinator {
                node: self.get("node"),
                disk: self.maybe("disk").map(DiskId::from_u128),
            },
            "SetNodeStatus" => Command::SetNodeStatus {
                node: self.get("node"),
                incarnation: self.incarnation(),
                status: match self.text("status").as_str() {
                    "DOWN" => NodeStatus::Down,
                    "REMOVED" => NodeStatus::Removed,
                    _ => NodeStatus::Up,
                },
            },
            "CreateModel" => Command::CreateModel {
                name: self.get("name"),
                description: self.text("description"),
                tags: self.pairs("tags"),
                placement: match self.list("placement") {
                    all if all.is_empty() && !self.args.contains_key("placement") => Placement::Everywhere,
                    regions => Placement::Regions(regions),
                },
            },
            "SetModelTags" => Command::SetModelTags {
                model: self.get("model"),
                set: self.pairs("set"),
                remove: self.list("remove").into_iter().collect(),
                etag: self.etag(),
                token: self.args.get("token").map(|t| self.token(t)),
            },
            "CreateVersion" => Command::CreateVersion {
                model: self.get("model"),
                source_region: self.get("source"),
                artifacts: self.artifacts(),
                framework: self.maybe("framework").unwrap_or_else(|| "bert".to_owned()),
                metadata: self.pairs("metadata"),
                datasets: self.list("datasets").into_iter().collect(),
            },
            "CompleteUpload" => Command::CompleteUpload {
                version: self.version(),
            },
            "AbortVersion" => Command::AbortVersion {
                version: self.version(),
                reason,
            },
            "DeprecateVersion" => Command::DeprecateVersion {
                version: self.version(),
                reason,
            },
            "DeleteVersion" => Command::DeleteVersion {
                version: self.version(),
                reason,
            },
            "SetAlias" => Command::SetAlias {
                model: self.get("model"),
                alias: self.get("alias"),
                version: ModelVersion(self.get("version")),
                reason,
                etag: self.etag(),
            },
            "DeleteAlias" => Command::DeleteAlias {
                model: self.get("model"),
                alias: self.get("alias"),
                etag: self.etag(),
            },
            "ReportReplica" => Command::ReportReplica {
                key: ReplicaKey {
                    version: self.version(),
                    region: self.get("region"),
                },
                report: self.report(),
            },
            "CreateRole" => Command::CreateRole {
                role: self.get("role"),
                candidates: self.list("candidates"),
                mode: self.mode(),
                timing: self.timing(),
            },
            "SetRoleMode" => Command::SetRoleMode {
                role: self.role(),
                mode: self.mode(),
            },
            "SetRoleTiming" => Command::SetRoleTiming {
                role: self.role(),
                timing: self.timing().unwrap(),
            },
            "RetireTtl" => Command::RetireTtl {
                role: self.role(),
                ttl: millis(&self.text("ttl")),
                since: Revision(self.get("since")),
            },
            "SetRoleCandidates" => Command::SetRoleCandidates {
                role: self.role(),
                candidates: self.list("candidates"),
            },
            "StartPlan" => Command::StartPlan {
                role: self.role(),
                kind: self.kind(),
                target: holder(&self.text("target")),
                trigger: self.text("trigger"),
                expected_epoch: self.get("epoch"),
            },
            "StartStep" => Command::StartStep {
                plan: self.plan(),
                step: self.step(),
                attempt: self.attempt(),
            },
            "FinishStep" => Command::FinishStep {
                plan: self.plan(),
                step: self.step(),
                attempt: self.attempt(),
                reporter: self.maybe("run").map(NodeIncarnation::from_u128),
                outcome: self.outcome(),
            },
            "Fence" => Command::Fence {
                plan: self.plan(),
                attempt: self.attempt(),
            },
            "Promote" => Command::Promote {
                plan: self.plan(),
                attempt: self.attempt(),
            },
            "FailPlan" => Command::FailPlan {
                plan: self.plan(),
                reason,
            },
            "SetElectionTiming" => Command::SetElectionTiming {
                timing: self.elections(),
                derived: self.args.contains_key("derived"),
                reason,
            },
            "SetLeaderPreference" => Command::SetLeaderPreference {
                regions: self.list("regions"),
            },
            "RecordRebind" => Command::RecordRebind {
                rebind: self.rebind(),
            },
            "CreateExperiment" => Command::CreateExperiment {
                model: self.get("model"),
                name: self.get("name"),
                description: self.text("description"),
                split: self.split(),
            },
            "SetExperimentSplit" => Command::SetExperimentSplit {
                model: self.get("model"),
                name: self.get("name"),
                split: self.split(),
            },
            "ReportExperiment" => Command::ReportExperiment {
                model: self.get("model"),
                name: self.get("name"),
                version: ModelVersion(self.get("version")),
                metrics: self.metrics("metrics"),
            },
            "RegisterService" => Command::RegisterService {
                key: self.get("key"),
                incarnation: self.maybe("run").map(NodeIncarnation::from_u128),
                address: self.maybe("address").unwrap_or_else(|| "10.0.0.7".to_owned()),
                protocol: self.maybe("protocol").unwrap_or_default(),
                labels: self.pairs("labels"),
            },
            "DeregisterService" => Command::DeregisterService {
                key: self.get("key"),
                incarnation: self.maybe("run").map(NodeIncarnation::from_u128),
            },
            "SetPreferences" => Command::SetPreferences {
                principal: super::world::actor(&self.text("of")),
                set: self.pairs("set"),
                remove: self.list("remove").into_iter().collect(),
            },
            "SetVersionMetrics" => Command::SetVersionMetrics {
                version: self.version(),
                set: self.metrics("set"),
                remove: self.list("remove").into_iter().collect(),
            },
            "EndExperiment" => Command::EndExperiment {
                model: self.get("model"),
                name: self.get("name"),
                reason,
            },
            other => panic!("no command {other}"),
        }
    }

    fn rebind(&self) -> SignedRebind {
        let cluster = |key, default| ClusterId::from_u128(self.maybe(key).unwrap_or(default));
        SignedRebind {
            statement: Rebind {
                cluster: cluster("cluster", 0xc1),
                supersedes: cluster("over", 9),
                generation: self.maybe("generation").unwrap_or(1),
            },
            signature: self.maybe("by").map_or_else(Vec::new, |byte| vec![byte; 70]),
        }
    }
    /// `split=1:50,2:50`, in this order.
    fn split(&self) -> Vec<Share> {
        let share = |one: String| {
            let (version, percent) = one.split_once(':').unwrap();
            Share {
                version: ModelVersion(version.parse().unwrap()),
                percent: percent.parse().unwrap(),
            }
        };
        self.list::<String>("split").into_iter().map(share).collect()
    }
    fn role(&self) -> RoleName {
        self.maybe("role").unwrap_or_else(RoleName::global)
    }
    fn incarnation(&self) -> NodeIncarnation {
        NodeIncarnation::from_u128(self.maybe("run").unwrap_or(1))
    }
    fn store(&self) -> StoreBinding {
        let refused = self.args.get("refused").cloned();
        StoreBinding {
            endpoint: self
                .maybe("endpoint")
                .unwrap_or_else(|| format!("http://{}", self.text("region"))),
            bucket: self.maybe("bucket").unwrap_or_else(|| "models".to_owned()),
            fencing_door: refused.map_or(FencingDoor::Qualified, |reason| FencingDoor::Refused { reason }),
        }
    }
    fn artifacts(&self) -> Vec<Artifact> {
        let text = self
            .maybe("files")
            .unwrap_or_else(|| "model.safetensors:10".to_owned());
        let file = |(path, size): (&str, &str)| Artifact {
            path: ArtifactPath::new(path).unwrap(),
            size: ByteCount(size.parse().unwrap()),
            digest: Digest::of(path.as_bytes()),
            media_type: self.text("media"),
        };
        text.split(',')
            .filter_map(|t| t.split_once(':'))
            .map(file)
            .collect()
    }
    fn report(&self) -> ReplicaReport {
        let (attempt, bytes) = (self.attempt(), ByteCount(self.maybe("bytes").unwrap_or(10)));
        match self.text("report").as_str() {
            "started" => ReplicaReport::Started {
                source: self.maybe("source"),
            },
            "progress" => ReplicaReport::Progress {
                attempt,
                bytes_done: bytes,
            },
            "verified" => ReplicaReport::Verified { attempt, bytes },
            "failed" => ReplicaReport::Failed {
                attempt,
                digest_mismatch: self.args.contains_key("mismatch"),
                error: self.text("error"),
            },
            other => panic!("report {other}"),
        }
    }
    fn outcome(&self) -> StepOutcome {
        let detail = self.text("detail");
        if self.args.contains_key("failed") {
            return StepOutcome::Failed { detail };
        }
        let doors = self.list::<String>("doors");
        // `pointer/eu!timeout` is one that could not be claimed.
        let doors = doors.iter().map(|door| match door.split_once('!') {
            None => DoorClaim {
                door: door.clone(),
                claimed: true,
                error: String::new(),
            },
            Some((door, error)) => DoorClaim {
                door: door.to_owned(),
                claimed: false,
                error: error.to_owned(),
            },
        });
        StepOutcome::Done {
            detail,
            doors: doors.collect(),
        }
    }
    /// `eu/a1#1@g1.e2`, of this cluster and the global role unless the line says otherwise.
    fn token(&self, text: &str) -> FencingToken {
        let (who, epoch) = text.split_once('@').unwrap();
        FencingToken {
            cluster_id: self.maybe("cluster").map_or(CLUSTER, ClusterId::from_u128),
            role: self.role(),
            epoch: epoch.parse::<Epoch>().unwrap(),
            holder: holder(who),
        }
    }
}

/// `eu/a1#1`.
pub(super) fn holder(text: &str) -> Holder {
    let (region, rest) = text.split_once('/').unwrap();
    let (node, run) = rest.split_once('#').unwrap();
    Holder {
        region: region.parse().unwrap(),
        node: node.parse().unwrap(),
        incarnation: NodeIncarnation::from_u128(run.parse().unwrap()),
    }
}

/// `250ms`, in milliseconds.
pub(super) fn millis(text: &str) -> Duration {
    parse_duration(text).unwrap()
}
