//! Databases as doors: which they are, what counts as claimed, and what a probe changes.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use types::{Epoch, FencingToken, Lineage, RoleName};

use super::records::{binding, me, region, token};
use crate::{
    board::Board,
    claim::{Claim, Claimer, unless_unfit},
    databases::{Database, DatabaseBinding, Databases, Fences, Probed},
    doors::{AllDoors, Binding, DoorKey, Reach},
    metrics::Metrics,
    stores::{OpenStore, Stores},
};

const SOON: Duration = Duration::from_secs(20);

/// Answers probes with what is next, and then with the last again; takes every raise.
struct Scripted(Mutex<VecDeque<Answer>>);

type Answer = Result<(Probed, Fences), String>;

#[async_trait]
impl Database for Scripted {
    async fn probe(&self, _: &BTreeSet<RoleName>, _: Duration) -> Answer {
        let next = {
            let mut script = self.0.lock().unwrap();
            let next = script.pop_front();
            if script.is_empty() {
                script.extend(next.clone());
            }
            next
        };
        match next {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }

    async fn raise(&self, _: &FencingToken, _: &Lineage, _: Duration) -> (Claim, usize) {
        (Claim::Claimed, 2)
    }
}

struct NoStores;

#[async_trait]
impl OpenStore for NoStores {
    async fn open(
        &self,
        _: &types::RegionId,
        _: &types::region::StoreBinding,
    ) -> Result<Arc<dyn artifact_store::ArtifactStore>, String> {
        Err("there is none".to_owned())
    }
}

fn probed(timeline: i32, unfit: &[&str]) -> Probed {
    Probed {
        incarnation: (1, timeline),
        unfit: unfit.iter().map(|text| (*text).to_owned()).collect(),
        remarks: Vec::new(),
    }
}

/// As probed, with the role's fence at this epoch.
fn stands(timeline: i32, unfit: &[&str], counter: u32) -> (Probed, Fences) {
    let fence = (RoleName::global().to_string(), Epoch::new(1, counter));
    (probed(timeline, unfit), Fences::from([fence]))
}

fn database(roles: &[&str], probed: Option<Probed>) -> DatabaseBinding {
    DatabaseBinding {
        roles: roles.iter().map(|role| role.parse().unwrap()).collect(),
        probed,
        restored: 0,
    }
}

#[test]
fn a_role_guards_every_store_and_the_databases_that_name_it() {
    let stores = ["east", "west"].map(|name| (region(name), binding(name)));
    let stores = BTreeMap::from(stores);
    let databases = BTreeMap::from([
        (
            "orders".parse().unwrap(),
            database(&["primaries/global", "primaries/orders"], None),
        ),
        ("users".parse().unwrap(), database(&["primaries/users"], None)),
    ]);
    let all = AllDoors {
        stores: &stores,
        databases: &databases,
    };
    for (role, of, beside) in [
        (
            "primaries/global",
            "pointer/east pointer/west postgres/orders",
            "pointer/west postgres/orders",
        ),
        (
            "primaries/users",
            "pointer/east pointer/west postgres/users",
            "pointer/west postgres/users",
        ),
        ("primaries/other", "pointer/east pointer/west", "pointer/west"),
    ] {
        let role = role.parse().unwrap();
        let names = |doors: crate::doors::Doors| {
            doors
                .keys()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(names(all.of(&role)), of);
        assert_eq!(names(all.beside(&region("west"), &role)), beside);
    }
}

/// Whatever came of its raise, a database that is no door is not claimed and holds nobody up; one that may be a door does.
#[test]
fn a_database_that_is_no_door_counts_for_nothing() {
    let fit = database(&[], Some(probed(1, &[])));
    let unfit = database(&[], Some(probed(1, &["owner writes"])));
    let unknown = database(&[], None);
    let why = "the database is no fencing door: owner writes";
    let table = [
        (
            Claim::Claimed,
            Claim::Refused(format!("{why}; its epoch is raised all the same")),
            Claim::Refused("it was not probed yet; its epoch is raised all the same".into()),
        ),
        (
            Claim::Refused("stale".into()),
            Claim::Refused("stale".into()),
            Claim::Refused("stale".into()),
        ),
        (
            Claim::Contended("held".into()),
            Claim::Unusable(format!("{why}; held")),
            Claim::Contended("held".into()),
        ),
        (
            Claim::Unreachable("gone".into()),
            Claim::Unusable(format!("{why}; gone")),
            Claim::Unusable("it was not probed yet; gone".into()),
        ),
        (
            Claim::Unusable("denied".into()),
            Claim::Unusable(format!("{why}; denied")),
            Claim::Unusable("it was not probed yet; denied".into()),
        ),
    ];
    for (claim, if_unfit, if_unknown) in table {
        assert_eq!(unless_unfit(claim.clone(), &fit), claim);
        assert_eq!(unless_unfit(claim.clone(), &unfit), if_unfit);
        assert_eq!(unless_unfit(claim, &unknown), if_unknown);
    }
}

fn databases(script: Vec<Answer>) -> Databases {
    let role = RoleName::global();
    let scripted: Arc<dyn Database> = Arc::new(Scripted(Mutex::new(script.into())));
    Databases::of(
        vec![("orders".parse().unwrap(), [role].into(), scripted)],
        Metrics::default(),
    )
    .probed_every(Duration::from_millis(10))
}

/// Unknown until a probe says something; what it says is on the board.
#[tokio::test]
async fn what_a_probe_sees_is_a_new_binding_and_stands_on_the_board() {
    let databases = databases(vec![
        Err("it starts".to_owned()),
        Ok(stands(1, &["app owns orders"], 4)),
        Ok(stands(1, &[], 4)),
        // A raise changes nothing.
        Ok(stands(1, &[], 5)),
        // A standby took its place.
        Ok(stands(2, &[], 5)),
        // It was put back to an older state.
        Ok(stands(2, &[], 4)),
        Err("it is gone".to_owned()),
    ]);
    let mut bindings = databases.bindings();
    let (board, seen) = watch::channel(Board::new(me()));
    let stop = CancellationToken::new();
    let running = tokio::spawn(databases.clone().run(board, stop.clone()));
    let said = |expected: &'static str| {
        let mut seen = seen.clone();
        async move {
            let found = |b: &Board| {
                b.databases
                    .values()
                    .any(|(Ok(text) | Err(text))| text.contains(expected))
            };
            tokio::time::timeout(SOON, seen.wait_for(found))
                .await
                .unwrap()
                .unwrap();
        }
    };
    let name = "orders".parse().unwrap();
    assert_eq!(
        bindings.borrow()[&name].why_no_door().unwrap(),
        "it was not probed yet"
    );
    said("it starts").await;
    said("app owns orders").await;
    bindings.changed().await.unwrap();
    let why = bindings.borrow_and_update()[&name].why_no_door().unwrap();
    assert_eq!(why, "the database is no fencing door: app owns orders");
    said("a fencing door").await;
    bindings.changed().await.unwrap();
    let first = bindings.borrow_and_update()[&name].clone();
    assert_eq!(first.why_no_door(), None);
    bindings.changed().await.unwrap();
    let second = bindings.borrow_and_update()[&name].clone();
    assert!(second.why_no_door().is_none() && second != first);
    bindings.changed().await.unwrap();
    let third = bindings.borrow_and_update()[&name].clone();
    assert_eq!(
        (third.probed.as_ref(), third.restored),
        (second.probed.as_ref(), 1)
    );
    // One that does not answer stays what it was seen to be: its claims say that it is gone.
    said("it is gone").await;
    assert!(!bindings.has_changed().unwrap());
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn a_claim_before_the_first_probe_raises_and_is_none() {
    let databases = databases(Vec::new());
    let reach = Reach {
        stores: Stores::new(Arc::new(NoStores)),
        databases: databases.clone(),
        lineage: tokio::sync::watch::channel(None).1,
    };
    let claim = |probed| {
        let door = DoorKey::Postgres("orders".parse().unwrap());
        let binding = Binding::Database(database(&["primaries/global"], probed));
        let mut claimer = Claimer::new(reach.clone(), token(3, &me()), door, binding);
        async move { claimer.attempt(SOON).await }
    };
    let early = claim(None).await.unwrap();
    assert!(
        matches!(&early, Claim::Refused(why) if why.contains("not probed yet")),
        "{early:?}"
    );
    assert_eq!(claim(Some(probed(1, &[]))).await, Some(Claim::Claimed));
}

/// What is left of a lease may be too short for a database to answer: that is no silence yet.
#[tokio::test]
async fn a_database_is_unreachable_after_a_whole_limit_of_silence() {
    struct Silent;
    #[async_trait]
    impl Database for Silent {
        async fn probe(&self, _: &BTreeSet<RoleName>, _: Duration) -> Answer {
            Ok(stands(1, &[], 1))
        }
        async fn raise(&self, _: &FencingToken, _: &Lineage, limit: Duration) -> (Claim, usize) {
            (Claim::Unreachable(format!("no answer within {limit:?}")), 0)
        }
    }
    let silent: Arc<dyn Database> = Arc::new(Silent);
    let name = "orders".parse().unwrap();
    let reach = Reach {
        stores: Stores::new(Arc::new(NoStores)),
        databases: Databases::of(vec![(name, BTreeSet::new(), silent)], Metrics::default()),
        lineage: tokio::sync::watch::channel(None).1,
    };
    let door = DoorKey::Postgres("orders".parse().unwrap());
    let binding = Binding::Database(database(&[], Some(probed(1, &[]))));
    let mut claimer = Claimer::new(reach, token(3, &me()), door, binding);
    claimer.patience = Duration::from_millis(60);
    let short = Duration::from_millis(20);
    assert_eq!(claimer.attempt(short).await, None);
    assert_eq!(claimer.attempt(short).await, None);
    let third = claimer.attempt(short).await;
    assert_eq!(
        third,
        Some(Claim::Unreachable("no answer within 20ms".to_owned()))
    );
}

#[test]
fn a_section_that_cannot_be_used_is_named_with_what_to_write() {
    let check = |text: &str, expected: &str| {
        let section: Result<crate::config::PostgresSection, _> = toml::from_str(text);
        let section = section.unwrap();
        let found = Databases::new(&[section], Metrics::default()).unwrap_err();
        assert!(
            found.starts_with("postgres orders: ") && found.contains(expected),
            "{found}"
        );
    };
    let rest = "name = \"orders\"\nroles = [\"primaries/global\"]\n";
    if cfg!(feature = "postgres") {
        check(
            &format!("{rest}url = \"postgres://db.example/orders\""),
            "ca_file must be set",
        );
        check(
            &format!("{rest}url = \"postgres://app@localhost/orders\""),
            "leave the user out",
        );
    } else {
        check(
            &format!("{rest}url = \"postgres://localhost/orders\""),
            "the feature postgres",
        );
    }
}

/// The commented section of the example, as an operator would take it over, and what is wrong with others.
#[test]
fn sections_of_a_config_are_checked_together() {
    let example = include_str!("../../../deploy/config/agent.toml");
    let section = |name: &str| -> String {
        let begin = example.find(&format!("# [[{name}]]")).unwrap();
        let lines = example[begin..].lines().map_while(|line| line.strip_prefix("# "));
        lines.fold(String::new(), |text, line| format!("{text}{line}\n"))
    };
    let (section, service) = (section("postgres"), section("services"));
    let parse = |more: &str| -> crate::AgentConfig { toml::from_str(&format!("{example}\n{more}")).unwrap() };
    let offered = parse(&service);
    assert_eq!(offered.validate(), Ok(()));
    assert_eq!(
        offered.services[0].protocol,
        types::service::ServiceProtocol::Grpc
    );
    let taken = parse(&section);
    assert_eq!(taken.validate(), Ok(()));
    assert_eq!(taken.postgres[0].patience, Duration::from_secs(1));
    for (more, expected) in [
        (section.repeat(2), "postgres orders stands there twice"),
        (
            section.replace("[\"primaries/global\"]", "[]"),
            "postgres orders has no roles",
        ),
        (section.replace("\"1s\"", "\"2s\""), "write 1.2s at most"),
        (
            service.repeat(2),
            "service feature-store stands there twice with port 7000",
        ),
        (
            (1..66)
                .map(|port| service.replace("7000", &port.to_string()))
                .collect(),
            "65 services; a node may host 64",
        ),
    ] {
        let found = parse(&more).validate().unwrap_err();
        assert!(found.contains(expected), "{found}");
    }
}
