//! Tokens that an agent hands out, as who asked may count on them (L2, L4).

use std::time::Duration;

use client::{AgentClient, guard::BootInstant};
use node_agent::identity::server_tls;
use proto::v1::{
    self as pb,
    agent_service_server::{AgentService, AgentServiceServer},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};

use crate::{
    certs::Ca,
    coordinator::global,
    records::{east, token},
};

/// What is left of the lease of every token.
const LEFT: Duration = Duration::from_millis(200);

/// An agent whose answers come when what it said of the lease is over.
struct SlowAgent;

#[tonic::async_trait]
impl AgentService for SlowAgent {
    async fn get_token(
        &self,
        _: Request<pb::GetTokenRequest>,
    ) -> Result<Response<pb::GetTokenResponse>, Status> {
        let noted = BootInstant::now().plus(LEFT);
        while BootInstant::now() < noted {
            tokio::task::yield_now().await;
        }
        Ok(Response::new(pb::GetTokenResponse {
            token: Some((&token(1, &east())).into()),
            lease_left_millis: u64::try_from(LEFT.as_millis()).unwrap(),
        }))
    }

    async fn get_agent_status(
        &self,
        _: Request<pb::GetAgentStatusRequest>,
    ) -> Result<Response<pb::GetAgentStatusResponse>, Status> {
        Err(Status::unimplemented("not in the script"))
    }

    async fn read_pointer(
        &self,
        _: Request<pb::ReadPointerRequest>,
    ) -> Result<Response<pb::ReadPointerResponse>, Status> {
        Err(Status::unimplemented("not in the script"))
    }

    async fn serve_version(
        &self,
        _: Request<pb::ServeVersionRequest>,
    ) -> Result<Response<pb::ServeVersionResponse>, Status> {
        Err(Status::unimplemented("not in the script"))
    }
}

/// The agent lets the role go once what it said is over by its clock, which began before the answer left.
#[tokio::test]
async fn a_token_whose_answer_took_longer_than_its_lease_is_over_when_it_comes() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Ca::new(dir.path());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("https://{}", listener.local_addr().unwrap());
    let tls = server_tls(&ca.issue("region/east/node/b1")).unwrap();
    let mut server = Server::builder().tls_config(tls).unwrap();
    let server = server.add_service(AgentServiceServer::new(SlowAgent));
    let stop = CancellationToken::new();
    let serving =
        server.serve_with_incoming_shutdown(TcpIncoming::from(listener), stop.clone().cancelled_owned());
    let serving = tokio::spawn(serving);

    let own = ca.issue("region/east/node/b2");
    let agent = AgentClient::new(&endpoint, &own, Duration::from_secs(10)).unwrap();
    let (given, valid_until) = agent.token(&global()).await.unwrap();
    let now = BootInstant::now();
    assert_eq!(given, token(1, &east()));
    assert!(valid_until <= now, "{:?} too long", valid_until.since(now));
    drop(agent);
    stop.cancel();
    serving.await.unwrap().unwrap();
}
