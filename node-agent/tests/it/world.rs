//! Regions `west` (with the agent under test) and `east`, their stores, and the agent.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use artifact_store::{ArtifactStore, Deadlines, FaultyStore, FsStore, Gate, keys};
use async_trait::async_trait;
use client::TlsFiles;
use inference::{Engine, LoadError, LoadErrorKind, Signature, fake::FakeEngine};
use node_agent::{
    Agent, AgentConfig,
    config::{LimitsConfig, StoreConfig},
    serving::LoadModel,
    stores::OpenStore,
};
use proto::convert::watch::Resource;
use serde_json::Value;
use types::{
    ByteCount, Digest, RegionId, Revision, UnixMillis, VersionKey,
    model::{Artifact, ArtifactPath, VersionRecord, VersionState},
    region::{FencingDoor, Health, RegionRecord, StoreBinding},
    replica::{ReplicaKey, ReplicaRecord, ReplicaState},
};

use crate::{
    certs::Ca,
    coordinator::{Coordinator, Running, champion},
};

pub(crate) const BYTES: &[u8] = b"{\"kind\":\"digits\"}";

pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) ca: Ca,
    pub(crate) coordinator: Coordinator,
    pub(crate) running: Option<Running>,
    pub(crate) config: AgentConfig,
    pub(crate) stores: Arc<Shelf>,
}

/// Directory stores by the last part of their endpoint; `east` can be taken away and given back, and any of them can look
/// otherwise from where the agent is.
pub(crate) struct Shelf {
    stores: BTreeMap<String, Arc<dyn ArtifactStore>>,
    pub(crate) east_up: AtomicBool,
    from_afar: Mutex<BTreeMap<String, Arc<FaultyStore>>>,
    held: Mutex<BTreeMap<String, Arc<Gate>>>,
}

#[async_trait]
impl OpenStore for Shelf {
    async fn open(&self, _: &RegionId, binding: &StoreBinding) -> Result<Arc<dyn ArtifactStore>, String> {
        let name = binding.endpoint.rsplit('/').next().unwrap();
        let gate = self.held.lock().unwrap().remove(name);
        if let Some(gate) = gate {
            gate.pass().await;
        }
        if name == "east" && !self.east_up.load(Ordering::SeqCst) {
            return Err("the store of east does not answer".to_owned());
        }
        if let Some(store) = self.from_afar.lock().unwrap().get(name) {
            return Ok(Arc::clone(store) as Arc<dyn ArtifactStore>);
        }
        self.stores
            .get(name)
            .cloned()
            .ok_or_else(|| format!("no store {name}"))
    }
}

impl Shelf {
    pub(crate) fn of(&self, name: &str) -> Arc<dyn ArtifactStore> {
        Arc::clone(&self.stores[name])
    }

    /// How the agent sees this store from now on, if it has not opened it yet.
    pub(crate) fn seen_from_afar(&self, name: &str) -> Arc<FaultyStore> {
        let seen = Arc::new(FaultyStore::new(self.of(name)));
        self.from_afar
            .lock()
            .unwrap()
            .insert(name.to_owned(), Arc::clone(&seen));
        seen
    }

    /// Whoever opens this store next waits at the gate.
    pub(crate) fn hold_opening(&self, name: &str) -> Arc<Gate> {
        let gate = Gate::new();
        self.held
            .lock()
            .unwrap()
            .insert(name.to_owned(), Arc::clone(&gate));
        gate
    }

    /// The same stores, as somebody beside them sees them.
    fn near(&self) -> Arc<Self> {
        Arc::new(Self {
            stores: self.stores.clone(),
            east_up: AtomicBool::new(true),
            from_afar: Mutex::default(),
            held: Mutex::default(),
        })
    }
}

/// Every directory is a digits model; one whose config.json says `broken` does not load, and one that says `unreadable` not
/// on this node.
pub(crate) struct FakeLoader;

impl LoadModel for FakeLoader {
    fn load(&self, dir: &Path) -> Result<Arc<dyn Engine>, LoadError> {
        let config = dir.join("config.json");
        let text = std::fs::read_to_string(&config).unwrap();
        let refused = |kind, problem: &str| {
            Err(LoadError {
                file: config,
                kind,
                problem: problem.to_owned(),
                remedy: "export it again".to_owned(),
            })
        };
        if text.contains("broken") {
            return refused(LoadErrorKind::Malformed, "it is broken");
        }
        if text.contains("unreadable") {
            return refused(LoadErrorKind::Unreadable, "this node cannot read it");
        }
        Ok(Arc::new(FakeEngine::new(Signature::digits(64, 16.0, 10, 32))))
    }
}

pub(crate) fn key(text: &str) -> VersionKey {
    text.parse().unwrap()
}

