//! Two regions and a witness, as processes: either region is lost in turn, also where only the witness has stored what was
//! acknowledged, and the witness's memory does not grow with the registry.

use std::{collections::BTreeMap, fs, path::PathBuf, process::Stdio, time::Duration};

use client::{Client, ClientConfig, TlsFiles};
use futures::{StreamExt as _, stream};
use proto::v1::GetStatusResponse;
use rcgen::{Issuer, KeyPair};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use types::{
    ByteCount, Digest, ModelName, RegionId,
    model::{Artifact, ArtifactPath, Placement},
    region::{FencingDoor, StoreBinding},
};

use crate::{
    certs::{authority, issue},
    harness::{LIMIT, Ran, Running, regent, turn, until},
};

const EAST: &str = "east";
const WEST: &str = "west";
const WITNESS: &str = "middle";
/// Versions that are registered.
const VERSIONS: usize = 2_000;
/// Files of each.
const FILES: usize = 20;
/// Changes on their way at once.
const AT_ONCE: usize = 32;
/// The bound on a witness's memory, in KiB.
const WITNESS_KIB: u64 = 64 << 10;

/// Three coordinators without `dev` and without agents.
struct Trio {
    dir: TempDir,
    issuer: Issuer<'static, KeyPair>,
    running: BTreeMap<&'static str, Running>,
    admin: TlsFiles,
    runtime: Runtime,
}

impl Trio {
    /// The east founds, the west joins, and so does the witness.
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let issuer = authority(dir.path());
        let admin = issue(&issuer, dir.path(), "admin", "spiffe://regent.local/user/admin");
        let mut trio = Self {
            dir,
            issuer,
            running: BTreeMap::new(),
            admin,
            runtime: Runtime::new().unwrap(),
        };
        for (place, more) in [
            (EAST, "bootstrap = true"),
            (WEST, ""),
            (WITNESS, "witness = true"),
        ] {
            trio.configure(place, more);
            trio.run(place);
        }
        until("all three vote", || {
            let voters = |s: GetStatusResponse| s.members.iter().filter(|m| m.voter).count() == 3;
            trio.status(EAST).is_some_and(voters)
        });
        trio
    }

    fn data(&self, place: &str) -> PathBuf {
        self.dir.path().join(place).join("data")
    }

    fn configure(&self, place: &str, more: &str) {
        let home = self.dir.path().join(place);
        fs::create_dir_all(&home).unwrap();
        let id = format!("spiffe://regent.local/region/{place}/coordinator/{place}-c1");
        let files = issue(&self.issuer, &home, place, &id);
        let join = match place {
            EAST => String::new(),
            _ => format!("{:?}", self.endpoint(EAST)),
        };
        // A log that is cut often, and is too short for whoever was away.
        let text = format!(
            "node = \"{place}-c1\"\nregion = {place:?}\ndata_dir = {:?}\nlisten_api = \"127.0.0.1:0\"\n\
             listen_raft = \"127.0.0.1:0\"\ntiming = \"fast\"\njoin = [{join}]\n{more}\n\
             [raft]\nsnapshot_after = 500\nlogs_kept = 50\n\
             [tls]\nca_file = {:?}\ncert_file = {:?}\nkey_file = {:?}\n",
            home.join("data"),
            files.ca_file,
            files.cert_file,
            files.key_file,
        );
        fs::write(home.join("config.toml"), text).unwrap();
    }

    fn run(&mut self, place: &'static str) {
        let home = self.dir.path().join(place);
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(home.join("log"))
            .unwrap();
        let mut command = regent();
        command
            .args(["coordinator", "--config"])
            .arg(home.join("config.toml"));
        command.stdout(Stdio::null()).stderr(log);
        self.running.insert(place, Running(command.spawn().unwrap()));
        until("it says where it listens", || self.listens(place).is_some());
    }

    fn kill(&mut self, place: &str) {
        self.running.remove(place).unwrap().kill();
    }

    fn signal(&self, place: &str, signal: Signal) {
        let pid = i32::try_from(self.running[place].pid()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    fn listens(&self, place: &str) -> Option<String> {
        let text = fs::read_to_string(self.data(place).join("listen.json")).ok()?;
        let listen: Value = serde_json::from_str(&text).ok()?;
        Some(format!("https://{}", listen["api"].as_str()?))
    }

    fn endpoint(&self, place: &str) -> String {
        self.listens(place).unwrap()
    }

    fn client(&self, places: &[&str]) -> Client {
        self.client_with(places, &self.admin)
    }

    fn client_with(&self, places: &[&str], files: &TlsFiles) -> Client {
        let endpoints = places.iter().map(|place| self.endpoint(place)).collect();
        let mut config = ClientConfig::new(endpoints, files.clone());
        config.deadline = LIMIT;
        // Its connections are tasks.
        let _runtime = self.runtime.enter();
        Client::new(config).unwrap()
    }

    /// Says, as an agent of the east would, where its region's bytes are: versions are registered there.
    fn attach_store(&self) {
        let id = "spiffe://regent.local/region/east/node/east-a1";
        let files = issue(&self.issuer, self.dir.path(), "east-a1", id);
        let store = StoreBinding {
            endpoint: "https://s3.east.example.com".to_owned(),
            bucket: "models".to_owned(),
            fencing_door: FencingDoor::Qualified,
        };
        let client = self.client_with(&[EAST, WEST], &files);
        let attached = async { client.attach_store(&EAST.parse().unwrap(), &store).await };
        self.runtime.block_on(attached).unwrap();
    }

    fn status(&self, place: &str) -> Option<GetStatusResponse> {
        let client = self.client(&[place]).with_deadline(Duration::from_secs(2));
        self.runtime.block_on(async { client.status().await.ok() })
    }

    /// Makes a model, and insists on its being made.
    fn write(&self, places: &[&str], name: &str) {
        let client = self.client(places);
        let name: ModelName = name.parse().unwrap();
        let made = self.runtime.block_on(async {
            client
                .create_model(&name, "", BTreeMap::new(), &Placement::Everywhere)
                .await
        });
        made.unwrap_or_else(|refusal| panic!("{name}: {refusal}"));
    }

    fn models(&self, place: &str) -> Vec<String> {
        let client = self.client(&[place]);
        let listed = self.runtime.block_on(async { client.list_models().await });
        let models = listed.unwrap();
        models.iter().map(|m| m.name.to_string()).collect()
    }

    /// Which of the two leads, as it says itself.
    fn leader(&self) -> &'static str {
        let mut found = None;
        until("one of the two leads", || {
            let leads = |place: &&str| {
                self.status(place)
                    .is_some_and(|s| s.raft_state == "LEADER" && s.has_quorum)
            };
            found = [EAST, WEST]
                .into_iter()
                .filter(|place| self.running.contains_key(place))
                .find(leads);
            found.is_some()
        });
        found.unwrap()
    }

    fn waits_for(&self, place: &str, applied: u64) {
        until("it has caught up", || {
            self.status(place).is_some_and(|s| s.applied_index >= applied)
        });
    }

    /// Memory of a process that is its own, in KiB.
    fn own_memory(&self, place: &str) -> u64 {
        let pid = self.running[place].pid();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"))
            .unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
    }

    /// A verb against these coordinators.
    fn verb(&self, places: &[&str], args: &[&str]) -> Ran {
        let endpoints: Vec<_> = places.iter().map(|place| self.endpoint(place)).collect();
        let path = self.dir.path().join("context.toml");
        let files = &self.admin;
        let text = format!(
            "endpoints = {endpoints:?}\n[tls]\nca_file = {:?}\ncert_file = {:?}\nkey_file = {:?}\n",
            files.ca_file, files.cert_file, files.key_file
        );
        fs::write(&path, text).unwrap();
        let mut command = regent();
        command.env("REGENT_CONTEXT", &path).args(args);
        Ran::of(command.output().unwrap())
    }
}

