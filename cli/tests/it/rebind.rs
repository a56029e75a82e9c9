//! A recovered cluster, and the doors of the one that ended: agents with their floors, pointers, a database. They follow by the
//! statement that the CA signed, refuse the old majority when it comes back after all, and stay where they are without it (L19).

use std::{fs, path::Path, process::Command, time::Duration};

use client::{AgentClient, Context};
use rustix::process::Signal;
use serde_json::Value;
use tokio::runtime::Runtime;
use types::{ClusterId, FencingToken, ModelName, Reason, RoleName, VersionKey};

use crate::{
    dev::Dev,
    guarded::{
        REGIONS,
        server::{SOON, Server, write},
        with_database,
    },
    harness::{Ran, Running, run, turn, until},
    recovery::{
        HOLDER, OTHER, SURVIVOR, api, as_agent, client, context, held, kill, process, recover, start,
        the_old_cluster_lives,
    },
};

/// A guarded shop, and the cluster that guards it.
struct World<'a> {
    runtime: &'a Runtime,
    server: &'a Server,
    dev: &'a Dev,
}

#[test]
fn doors_follow_a_recovered_cluster_by_the_cas_statement_alone_and_refuse_the_revived_majority() {
    let _turn = turn();
    let runtime = Runtime::new().unwrap();
    let server = runtime.block_on(async {
        let server = Server::start("").await?;
        server.guard_by("primaries/global").await;
        Some(server)
    });
    let Some(server) = server else { return };
    let dev = Dev::start(3);
    // `dev` would start again whatever is killed.
    dev.signal(dev.parent(), Signal::STOP);
    let world = World {
        runtime: &runtime,
        server: &server,
        dev: &dev,
    };
    let agents = REGIONS.map(|region| with_database(&dev, region, &server.url("shop")));
    let old = world.everything_stands(&dev.context(), &agents);
    for region in REGIONS {
        kill(&dev, region, "coordinator");
    }
    let done = recover(&dev, &["--unsafe", "--yes"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let cluster: ClusterId = done.json()["cluster_id"].as_str().unwrap().parse().unwrap();
    let _survivor = start(&dev, SURVIVOR, "coordinator", &[]);
    let new = context(&dev, &[SURVIVOR]);
    world.nothing_follows_without_a_signature(&new, &old);
    world.openssl_signs(&old);
    world.everything_follows(&new, cluster);
    let _majority = [OTHER, HOLDER].map(|region| start(&dev, region, "coordinator", &[]));
    the_old_cluster_lives(&dev, &old);
    world.every_door_refuses(&new, &old);
    drop(agents);
    dev.signal(dev.parent(), Signal::CONT);
}

impl World<'_> {
    fn fence(&self) -> Option<(ClusterId, types::Epoch)> {
        let reading = self.server.regent();
        let read = self.runtime.block_on(reading.read(&RoleName::global(), SOON));
        let fence = read.unwrap()?.fence;
        Some((fence.cluster_id.parse().unwrap(), fence.epoch))
    }

    /// The role's token, under which the database and every pointer stand.
    fn everything_stands(&self, context: &Context, agents: &[Running]) -> FencingToken {
        let mut stands = None;
        until("every door stands under the holder's epoch", || {
            stands = held(context).filter(|token| {
                let fenced = self.fence() == Some((token.cluster_id, token.epoch));
                fenced
                    && self
                        .pointers()
                        .iter()
                        .all(|pointer| pointer.as_ref() == Some(token))
            });
            stands.is_some()
        });
        assert_eq!(agents.len(), REGIONS.len());
        stands.unwrap()
    }

    /// Under which token each region's pointer stands, as that region's agent reads it; none where it gives none out.
    fn pointers(&self) -> Vec<Option<FencingToken>> {
        let read = |region: &str| {
            let agent = self.agent(region)?;
            let of = region.parse().unwrap();
            let read = self
                .runtime
                .block_on(agent.read_pointer(&RoleName::global(), &of));
            Some(read.ok()??.token)
        };
        REGIONS.iter().map(|region| read(region)).collect()
    }

    fn agent(&self, region: &str) -> Option<AgentClient> {
        self.agent_as(region, &self.dev.context())
    }

    fn agent_as(&self, region: &str, context: &Context) -> Option<AgentClient> {
        let listen = process(self.dev, region, "agent").join("data/listen.json");
        let listen: Value = serde_json::from_str(&fs::read_to_string(listen).ok()?).ok()?;
        let door = format!("https://{}", listen["agent"].as_str()?);
        // A channel is made within a runtime.
        let _within = self.runtime.enter();
        AgentClient::new(&door, &context.tls, Duration::from_secs(10)).ok()
    }

    /// `regent` with the survivor's endpoint alone.
    fn regent(&self, args: &[&str]) -> Ran {
        let (context, endpoint) = (self.dev.context_file(), api(self.dev, SURVIVOR));
        let fixed = ["--context", context.to_str().unwrap(), "--endpoint", &endpoint];
        run(&[&fixed, args].concat())
    }

    fn nothing_follows_without_a_signature(&self, new: &Context, old: &FencingToken) {
        let words = [old.cluster_id.to_string(), "regent cluster rebind".to_owned()];
        let mut said = Value::Null;
        until("each agent says why it stays", || {
            let listed = self.regent(&["node", "list", "--output", "json"]);
            if listed.code != Some(0) {
                return false;
            }
            said = listed.json();
            let agents = said["nodes"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|n| n["kind"] == "AGENT");
            let why = |node: &Value| {
                node["agent"]["stays_behind"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned()
            };
            agents
                .map(why)
                .filter(|why| words.iter().all(|word| why.contains(word)))
                .count()
                == REGIONS.len()
        });
        assert_eq!(held(new), None, "{said}");
        assert_eq!(self.fence(), Some((old.cluster_id, old.epoch)));
    }

    /// The key is not where the cluster is: a statement goes out as text, and comes back signed.
    fn openssl_signs(&self, old: &FencingToken) {
        let listed = self.regent(&["cluster", "rebind", "list", "--output", "json"]);
        let listed = listed.json();
        assert_eq!(
            listed["rebinds"][0]["supersedes"],
            Value::from(old.cluster_id.to_string())
        );
        let statement = self.regent(&["cluster", "rebind", "statement"]);
        assert_eq!(statement.code, Some(0), "{statement:?}");
        let dir = self.dev.path();
        fs::write(dir.join("rebind.txt"), &statement.stdout).unwrap();
        let signature = dir.join("rebind.sig");
        let record = [
            "cluster",
            "rebind",
            "record",
            "--signature",
            signature.to_str().unwrap(),
        ];
        let sign = |key: &Path| {
            let signed = Command::new("openssl")
                .args(["dgst", "-sha256", "-out"])
                .arg(&signature)
                .arg("-sign")
                .arg(key)
                .arg(dir.join("rebind.txt"))
                .output();
            assert!(signed.unwrap().status.success());
        };
        // Of an agent, whose certificate the CA signed: that is not the CA.
        sign(&dir.join("certs").join(format!("{SURVIVOR}-agent.key")));
        self.regent(&record)
            .failed_with(2, &["no signature of this statement by the CA", "openssl dgst"]);
        sign(&dir.join("certs/ca.key"));
        let recorded = self.regent(&record);
        assert_eq!(recorded.code, Some(0), "{recorded:?}");
    }

    fn everything_follows(&self, new: &Context, cluster: ClusterId) {
        until("every door follows", || {
            held(new).is_some_and(|token| {
                assert_eq!((token.cluster_id, token.epoch.generation()), (cluster, 2));
                self.fence() == Some((cluster, token.epoch))
                    && self
                        .pointers()
                        .iter()
                        .all(|pointer| pointer.as_ref() == Some(&token))
            })
        });
        let listed = self.regent(&["node", "list", "--output", "json"]).json();
        let nodes = listed["nodes"].as_array().unwrap().iter();
        let behind = nodes.filter(|node| {
            node["agent"]["stays_behind"]
                .as_str()
                .is_some_and(|why| !why.is_empty())
        });
        assert_eq!(behind.count(), 0, "{listed}");
    }

    /// By the old token, and by one that names the new cluster; each under the certificate of the old token's holder.
    fn every_door_refuses(&self, new: &Context, old: &FencingToken) {
        let current = held(new).unwrap();
        let renamed = FencingToken {
            cluster_id: current.cluster_id,
            ..old.clone()
        };
        let as_holder = as_agent(self.dev, old.holder.region.as_str(), new.clone());
        let model: ModelName = "rebind.model".parse().unwrap();
        let version: VersionKey = "rebind.model@1".parse().unwrap();
        self.runtime.block_on(async {
            let admin = client(new);
            admin
                .create_model(&model, "", Default::default(), &Default::default())
                .await
                .unwrap();
        });
        for (token, reason, code) in [
            (old, Reason::WrongCluster, "RG004"),
            (&renamed, Reason::StaleEpoch, "RG001"),
        ] {
            self.runtime.block_on(async {
                let registry = client(&as_holder);
                let tags = [("by".to_owned(), "zombie".to_owned())].into();
                let written = registry
                    .set_model_tags(&model, tags, vec![], None, Some(token))
                    .await;
                assert_eq!(written.map(|_| ()).unwrap_err().reason, reason);
                let renewed = registry.renew_lease(token).await.map(|_| ());
                assert_eq!(renewed.unwrap_err().reason, reason);
                let app = self.server.connect("app").await;
                let insert = "INSERT INTO shop.orders VALUES (1, 10)";
                assert_eq!(write(&app, token, insert).await, Err(code.to_owned()));
                self.server.raise(token).await.unwrap_err();
            });
            for region in REGIONS {
                let agent = self.agent_as(region, &as_holder).unwrap();
                let served = self.runtime.block_on(agent.serve_version(token, &version));
                assert_eq!(served.unwrap_err().reason, reason, "{region}");
            }
        }
        // The old cluster gives the next epoch out, too, and may not raise it.
        let next = FencingToken {
            epoch: old.epoch.next().unwrap(),
            ..old.clone()
        };
        self.runtime.block_on(self.server.raise(&next)).unwrap_err();
        assert_eq!(self.fence(), Some((current.cluster_id, current.epoch)));
        assert!(
            self.pointers()
                .iter()
                .all(|pointer| pointer.as_ref() == Some(&current))
        );
    }
}
