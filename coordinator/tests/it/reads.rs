//! How fresh reads are: bounded ages, one's own writes at any coordinator, and what is refused.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use client::Client;
use proto::{
    convert::status::from_status,
    v1::{
        self as pb, primary_service_client::PrimaryServiceClient,
        registry_service_client::RegistryServiceClient, watch_service_client::WatchServiceClient,
    },
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use types::{Reason, Revision};

use crate::{
    acknowledged::{Acknowledged, Answer, tags},
    harness::{Cluster, user, within},
};

const LONG: Duration = Duration::from_secs(3_600);

fn options(allow_stale: bool, max_staleness_millis: u64, min_revision: u64) -> Option<pb::ReadOptions> {
    Some(pb::ReadOptions {
        allow_stale,
        max_staleness_millis,
        min_revision,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_caller_sees_its_own_writes_at_every_coordinator_also_stale() {
    let cluster = Cluster::start(3).await;
    let admin = cluster.admin().with_answers_noted();
    let mut services = Vec::new();
    for i in 0..3 {
        services.push(RegistryServiceClient::new(
            cluster.channel(i, &user("admin")).await,
        ));
    }
    for i in 0..10 {
        let name = format!("m{i}");
        let model = name.parse().unwrap();
        admin
            .create_model(&model, "", BTreeMap::new(), &Default::default())
            .await
            .unwrap();
        let revision = admin.last_answer().unwrap().revision;
        for service in &mut services {
            let request = pb::GetModelRequest {
                read: options(true, 0, revision.0),
                name: name.clone(),
            };
            let header = service
                .get_model(request)
                .await
                .unwrap()
                .into_inner()
                .header
                .unwrap();
            assert!(header.revision >= revision.0, "{header:?} {revision}");
        }
    }
    // By the client, at whichever coordinator; and what nobody has come to yet.
    let seen = admin.last_answer().unwrap().revision;
    let reader = admin.with_stale_reads().with_min_revision(seen);
    assert_eq!(reader.list_models().await.unwrap().len(), 10);
    for stale in [true, false] {
        let client = if stale {
            admin.with_stale_reads()
        } else {
            admin.clone()
        };
        let ahead = client.with_min_revision(Revision(seen.0 + 1_000_000));
        let refused = ahead.list_models().await.unwrap_err();
        assert_eq!(refused.reason, Reason::FutureRevision, "{refused}");
        assert_eq!(
            refused.operand("shown"),
            Some((seen.0 + 1_000_000).to_string().as_str())
        );
    }
    cluster.shutdown().await;
}

/// Why one coordinator gives no answer within this bound; it is asked once.
async fn refused(cluster: &Cluster, i: usize, max_staleness_millis: u64) -> types::reason::Refusal {
    let mut service = RegistryServiceClient::new(cluster.channel(i, &user("admin")).await);
    let request = pb::GetModelRequest {
        read: options(true, max_staleness_millis, 0),
        name: "m".to_owned(),
    };
    from_status(&service.get_model(request).await.unwrap_err())
}

/// Sets the number of model `m` again and again, until it is stopped.
async fn write(admin: Client, writes: Arc<Acknowledged>, stop: CancellationToken) {
    let model = "m".parse().unwrap();
    for number in 1.. {
        if stop.is_cancelled() {
            return;
        }
        let set = admin.set_model_tags(&model, tags(number), Vec::new(), None, None);
        let (_, header) = set.await.unwrap();
        writes.note(number, header.revision);
    }
}

/// Rounds from which the answers to a reader must have counted.
const ROUNDS: u32 = 4;
/// Writes between two rounds: what an answer must have changes a little by the rounding of its age, too.
const BETWEEN: u64 = 5;

/// Reads at one coordinator until its answers counted from several rounds, and, where they may be so old at most, until it got both: an
/// older one, and one that had to be confirmed because there was only an even older one.
async fn read(channel: Channel, max_staleness_millis: u64, writes: Arc<Acknowledged>) {
    let mut service = RegistryServiceClient::new(channel);
    let (mut rounds, mut confirmed, mut last) = (0, 0, 0);
    while rounds < ROUNDS || (confirmed == 0 && max_staleness_millis > 0) {
        let request = pb::GetModelRequest {
            read: options(true, max_staleness_millis, 0),
            name: "m".to_owned(),
        };
        let sent = Instant::now();
        let answer = service.get_model(request).await.unwrap().into_inner();
        let answer = Answer::of(sent, answer);
        let owed = writes.check(&answer);
        let Some(age) = answer.age() else {
            assert!(
                max_staleness_millis > 0,
                "nothing had to be confirmed: {answer:?}"
            );
            confirmed += 1;
            continue;
        };
        let is_within = max_staleness_millis == 0 || age <= Duration::from_millis(max_staleness_millis);
        assert!(
            is_within,
            "at most {max_staleness_millis} ms were allowed: {answer:?}"
        );
        if owed > last + BETWEEN {
            (rounds, last) = (rounds + 1, owed);
        }
    }
}

/// Each confirms by itself once a second, and whenever somebody allows less.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_answer_has_all_that_was_acknowledged_before_its_age_at_every_coordinator() {
    let cluster = Cluster::start(3).await;
    let (admin, name) = (cluster.admin(), "m".parse().unwrap());
    admin
        .create_model(&name, "", BTreeMap::new(), &Default::default())
        .await
        .unwrap();
    let (writes, stop) = (Arc::new(Acknowledged::default()), CancellationToken::new());
    let writer = tokio::spawn(write(admin.clone(), Arc::clone(&writes), stop.clone()));
    let mut readers = JoinSet::new();
    for i in 0..3 {
        for max_staleness_millis in [0, 300] {
            let channel = cluster.channel(i, &user("admin")).await;
            readers.spawn(read(channel, max_staleness_millis, Arc::clone(&writes)));
        }
    }
    within("answers from several rounds", async {
        while let Some(reader) = readers.join_next().await {
            reader.unwrap();
        }
    })
    .await;
    stop.cancel();
    within("the end of the writer", writer).await.unwrap();
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_stale_answer_is_no_older_than_is_allowed_or_says_how_old_it_would_be() {
    let mut cluster = Cluster::start(3).await;
    let name = "m".parse().unwrap();
    cluster
        .admin()
        .create_model(&name, "", BTreeMap::new(), &Default::default())
        .await
        .unwrap();
    let files = cluster.certs.issue(&user("admin").to_string());
    let alone = cluster.client_of(&files, vec![cluster.nodes[2].endpoint.clone()]);
    let alone = alone.with_deadline(Duration::from_secs(5)).with_answers_noted();
    let before = Instant::now();
    alone.list_models().await.unwrap();
    for i in [0, 1] {
        cluster.stop(i).await;
    }
    // The age counts from the last round, grows while nobody confirms anything, and a bound that it has passed is a refusal that names it.
    let stale = alone.with_stale_reads();
    let first = within("an age", async {
        loop {
            stale.list_models().await.unwrap();
            if let Some(age) = stale.last_answer().unwrap().age {
                return age;
            }
        }
    })
    .await;
    assert!(first <= before.elapsed() + Duration::from_millis(1), "{first:?}");
    within("an older answer", async {
        while stale.last_answer().unwrap().age.unwrap() <= first {
            stale.list_models().await.unwrap();
        }
    })
    .await;
    let refused = refused(&cluster, 2, 1).await;
    let age: u64 = refused
        .operand("age_millis")
        .expect("it says how old its state is")
        .parse()
        .unwrap();
    assert!(
        age > 1 && refused.message.contains("at most 1ms is asked for"),
        "{refused}"
    );
    assert!(
        matches!(
            refused.reason,
            Reason::NoQuorum | Reason::NotLeader | Reason::NotServing
        ),
        "{refused:?}"
    );
    assert_eq!(
        alone.with_max_staleness(LONG).list_models().await.unwrap().len(),
        1
    );
    // It starts anew, and nothing has confirmed what it has.
    cluster.stop(2).await;
    cluster.restart(2).await;
    let refused = self::refused(&cluster, 2, 3_600_000).await;
    assert!(
        refused
            .message
            .contains("nothing has confirmed the state here yet"),
        "{refused}"
    );
    let anew = cluster.client_of(&files, vec![cluster.nodes[2].endpoint.clone()]);
    let unknown = anew.with_stale_reads().with_answers_noted();
    unknown.list_models().await.unwrap();
    assert_eq!(
        unknown.last_answer().unwrap().age,
        Some(Duration::from_millis(u64::MAX))
    );
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_and_plans_are_never_told_stale() {
    let cluster = Cluster::start(1).await;
    let (admin, role) = (cluster.admin(), types::RoleName::global());
    let confirmed = admin.with_answers_noted();
    confirmed.get_role(&role).await.unwrap();
    assert_eq!(confirmed.last_answer().unwrap().age, None);
    for stale in [admin.with_stale_reads(), admin.with_max_staleness(LONG)] {
        for refused in [
            stale.get_role(&role).await.map(drop),
            stale.list_roles().await.map(drop),
            stale.list_plans(None, 10).await.map(drop),
            stale.get_plan(types::PlanId(1)).await.map(drop),
        ] {
            let refused = refused.unwrap_err();
            assert_eq!(
                (refused.reason, refused.operand("field")),
                (Reason::InvalidArgument, Some("read"))
            );
        }
    }
    // A list of everything has them, too.
    let mut service = WatchServiceClient::new(cluster.channel(0, &user("admin")).await);
    for (kinds, taken) in [
        (vec![], false),
        (vec![pb::ResourceKind::KindRole], false),
        (
            vec![pb::ResourceKind::KindModel, pb::ResourceKind::KindPlan],
            false,
        ),
        (
            vec![pb::ResourceKind::KindModel, pb::ResourceKind::KindNode],
            true,
        ),
    ] {
        let request = pb::ListRequest {
            read: options(true, 0, 0),
            filter: Some(pb::WatchFilter {
                kinds: kinds.iter().map(|kind| i32::from(*kind)).collect(),
                ..pb::WatchFilter::default()
            }),
        };
        assert_eq!(service.list(request).await.is_ok(), taken, "{kinds:?}");
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_never_checked_against_stale_state() {
    let cluster = Cluster::start(1).await;
    let mut service = PrimaryServiceClient::new(cluster.channel(0, &user("admin")).await);
    let token = types::FencingToken {
        cluster_id: cluster.admin().timing().await.unwrap().1.cluster_id,
        role: types::RoleName::global(),
        epoch: types::Epoch::new(1, 1),
        holder: types::Holder {
            region: "r1".parse().unwrap(),
            node: "a1".parse().unwrap(),
            incarnation: types::NodeIncarnation::from_u128(1),
        },
    };
    for (read, taken) in [
        (None, true),
        (options(false, 0, 0), true),
        (options(false, 0, 1), true),
        (options(true, 0, 0), false),
        (options(false, 5_000, 0), false),
    ] {
        let request = pb::CheckFenceRequest {
            token: Some((&token).into()),
            read,
        };
        let answer = service.check_fence(request).await;
        assert_eq!(answer.is_ok(), taken, "{read:?}");
        match answer {
            Ok(answer) => {
                let answer = answer.into_inner();
                assert!(!answer.current && !answer.header.unwrap().stale);
            }
            Err(status) => assert_eq!(from_status(&status).reason, Reason::InvalidArgument),
        }
    }
    cluster.shutdown().await;
}
