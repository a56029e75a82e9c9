//! A recovered cluster, and the doors of the one that ended: agents with their floors, pointers, a database. They follow by the
//! statement that the CA signed, refuse the old majority when it comes back after all, and stay where they are without it (L19).

use std::{fs, path::Path, process::Command, time::Duration};

use client::{
    AgentClient, Context,
    guard::{RoleGuard, Standing},
};
use rustix::process::Signal;
use serde_json::Value;
use tokio::{runtime::Runtime, time::timeout};
use types::{ClusterId, FencingToken, ModelName, Reason, RoleName, VersionKey};

use crate::{
    dev::Dev,
    guarded::{
        REGIONS,
        server::{SOON, Server, write},
        with_database,
    },
    harness::{LIMIT, Ran, Running, run, turn, until},
    recovery::{
        HOLDER, OTHER, SURVIVOR, api, as_agent, client, context, held, kill, process, recover, start,
        start_from, the_old_cluster_lives,
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
    let stayed = dev.path().join("stayed");
    copy(&process(&dev, HOLDER, "agent").join("data"), &stayed);
    let done = recover(&dev, &["--unsafe", "--yes"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let cluster: ClusterId = done.json()["cluster_id"].as_str().unwrap().parse().unwrap();
    let _survivor = start(&dev, SURVIVOR, "coordinator", &[]);
    let new = context(&dev, &[SURVIVOR]);
    world.nothing_follows_without_a_signature(&new, &old);
    world.openssl_signs(&old);
    world.everything_follows(&new, cluster);
    let majority = [OTHER, HOLDER].map(|region| start(&dev, region, "coordinator", &[]));
    the_old_cluster_lives(&dev, &old);
    world.every_door_refuses(&new, &old);
    world.an_agent_that_stayed_claims_nothing(&new, &old, agents, &stayed);
    world.guards_of_the_old_cluster_end(&new, &old, majority);
    dev.signal(dev.parent(), Signal::CONT);
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(copied.unwrap().success());
}

/// The key is at hand: what the survivor becomes is signed for as it is made, and the agents follow without another word.
#[test]
fn a_recovery_with_the_cas_key_takes_the_doors_along() {
    let _turn = turn();
    let dev = Dev::start(3);
    let all = dev.context();
    until("the role is held", || held(&all).is_some());
    let old = held(&all).unwrap();
    // `dev` would start again whatever is killed.
    dev.signal(dev.parent(), Signal::STOP);
    for region in REGIONS {
        kill(&dev, region, "coordinator");
    }
    let certs = dev.path().join("certs");
    let with_key = |key: &Path| recover(&dev, &["--unsafe", "--yes", "--ca-key", key.to_str().unwrap()]);
    // An agent's key: the CA signed its certificate, and it is not the CA. Nothing is changed by the attempt.
    with_key(&certs.join(format!("{SURVIVOR}-agent.key")))
        .failed_with(2, &["is not the key of any certificate in tls.ca_file"]);
    let done = with_key(&certs.join("ca.key"));
    assert_eq!(done.code, Some(0), "{done:?}");
    let done = done.json();
    let (rebind, cluster) = (&done["rebinds"][0], &done["cluster_id"]);
    assert_eq!(
        rebind["supersedes"],
        Value::from(old.cluster_id.to_string()),
        "{done}"
    );
    assert_eq!(rebind["signed"], true, "{done}");
    let _survivor = start(&dev, SURVIVOR, "coordinator", &[]);
    let new = context(&dev, &[SURVIVOR]);
    until(
        "an agent of the old cluster holds the role in the new one",
        || held(&new).is_some(),
    );
    let token = held(&new).unwrap();
    assert_eq!(&Value::from(token.cluster_id.to_string()), cluster);
    assert_eq!(token.epoch.generation(), 2);
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

    /// It has the floors of before the recovery, hears of the old majority alone, and is made its primary; every door that it then
    /// tries is another cluster's.
    fn an_agent_that_stayed_claims_nothing(
        &self,
        new: &Context,
        old: &FencingToken,
        agents: [Running; 3],
        data: &Path,
    ) {
        let fence = self.fence();
        let majority = context(self.dev, &[OTHER, HOLDER]);
        // All of them go, so that nobody can take a door back.
        drop(agents);
        let keys = [
            ("data_dir", format!("{:?}", data.display().to_string())),
            ("coordinators", format!("{:?}", majority.endpoints)),
        ];
        let _stayed = start_from(self.dev, HOLDER, "agent", "with-database.toml", &keys);
        let mut token = None;
        until("the old majority gives the role to it", || {
            token = held(&majority).filter(|token| token.epoch > old.epoch);
            token.is_some()
        });
        let token = token.unwrap();
        assert_eq!(token.cluster_id, old.cluster_id);
        assert_eq!(token.holder.region.as_str(), HOLDER);
        let doors = self.doors_of(&token);
        let stores = doors.iter().filter(|door| door["door"] != "postgres/shop");
        assert_eq!(stores.count(), REGIONS.len(), "{doors:?}");
        assert_eq!(doors.len(), REGIONS.len() + 1, "{doors:?}");
        for door in &doors {
            assert_eq!(door["claimed"], false, "{door}");
            assert_ne!(door["error"], "", "{door}");
        }
        assert_eq!(self.fence(), fence, "the database stands as it did");
        let current = held(new).map(|token| token.cluster_id);
        assert_eq!(fence.map(|(cluster, _)| cluster), current);
    }

    /// What became of each door in the plan that gave a token out, by the old majority.
    fn doors_of(&self, token: &FencingToken) -> Vec<Value> {
        let (context, endpoint) = (self.dev.context_file(), api(self.dev, OTHER));
        let args = ["--context", context.to_str().unwrap(), "--endpoint", &endpoint];
        let told = run(&[&args, &["primary", "get", "--output", "json"][..]].concat()).json();
        let plans = told["plans"].as_array().unwrap();
        let epoch = serde_json::to_value(token.epoch).unwrap();
        let plan = plans.iter().find(|plan| plan["target_epoch"] == epoch);
        plan.unwrap()["doors"].as_array().unwrap().clone()
    }

    /// One that renews with the old majority holds until that is gone; one that asks the new cluster is lost for good.
    fn guards_of_the_old_cluster_end(&self, new: &Context, old: &FencingToken, majority: [Running; 2]) {
        let token = held(&context(self.dev, &[OTHER, HOLDER])).unwrap();
        let as_holder = |token: &FencingToken, context| {
            let region = token.holder.region.as_str();
            client(&as_agent(self.dev, region, context))
        };
        let retry = Duration::from_millis(100);
        self.runtime.block_on(async {
            let of_old = as_holder(&token, context(self.dev, &[OTHER, HOLDER]));
            let (guard, renewals) = RoleGuard::hold(of_old, token.clone(), retry);
            guard.held().await.unwrap();
            assert!(!guard.on_lost().is_cancelled());
            drop(majority);
            timeout(LIMIT, guard.on_lost().cancelled())
                .await
                .expect("its lease runs out");
            renewals.release().await;
            for token in [&token, old] {
                let of_new = as_holder(token, new.clone());
                let (guard, renewals) = RoleGuard::hold(of_new, token.clone(), retry);
                let ended = timeout(LIMIT, guard.on_lost().cancelled()).await;
                ended.expect("the new cluster's word is the end of it");
                let refusal = guard.held().await.unwrap_err();
                assert_eq!(refusal.reason, Reason::WrongCluster, "{refusal}");
                assert_eq!(guard.standing(), Standing::Lost(refusal));
                renewals.release().await;
            }
        });
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
