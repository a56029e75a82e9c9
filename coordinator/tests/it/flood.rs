//! More changes at once than a coordinator takes: what is beyond its bound is refused and surely not done.

use std::collections::BTreeSet;

use client::retry::mint_request_id;
use coordinator::raft::RaftLimits;
use proto::{
    convert::status::from_status,
    v1::{self as pb, registry_service_client::RegistryServiceClient},
};
use tokio::task::JoinSet;
use tonic::{Code, Request, Response, Status, transport::Channel};
use types::{Reason, RequestId, model::Placement};

use crate::harness::{Cluster, PATIENCE, user, within};

/// Changes that come while as many as may be are in flight.
const BEYOND: usize = 400;
/// Connections that they come on: one carries 1,024 calls.
const CONNECTIONS: usize = 4;

type Answer = (usize, Result<Response<pb::ModelResponse>, Status>);

fn name(i: usize) -> String {
    format!("m{i:04}")
}

async fn create(i: usize, id: RequestId, channel: Channel) -> Answer {
    let mut request = Request::new(pb::CreateModelRequest {
        request_id: id.to_string(),
        name: name(i),
        placement: Some((&Placement::default()).into()),
        ..pb::CreateModelRequest::default()
    });
    // Longer than anybody here waits: how long it takes is not what is asked.
    request.set_timeout(PATIENCE * 4);
    (i, RegistryServiceClient::new(channel).create_model(request).await)
}

/// What became of the changes, by their numbers.
#[derive(Default)]
struct Told {
    done: BTreeSet<usize>,
    refused: BTreeSet<usize>,
}

impl Told {
    fn take(&mut self, (i, answer): Answer, bound: usize) {
        let Err(status) = answer else {
            self.done.insert(i);
            return;
        };
        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
        let refusal = from_status(&status);
        assert_eq!(refusal.reason, Reason::Overloaded);
        assert_eq!(refusal.operand("in_flight"), Some(bound.to_string().as_str()));
        let again = refusal.operand("retry_after_ms").unwrap();
        assert!(again.parse::<u64>().unwrap() > 0, "{refusal}");
        self.refused.insert(i);
    }
}

/// While the only follower is away nothing is acknowledged, so that all of them are in flight at once, however slow the machine is.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_beyond_the_bound_is_refused_and_not_done_and_what_is_within_it_is_done() {
    let bound = RaftLimits::default().proposals_in_flight;
    let mut cluster = Cluster::start_with(2, |config| {
        // A leader that is alone goes on meanwhile, and is followed again.
        config.raft.election_min_millis = Some(60_000);
        config.raft.election_max_millis = Some(90_000);
    })
    .await;
    let leader = cluster.leader().await;
    let mut channels = Vec::new();
    for _ in 0..CONNECTIONS {
        channels.push(cluster.channel(leader, &user("admin")).await);
    }
    cluster.stop(1 - leader).await;
    let ids: Vec<_> = (0..bound + BEYOND).map(|_| mint_request_id()).collect();
    let mut calls: JoinSet<Answer> = JoinSet::new();
    for (i, id) in ids.iter().enumerate() {
        calls.spawn(create(i, *id, channels[i % CONNECTIONS].clone()));
    }
    let mut told = Told::default();
    within("refusals of all that is beyond the bound", async {
        while told.refused.len() < BEYOND {
            told.take(calls.join_next().await.unwrap().unwrap(), bound);
        }
    })
    .await;
    assert!(
        told.done.is_empty(),
        "no majority has stored them: {:?}",
        told.done
    );
    cluster.restart(1 - leader).await;
    within("answers to the others", async {
        while let Some(answer) = calls.join_next().await {
            told.take(answer.unwrap(), bound);
        }
    })
    .await;
    assert!(!told.done.is_empty());
    let admin = cluster.admin();
    let there = async || -> Vec<String> {
        let models = admin.list_models().await.unwrap();
        models.iter().map(|model| model.name.to_string()).collect()
    };
    let done: Vec<_> = told.done.iter().map(|i| name(*i)).collect();
    assert_eq!(there().await, done);
    // Nothing stands in the way of the others any more, nor of asking for them under the same ids.
    for i in &told.refused {
        calls.spawn(create(*i, ids[*i], channels[i % CONNECTIONS].clone()));
    }
    within("their answers", async {
        while let Some(answer) = calls.join_next().await {
            answer.unwrap().1.unwrap();
        }
    })
    .await;
    assert_eq!(there().await, (0..ids.len()).map(name).collect::<Vec<_>>());
    cluster.shutdown().await;
}
