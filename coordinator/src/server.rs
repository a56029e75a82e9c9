//! Listeners, TLS, services, and how they end.
//!
//! Invariant: every service of the API port is behind [`AuthLayer`]; the Raft port authenticates by itself.

use std::{sync::Arc, time::Duration};

use proto::v1::{
    cluster_service_server::ClusterServiceServer, discovery_service_server::DiscoveryServiceServer,
    experiment_service_server::ExperimentServiceServer, preference_service_server::PreferenceServiceServer,
    primary_service_server::PrimaryServiceServer, region_service_server::RegionServiceServer,
    registry_service_server::RegistryServiceServer, session_service_server::SessionServiceServer,
    watch_service_server::WatchServiceServer,
};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Server, server::TcpIncoming};
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{
    api::{
        Api, cluster::Cluster, experiments::Experiments, preferences::Preferences, primaries::Primaries,
        regions::Regions, registry::Registry, services::Discovery, session::Sessions, watch::Watches,
    },
    authz::AuthLayer,
    error::RunError,
    identity,
    raft::RaftNode,
    tls::Tls,
    witness::{WitnessLayer, WitnessStatus},
};

/// Calls that are worked on at once, of those that keep leases alive, and of all others. Each holds little; the log bounds proposals by itself.
const IN_FLIGHT: usize = 2_048;
/// Streams of one connection; an agent has a handful.
const STREAMS: u32 = 1_024;
/// Bytes of one request. A version of 10,000 files fits.
const REQUEST_BYTES: usize = 4 << 20;
/// Bytes of one request to a witness: it takes none that says anything.
const WITNESS_REQUEST_BYTES: usize = 16 << 10;
/// A connection that does not answer a ping for this long is dead, and its session with it.
const KEEPALIVE: Duration = Duration::from_secs(10);

fn builder(tls: &Tls) -> Result<Server, RunError> {
    let fail = |source| RunError::Serve {
        purpose: "tls",
        source,
    };
    Ok(Server::builder()
        .tls_config(tls.server())
        .map_err(fail)?
        .max_concurrent_streams(STREAMS)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .tcp_nodelay(true))
}

fn incoming(listener: std::net::TcpListener) -> std::io::Result<TcpIncoming> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    Ok(TcpIncoming::from(listener).with_nodelay(Some(true)))
}

fn not_taken(address: std::net::SocketAddr, purpose: &'static str) -> impl Fn(std::io::Error) -> RunError {
    move |source| RunError::Listen {
        address,
        purpose,
        source,
        remedy: String::new(),
    }
}

/// Serves the API until `shutdown`; then open calls end first.
pub(crate) async fn serve_api(
    api: Arc<Api>,
    tls: &Tls,
    listener: std::net::TcpListener,
    health: HealthReporter,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    let address = listener
        .local_addr()
        .map_err(not_taken(([0, 0, 0, 0], 0).into(), "api"))?;
    let incoming = incoming(listener).map_err(not_taken(address, "api"))?;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(|e| RunError::Descriptors(e.to_string()))?;
    let size = REQUEST_BYTES;
    let of = Arc::clone(&api);
    let own_cluster = Arc::new(move || of.raft.cluster_id());
    builder(tls)?
        .layer(AuthLayer::new(IN_FLIGHT, own_cluster))
        .add_service(ClusterServiceServer::new(Cluster(Arc::clone(&api))).max_decoding_message_size(size))
        .add_service(RegistryServiceServer::new(Registry(Arc::clone(&api))).max_decoding_message_size(size))
        .add_service(
            ExperimentServiceServer::new(Experiments(Arc::clone(&api))).max_decoding_message_size(size),
        )
        .add_service(DiscoveryServiceServer::new(Discovery(Arc::clone(&api))).max_decoding_message_size(size))
        .add_service(
            PreferenceServiceServer::new(Preferences(Arc::clone(&api))).max_decoding_message_size(size),
        )
        .add_service(RegionServiceServer::new(Regions(Arc::clone(&api))).max_decoding_message_size(size))
        .add_service(PrimaryServiceServer::new(Primaries(Arc::clone(&api))).max_decoding_message_size(size))
        .add_service(SessionServiceServer::new(Sessions(Arc::clone(&api))).max_decoding_message_size(size))
        .add_service(WatchServiceServer::new(Watches::new(api)).max_decoding_message_size(size))
        .add_service(tonic_health::pb::health_server::HealthServer::new(
            tonic_health::server::HealthService::from_health_reporter(health),
        ))
        .add_service(reflection)
        .serve_with_incoming_shutdown(incoming, shutdown.cancelled_owned())
        .await
        .map_err(|source| RunError::Serve {
            purpose: "api",
            source,
        })
}

/// Serves a witness's API until `shutdown`: how it stands, and its health. Everything else is refused with who serves.
pub(crate) async fn serve_witness_api(
    raft: RaftNode,
    tls: &Tls,
    listener: std::net::TcpListener,
    health: HealthReporter,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    let address = listener
        .local_addr()
        .map_err(not_taken(([0, 0, 0, 0], 0).into(), "api"))?;
    let incoming = incoming(listener).map_err(not_taken(address, "api"))?;
    let own = raft.clone();
    let own_cluster = Arc::new(move || own.cluster_id());
    builder(tls)?
        .layer(AuthLayer::new(IN_FLIGHT, own_cluster))
        .layer(WitnessLayer(raft.clone()))
        .add_service(
            ClusterServiceServer::new(WitnessStatus(raft)).max_decoding_message_size(WITNESS_REQUEST_BYTES),
        )
        .add_service(tonic_health::pb::health_server::HealthServer::new(
            tonic_health::server::HealthService::from_health_reporter(health),
        ))
        .serve_with_incoming_shutdown(incoming, shutdown.cancelled_owned())
        .await
        .map_err(|source| RunError::Serve {
            purpose: "api",
            source,
        })
}

/// Serves Raft to the other coordinators until `shutdown`.
pub(crate) async fn serve_raft(
    raft: RaftNode,
    tls: &Tls,
    listener: std::net::TcpListener,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    let address = listener
        .local_addr()
        .map_err(not_taken(([0, 0, 0, 0], 0).into(), "raft"))?;
    let incoming = incoming(listener).map_err(not_taken(address, "raft"))?;
    builder(tls)?
        .add_service(raft.service(Arc::new(identity::of_connection)))
        .serve_with_incoming_shutdown(incoming, shutdown.cancelled_owned())
        .await
        .map_err(|source| RunError::Serve {
            purpose: "raft",
            source,
        })
}

/// Keeps the health service's answer: SERVING while this node hears a quorum, trusts its state, and has applied the cluster's first
/// entry. That it was cut off is no event, so it looks at every heartbeat.
pub(crate) async fn report_health(raft: RaftNode, reporter: HealthReporter, shutdown: CancellationToken) {
    let mut leadership = raft.leadership();
    // Watchers of the health service are told of each setting.
    let mut told = None;
    loop {
        leadership.mark_unchanged();
        let serves = raft.why_unserving().is_none();
        if told.replace(serves) != Some(serves) {
            let status = match serves {
                true => ServingStatus::Serving,
                false => ServingStatus::NotServing,
            };
            reporter.set_service_status("", status).await;
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            changed = leadership.changed() => if changed.is_err() { break },
            () = tokio::time::sleep(raft.timing().heartbeat) => {}
        }
    }
    reporter.set_service_status("", ServingStatus::NotServing).await;
}
