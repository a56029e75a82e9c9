//! Streams are checked like single messages: by their first one.

use coordinator::raft::RaftLimits;
use proto::raft_v1::{self as pb, snapshot_part::Part};
use tonic::{Code, Status};

use super::harness::{Cluster, within};

const TERM: u64 = 1_000_000;

/// Another sender, another receiver, another cluster, none, nobody: what each is answered.
fn wrong_routes(right: &pb::Route) -> [(Option<pb::Route>, Code); 5] {
    let sender = pb::Route {
        from: right.from + 1,
        ..right.clone()
    };
    let receiver = pb::Route {
        to: right.to + 1,
        ..right.clone()
    };
    let stranger = pb::Route {
        cluster_id: vec![1; 16],
        ..right.clone()
    };
    let homeless = pb::Route {
        cluster_id: Vec::new(),
        ..right.clone()
    };
    [
        (Some(sender), Code::PermissionDenied),
        (Some(receiver), Code::FailedPrecondition),
        (Some(stranger), Code::FailedPrecondition),
        (Some(homeless), Code::FailedPrecondition),
        (None, Code::InvalidArgument),
    ]
}

fn vote(from: u64) -> pb::Vote {
    pb::Vote {
        term: TERM,
        node: from,
        committed: true,
    }
}

async fn stream_append(cluster: &Cluster, route: Option<pb::Route>, from: u64) -> Result<(), Status> {
    let append = pb::AppendRequest {
        route,
        vote: Some(vote(from)),
        ..pb::AppendRequest::default()
    };
    let answers = cluster
        .calls(1, 0)
        .stream_append(futures::stream::iter([append]))
        .await;
    answers?.get_mut().message().await.map(drop)
}

async fn install_snapshot(cluster: &Cluster, route: Option<pb::Route>, from: u64) -> Result<(), Status> {
    let header = pb::SnapshotPart {
        part: Some(Part::Header(pb::SnapshotHeader {
            route,
            vote: Some(vote(from)),
            size_bytes: 0,
            sha256: Vec::new(),
        })),
    };
    let parts = futures::stream::iter([header]);
    cluster.calls(1, 0).install_snapshot(parts).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_whose_first_message_is_not_for_this_node_is_refused() {
    let mut cluster = Cluster::of(2, RaftLimits::default()).await;
    let right = cluster.route(1, 0);
    for (route, code) in wrong_routes(&right) {
        let appended = within("an answer", stream_append(&cluster, route.clone(), right.from)).await;
        assert_eq!(appended.unwrap_err().code(), code, "append: {route:?}");
        let installed = within("an answer", install_snapshot(&cluster, route.clone(), right.from)).await;
        assert_eq!(installed.unwrap_err().code(), code, "snapshot: {route:?}");
    }
    assert!(cluster.node(0).status().term < TERM);
    cluster.stop_all().await;
}

/// What it would take on disk is reckoned in streams alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_outside_of_a_stream_are_refused_and_a_heartbeat_is_not() {
    let mut cluster = Cluster::of(2, RaftLimits::default()).await;
    let route = cluster.route(1, 0);
    let entry = pb::Entry {
        log_id: Some(pb::LogId {
            term: TERM,
            index: 1_000,
        }),
        payload: Some(pb::Payload {
            kind: Some(pb::payload::Kind::Membership(pb::Membership::default())),
        }),
    };
    for (entries, code) in [(vec![entry], Some(Code::InvalidArgument)), (Vec::new(), None)] {
        let append = pb::AppendRequest {
            route: Some(route.clone()),
            vote: Some(vote(route.from)),
            entries,
            ..pb::AppendRequest::default()
        };
        let mut receiver = cluster.calls(1, 0);
        let answer = within("an answer", receiver.append(append)).await;
        assert_eq!(answer.err().map(|status| status.code()), code);
        assert_eq!(cluster.node(0).status().term == TERM, code.is_none());
    }
    cluster.stop_all().await;
}
