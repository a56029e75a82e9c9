//! The listeners: HTTP and the agent's gRPC.

use std::{net::SocketAddr, time::Duration};

use axum::Router;
use proto::v1::agent_service_server::AgentServiceServer;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;

use crate::{agent::AgentError, grpc::AgentApi};

/// Serves HTTP until `close`, and ends when the last request has its answer.
pub(crate) async fn serve_http(
    name: &'static str,
    listener: TcpListener,
    routes: Router,
    close: CancellationToken,
) -> Result<(), AgentError> {
    let service = routes.into_make_service_with_connect_info::<SocketAddr>();
    let served = axum::serve(listener, service).with_graceful_shutdown(close.cancelled_owned());
    served.await.map_err(|error| AgentError::Server {
        name,
        error: error.to_string(),
    })
}

/// Serves the agent's gRPC and its health over mTLS until `close`.
pub(crate) async fn serve_grpc(
    listener: TcpListener,
    tls: tonic::transport::ServerTlsConfig,
    api: AgentApi,
    close: CancellationToken,
) -> Result<(), AgentError> {
    let failed = |error: tonic::transport::Error| AgentError::Server {
        name: "agent gRPC",
        error: format!("{error:?}"),
    };
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<AgentServiceServer<AgentApi>>().await;
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    tonic::transport::Server::builder()
        .tls_config(tls)
        .map_err(failed)?
        .timeout(Duration::from_secs(40))
        .http2_keepalive_interval(Some(Duration::from_secs(5)))
        .add_service(health_service)
        .add_service(AgentServiceServer::new(api))
        .serve_with_incoming_shutdown(incoming, close.cancelled_owned())
        .await
        .map_err(failed)
}