impl World {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::new(dir.path());
        let mut stores: BTreeMap<String, Arc<dyn ArtifactStore>> = BTreeMap::new();
        for name in ["west", "east", "annex"] {
            let path = dir.path().join("stores").join(name);
            let store = FsStore::open(name, &path, Deadlines::default()).await.unwrap();
            stores.insert(name.to_owned(), Arc::new(store));
        }
        let coordinator = Coordinator::new();
        coordinator.commit(vec![region("west", false), region("east", true)]);
        let running = coordinator.start(&ca.issue("region/west/coordinator/c1")).await;
        let tls = ca.issue("region/west/node/a1");
        let config = config(dir.path(), "west", "a1", tls, &running.endpoint);
        Self {
            dir,
            ca,
            coordinator,
            running: Some(running),
            config,
            stores: Arc::new(Shelf {
                stores,
                east_up: AtomicBool::new(true),
                from_afar: Mutex::default(),
                held: Mutex::default(),
            }),
        }
    }

    /// Another agent, `east/b1`, beside its own store.
    pub(crate) async fn agent_in_east(&self) -> Agent {
        let endpoint = &self.running.as_ref().unwrap().endpoint;
        let tls = self.ca.issue("region/east/node/b1");
        let builder = Agent::builder(config(self.dir.path(), "east", "b1", tls, endpoint))
            .loader(Arc::new(FakeLoader))
            .open_stores_by(self.stores.near());
        builder.start().await.unwrap()
    }

    pub(crate) async fn agent(&self) -> Agent {
        self.agent_with(Arc::new(FakeLoader)).await
    }

    pub(crate) async fn agent_with(&self, loader: Arc<dyn LoadModel>) -> Agent {
        let builder = Agent::builder(self.config.clone())
            .loader(loader)
            .open_stores_by(Arc::clone(&self.stores) as Arc<dyn OpenStore>);
        builder.start().await.unwrap()
    }

    /// Uploads `bytes` as the only file of a version to a region's store, and commits the records that follow.
    pub(crate) async fn put(&self, name: &str, place: &str, state: VersionState, bytes: &[u8]) {
        self.put_files(name, place, state, &[("config.json".to_owned(), bytes.to_vec())])
            .await;
    }

    /// A version whose only copy is verified in `east`, and that answers for its model's name.
    pub(crate) async fn put_champion(&self, name: &str, bytes: &[u8]) {
        self.put(name, "east", VersionState::Ready, bytes).await;
        self.coordinator
            .commit(vec![Resource::Alias(champion(&key(name)))]);
    }

    /// As [`Self::put`], with several files.
    pub(crate) async fn put_files(
        &self,
        name: &str,
        place: &str,
        state: VersionState,
        files: &[(String, Vec<u8>)],
    ) {
        let mut artifacts = Vec::new();
        for (path, bytes) in files {
            let digest = Digest::of(bytes);
            let key = keys::artifact(&digest);
            self.stores
                .of(place)
                .put(&key, bytes.clone().into())
                .await
                .unwrap();
            artifacts.push(Artifact {
                path: ArtifactPath::new(path.as_str()).unwrap(),
                size: ByteCount(bytes.len() as u64),
                digest,
                media_type: String::new(),
            });
        }
        let version = VersionRecord {
            key: key(name),
            state,
            state_reason: String::new(),
            source_region: place.parse().unwrap(),
            artifacts,
            framework: "candle".to_owned(),
            metadata: BTreeMap::new(),
            datasets: Default::default(),
            metrics: Default::default(),
            created_at: UnixMillis(0),
            created_by: "spiffe://regent.local/user/admin".parse().unwrap(),
            modified: Revision(0),
        };
        let mut records = vec![
            Resource::Version(version),
            replica(name, "west", ReplicaState::Pending),
        ];
        if place == "east" {
            records.push(replica(name, "east", ReplicaState::Verified));
        }
        self.coordinator.commit(records);
    }
}

pub(crate) fn region(name: &str, with_store: bool) -> Resource {
    region_at(name, with_store.then(|| binding(name, FencingDoor::Qualified)))
}

pub(crate) fn binding(store: &str, fencing_door: FencingDoor) -> StoreBinding {
    StoreBinding {
        endpoint: format!("file:///stores/{store}"),
        bucket: "models".to_owned(),
        fencing_door,
    }
}

pub(crate) fn region_at(name: &str, store: Option<StoreBinding>) -> Resource {
    Resource::Region(RegionRecord {
        region: name.parse().unwrap(),
        health: Health::Healthy,
        health_evidence: String::new(),
        health_changed_at: UnixMillis(0),
        store,
        labels: types::region::RegionLabels::default(),
        modified: Revision(0),
    })
}

pub(crate) fn replica(name: &str, place: &str, state: ReplicaState) -> Resource {
    Resource::Replica(ReplicaRecord {
        key: ReplicaKey {
            version: key(name),
            region: place.parse().unwrap(),
        },
        state,
        source: None,
        bytes_done: ByteCount(0),
        attempts: 0,
        error: String::new(),
        started_at: None,
        completed_at: None,
        modified: Revision(0),
    })
}

fn config(dir: &Path, region: &str, node: &str, tls: TlsFiles, coordinator: &str) -> AgentConfig {
    let any = "127.0.0.1:0".parse().unwrap();
    AgentConfig {
        node: node.parse().unwrap(),
        region: region.parse().unwrap(),
        zone: None,
        data_dir: dir.join(node),
        coordinators: vec![coordinator.to_owned()],
        listen_agent: any,
        listen_inference: any,
        listen_metrics: any,
        advertise_host: None,
        tls,
        store: StoreConfig {
            endpoint: format!("file:///stores/{region}"),
            bucket: "models".to_owned(),
            access_key_file: None,
            secret_key_file: None,
        },
        store_credentials: BTreeMap::new(),
        postgres: Vec::new(),
        services: Vec::new(),
        limits: LimitsConfig {
            drain_timeout: Duration::from_secs(5),
            ..LimitsConfig::default()
        },
    }
}

/// Fit to serve, and all that it is to serve is in memory and switched in.
pub(crate) async fn ready(agent: &Agent) {
    let mut board = agent.board();
    let wait = board.wait_for(|b| b.ready.is_ok() && !b.copies.is_empty() && b.unloaded.is_empty());
    if tokio::time::timeout(Duration::from_secs(20), wait).await.is_err() {
        panic!("never ready: {:?}", agent.board().borrow());
    }
}

pub(crate) async fn predict(agent: &Agent) -> (u16, Value) {
    let url = format!("http://{}/predict", agent.addresses().inference);
    let body = serde_json::json!({"model": "digits", "input": vec![0.5; 64]});
    let response = reqwest::Client::new().post(url).json(&body).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}