/// Announces a version of its own model.
async fn register(client: &Client, number: usize) {
    let model: ModelName = format!("team-{}.model-{number}", number / 100).parse().unwrap();
    let file = |n: usize| Artifact {
        path: ArtifactPath::new(format!("weights/part-{n:05}.safetensors")).unwrap(),
        size: ByteCount(1_000),
        digest: Digest::of(format!("{number}/{n}").as_bytes()),
        media_type: "application/octet-stream".to_owned(),
    };
    let files: Vec<Artifact> = (0..FILES).map(file).collect();
    let region: RegionId = EAST.parse().unwrap();
    let made = client
        .create_version(&model, &region, &files, "safetensors", BTreeMap::new(), &[])
        .await;
    made.unwrap_or_else(|refusal| panic!("{model}: {refusal}"));
}

#[test]
fn either_region_is_lost_and_the_witness_is_small() {
    let _turn = turn();
    let mut trio = Trio::start();
    told_as_one(&trio);
    trio.attach_store();
    let before = [EAST, WEST, WITNESS].map(|place| trio.own_memory(place));
    trio.runtime.block_on(async {
        let client = &trio.client(&[EAST, WEST]);
        stream::iter(0..VERSIONS)
            .for_each_concurrent(AT_ONCE, |number| register(client, number))
            .await;
    });
    let after = [EAST, WEST, WITNESS].map(|place| trio.own_memory(place));
    println!(
        "own memory in KiB, east, west, witness: {before:?} before, {after:?} after {VERSIONS} versions"
    );
    assert!(after[2] < WITNESS_KIB, "{after:?}");
    let grown = |i: usize| after[i].saturating_sub(before[i]);
    assert!(
        grown(2) * 2 < grown(0).min(grown(1)),
        "the witness grows with the registry: {before:?} to {after:?}"
    );
    until("the witness keeps a snapshot", || {
        trio.status(WITNESS).is_some_and(|s| s.snapshot_index > 500)
    });
    each_region_is_lost(&mut trio);
    a_witness_that_was_away_is_brought_up(&mut trio);
    only_the_witness_has_stored(&mut trio);
    let memory = trio.own_memory(WITNESS);
    println!("the witness's own memory at the end: {memory} KiB");
    assert!(memory < WITNESS_KIB, "{memory}");
}

