//! A cluster started from one of `deploy/config/sets`, with nothing changed but where its machines are.
//!
//! Each machine of the set is an address of loopback, and `/etc` and `/var/lib` are folders of the test's own.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Stdio,
};

use rcgen::{Issuer, KeyPair};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpSocket;

use crate::{
    certs::{authority, issue_for, owners_only},
    harness::{Ran, Running, StoreDir, regent, turn, until},
};

const SET: &str = "three-continents";
const REGIONS: [&str; 3] = ["us-east-1", "eu-west-1", "ap-southeast-1"];
/// What the configs listen on; on each of their machines.
const PORTS: [u16; 5] = [7460, 7461, 7462, 7463, 7464];
/// The keys of a store.
const KEYS: [&str; 2] = ["access-key", "secret-key"];

fn configs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/config")
}

/// The set's processes, and what they need of a machine.
struct Set {
    dir: TempDir,
    issuer: Issuer<'static, KeyPair>,
    /// In place of those of the configs: another cluster may run here.
    ports: [TcpSocket; 5],
    stores: Vec<(StoreDir, Running)>,
    running: Vec<Running>,
}

impl Set {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let issuer = authority(dir.path());
        let stores = REGIONS.map(|_| {
            let store = StoreDir::new("127.0.0.1:0");
            let running = store.start();
            (store, running)
        });
        Self {
            dir,
            issuer,
            ports: PORTS.map(|_| reserved_port()),
            stores: stores.into(),
            running: Vec::new(),
        }
    }

    /// The folder that stands for the root of a machine.
    fn root(&self, machine: &str) -> PathBuf {
        self.dir.path().join(machine)
    }

    /// A config of the set, where this machine's own addresses and folders are this test's.
    fn config(&self, file: &Path, machine: &str, own: Ipv4Addr) -> PathBuf {
        let mut text = fs::read_to_string(configs().join(file)).unwrap();
        for (at, region) in REGIONS.iter().enumerate() {
            for (role, kind) in ["c", "a"].into_iter().enumerate() {
                let address = address(at, role).to_string();
                text = text.replace(&format!("{kind}1.{region}.example.com"), &address);
            }
            // As people reach a region's coordinator.
            text = text.replace(&format!("{region}.example.com"), &address(at, 0).to_string());
            let store = format!("http://127.0.0.1:{}", self.stores[at].0.port());
            text = text.replace(&format!("https://s3.{region}.amazonaws.com"), &store);
        }
        text = text.replace("0.0.0.0:", &format!("{own}:"));
        text = text.replace("\"127.0.0.1:", &format!("\"{own}:"));
        for (written, reserved) in PORTS.iter().zip(&self.ports) {
            let port = reserved.local_addr().unwrap().port();
            text = text.replace(&format!(":{written}\""), &format!(":{port}\""));
        }
        for folder in ["etc", "var/lib"] {
            let here = self.root(machine).join(folder);
            text = text.replace(&format!("\"/{folder}/"), &format!("\"{}/", here.display()));
        }
        let path = self.root(machine).join("config.toml");
        fs::write(&path, text).unwrap();
        path
    }

    /// What an operator puts on a machine before anything is started: certificate, CA, and the store's keys.
    fn set_up(&self, machine: &str, part: &str, identity: &str, own: Ipv4Addr) {
        let etc = self.root(machine).join("etc/regent");
        fs::create_dir_all(etc.join("store")).unwrap();
        fs::create_dir_all(self.root(machine).join("var/lib/regent")).unwrap();
        fs::copy(self.dir.path().join("ca.pem"), etc.join("ca.pem")).unwrap();
        let own = own.to_string();
        issue_for(&self.issuer, &etc, part, identity, &[&own]);
        for key in KEYS {
            let there = etc.join("store").join(key);
            fs::copy(self.stores[0].0.dir.path().join(key), &there).unwrap();
            owners_only(&there);
        }
    }

    /// Starts what a machine is for.
    fn start(&mut self, at: usize, part: &str) {
        let region = REGIONS[at];
        let (role, who) = match part {
            "coordinator" => (0, format!("coordinator/{region}-c1")),
            _ => (1, format!("node/{region}-a1")),
        };
        let machine = format!("{region}-{part}");
        let identity = format!("spiffe://regent.local/region/{region}/{who}");
        let own = address(at, role);
        self.set_up(&machine, part, &identity, own);
        let file = Path::new("sets")
            .join(SET)
            .join(region)
            .join(format!("{part}.toml"));
        let config = self.config(&file, &machine, own);
        let log = fs::File::create(self.root(&machine).join("log")).unwrap();
        let mut command = regent();
        command.arg(part).arg("--config").arg(config);
        self.running.push(Running(
            command.stdout(Stdio::null()).stderr(log).spawn().unwrap(),
        ));
    }

    /// A person at a desk, with the example of a context.
    fn person(&self) -> PathBuf {
        let own = Ipv4Addr::LOCALHOST;
        self.set_up("desk", "admin", "spiffe://regent.local/user/admin", own);
        self.config(Path::new("context.toml"), "desk", own)
    }
}

/// Of the machine of a region's coordinator (0) or agent (1): one of this run's own.
fn address(region: usize, role: usize) -> Ipv4Addr {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let machine = u8::try_from(region * 2 + role).unwrap() + 1;
    Ipv4Addr::new(127, 100 + high % 100, low, machine)
}

/// A port on every address that the system gives to nobody who asks for any, as long as this lives: not as a listener's, nor as that
/// of a call. Whoever names it gets it, as the processes of the set do: both sides reuse addresses, and this one does not listen.
fn reserved_port() -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    socket.bind(any).unwrap();
    socket
}

fn json(context: &Path, args: &[&str]) -> Option<Value> {
    let mut command = regent();
    command.env("REGENT_CONTEXT", context).args(args);
    let ran = Ran::of(command.args(["--output", "json"]).output().unwrap());
    (ran.code == Some(0)).then(|| ran.json())
}

/// How many of the elements of a list are so.
fn count(document: Option<&Value>, list: &str, is: impl Fn(&Value) -> bool) -> usize {
    let list = document.and_then(|document| document[list].as_array());
    list.map_or(0, |list| list.iter().filter(|element| is(element)).count())
}

#[test]
fn the_first_set_founds_a_cluster_with_its_agents_and_their_stores() {
    let _turn = turn();
    let mut set = Set::new();
    for at in 0..REGIONS.len() {
        set.start(at, "coordinator");
        set.start(at, "agent");
    }
    let person = set.person();
    until("all three vote", || {
        let members = json(&person, &["cluster", "members"]);
        count(members.as_ref(), "members", |member| member["voter"] == true) == 3
    });
    until("the agent of each region is ready", || {
        let nodes = json(&person, &["node", "list"]);
        count(nodes.as_ref(), "nodes", |node| node["agent"]["ready"] == true) == 3
    });
    until("the store of each region guards", || {
        let regions = json(&person, &["region", "list"]);
        let guards =
            |region: &Value| region["health"] == "HEALTHY" && region["store"]["fencing_door"] == "QUALIFIED";
        count(regions.as_ref(), "regions", guards) == 3
    });
}