/// As what everybody sees it, and what it says to those who ask it for something.
fn told_as_one(trio: &Trio) {
    // It votes before it is in the registry.
    until("the witness is in the registry", || {
        let nodes = trio.verb(&[EAST, WEST], &["node", "list"]);
        nodes.stdout.contains("WITNESS")
    });
    let regions = trio
        .verb(&[EAST, WEST], &["region", "list", "--output", "json"])
        .json();
    let mut names: Vec<_> = regions["regions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["region"].as_str().unwrap())
        .collect();
    names.sort_unstable();
    assert_eq!(names, [EAST, WEST]);
    let status = trio.verb(&[EAST, WEST, WITNESS], &["cluster", "status"]);
    assert!(status.stdout.contains("FOLLOWER (witness)"), "{status:?}");
    assert!(
        status.stdout.contains("survives the loss of any one region: yes"),
        "{status:?}"
    );
    let members = trio
        .verb(&[EAST], &["cluster", "members", "--output", "json"])
        .json();
    let witnesses = members["members"].as_array().unwrap().iter();
    let witnesses: Vec<_> = witnesses
        .filter(|m| m["witness"] == true)
        .map(|m| &m["node"])
        .collect();
    assert_eq!(witnesses, [&json!("middle-c1")], "{members}");
    // Who knows of the witness alone is told by it who leads, and served there.
    trio.write(&[WITNESS], "asked.of-a-witness");
    assert!(trio.models(EAST).contains(&"asked.of-a-witness".to_owned()));
}

fn each_region_is_lost(trio: &mut Trio) {
    for lost in [EAST, WEST] {
        let left = if lost == EAST { WEST } else { EAST };
        trio.kill(lost);
        let name = format!("without.{lost}");
        trio.write(&[left], &name);
        assert!(trio.models(left).contains(&name));
        let applied = trio.status(left).unwrap().applied_index;
        trio.run(lost);
        trio.waits_for(lost, applied);
        assert!(trio.models(lost).contains(&name));
    }
}

/// It was down while its log was cut behind it: a leader brings it up by a snapshot, which it does not read.
fn a_witness_that_was_away_is_brought_up(trio: &mut Trio) {
    trio.kill(WITNESS);
    let leader = trio.leader();
    let stood_at = trio.status(leader).unwrap().snapshot_index;
    let mut n = 0;
    until("the others cut their logs", || {
        trio.write(&[EAST, WEST], &format!("away.m{n}"));
        n += 1;
        n > 550 && trio.status(leader).is_some_and(|s| s.snapshot_index > stood_at)
    });
    let applied = trio.status(leader).unwrap().applied_index;
    trio.run(WITNESS);
    trio.waits_for(WITNESS, applied);
    assert!(trio.own_memory(WITNESS) < WITNESS_KIB);
}

/// The follower stands still while the leader and the witness go on; then the leader is lost. The witness brings the follower up, and
/// hands leadership over.
fn only_the_witness_has_stored(trio: &mut Trio) {
    let lost = trio.leader();
    let left = if lost == EAST { WEST } else { EAST };
    trio.signal(left, Signal::STOP);
    let names: Vec<String> = (0..20).map(|n| format!("only.m{n}")).collect();
    for name in &names {
        trio.write(&[lost], name);
    }
    trio.kill(lost);
    // What was on its way to it was in its sockets; it hears of it no more.
    trio.kill(left);
    trio.run(left);
    trio.write(&[left], "only.after");
    assert_eq!(trio.leader(), left, "the witness has handed leadership over");
    let models = trio.models(left);
    let missing: Vec<_> = names.iter().filter(|name| !models.contains(name)).collect();
    assert!(missing.is_empty(), "{missing:?} were acknowledged");
    let applied = trio.status(left).unwrap().applied_index;
    trio.run(lost);
    trio.waits_for(lost, applied);
    assert!(trio.models(lost).contains(&"only.after".to_owned()));
}
