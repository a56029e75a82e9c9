//! Who may call what.

use std::sync::Arc;

use coordinator::{
    authz::{self, METHODS},
    raft::{Dial as _, Peer},
};
use prost_types::FileDescriptorSet;
use proto::{
    raft_v1::{self, raft_service_client::RaftServiceClient},
    v1::{self as pb, registry_service_client::RegistryServiceClient},
};
use tonic::transport::Endpoint;
use types::{Principal, Reason};

use crate::harness::{Certs, Cluster, agent, region, tls, user};

fn methods_of_the_descriptors() -> Vec<String> {
    let set: FileDescriptorSet = prost::Message::decode(proto::FILE_DESCRIPTOR_SET).unwrap();
    let mut methods = Vec::new();
    for file in set.file {
        for service in &file.service {
            let name = format!("{}.{}", file.package(), service.name());
            methods.extend(service.method.iter().map(|m| format!("/{name}/{}", m.name())));
        }
    }
    methods
}

/// The names of a service's methods.
pub(crate) fn methods_of(service: &str) -> impl Iterator<Item = String> {
    let service = format!(".{service}/");
    let all = methods_of_the_descriptors().into_iter();
    all.filter_map(move |path| Some(path.split_once(&service)?.1.to_owned()))
}

/// The agent's own service is served by agents, on another port.
#[test]
fn every_method_is_listed_and_every_listed_one_exists() {
    let described = methods_of_the_descriptors();
    for method in described.iter().filter(|m| !m.contains(".AgentService/")) {
        let listed = METHODS.iter().filter(|(path, _)| path == method).count();
        assert_eq!(listed, 1, "{method}");
    }
    for (path, _) in METHODS.iter().filter(|(path, _)| path.starts_with("/regent.v1.")) {
        assert!(described.iter().any(|m| m == path), "{path}");
    }
}

/// Methods that change something and are no requests of people: why they take no request id or cannot be only validated.
const NO_REQUESTS: [(&str, &str); 8] = [
    (
        "RegistryService/ReportReplica",
        "an agent says what is; it has an id, and nothing to try first",
    ),
    (
        "PrimaryService/ReportStep",
        "an agent says what is; it has an id, and nothing to try first",
    ),
    (
        "RegionService/AttachStore",
        "an agent says what its probe found; it has an id, and nothing to try first",
    ),
    (
        "PrimaryService/RenewLease",
        "writes nothing to the log (L7); each renewal counts by itself",
    ),
    (
        "PrimaryService/ReleaseLease",
        "writes nothing to the log; to say it twice is to say it once",
    ),
    ("SessionService/Session", "soft state of the leader"),
    (
        "ClusterService/Join",
        "a coordinator asks until it is in; to be in twice is to be in once",
    ),
    (
        "ClusterService/TransferLeadership",
        "changes no record; who leads already stays leader",
    ),
];

/// The fields of each method's request, by the method's path.
fn requests_of_the_descriptors() -> Vec<(String, Vec<String>)> {
    let set: FileDescriptorSet = prost::Message::decode(proto::FILE_DESCRIPTOR_SET).unwrap();
    let messages: std::collections::BTreeMap<_, Vec<String>> = (set.file.iter())
        .flat_map(|f| {
            f.message_type
                .iter()
                .map(move |m| (format!(".{}.{}", f.package(), m.name()), m))
        })
        .map(|(name, m)| (name, m.field.iter().map(|f| f.name().to_owned()).collect()))
        .collect();
    let mut requests = Vec::new();
    for file in &set.file {
        for service in &file.service {
            let path = |method: &str| format!("{}/{method}", service.name());
            let fields = |input: &str| messages[input].clone();
            requests.extend(
                service
                    .method
                    .iter()
                    .map(|m| (path(m.name()), fields(m.input_type()))),
            );
        }
    }
    requests
}

#[test]
fn every_change_takes_a_request_id_and_can_be_only_validated() {
    let is_read = |method: &str| {
        let name = method.split('/').next_back().unwrap();
        ["Get", "List", "Check", "Watch", "Save", "Assign"]
            .iter()
            .any(|verb| name.starts_with(verb))
    };
    let requests = requests_of_the_descriptors();
    let changes = requests
        .iter()
        .filter(|(method, _)| !is_read(method) && !method.starts_with("AgentService/"));
    let (others, changes): (Vec<_>, Vec<_>) =
        changes.partition(|(method, _)| NO_REQUESTS.iter().any(|(name, _)| name == method));
    assert_eq!(others.len(), NO_REQUESTS.len());
    assert!(changes.len() >= 14, "{changes:?}");
    for (method, fields) in &changes {
        for field in ["request_id", "validate_only"] {
            assert!(fields.iter().any(|f| f == field), "{method} has no {field}");
        }
        let has_etag = fields.iter().any(|f| f == "etag");
        // What is made has no etag yet, and a member is named by its disk.
        let is_new = [
            "/CreateModel",
            "/CreateRole",
            "/CreateExperiment",
            "/CreateRegion",
            "/RemoveMember",
        ]
        .iter()
        .any(|name| method.contains(name));
        assert_eq!(has_etag, !is_new, "{method}");
        let is_of_role = method.starts_with("PrimaryService/") && !is_new;
        assert_eq!(
            fields.iter().any(|f| f == "expected_epoch"),
            is_of_role,
            "{method}"
        );
    }
    // What is read says how fresh it must be.
    for (method, fields) in requests
        .iter()
        .filter(|(method, _)| is_read(method) && !method.starts_with("AgentService/"))
    {
        let is_own_view = ["ClusterService/GetStatus", "WatchService/Watch"].contains(&method.as_str());
        assert_eq!(fields.iter().any(|f| f == "read"), !is_own_view, "{method}");
    }
}

/// Answers without the header that says of which cluster and revision they are, and why.
const NO_HEADER: [(&str, &str); 6] = [
    (
        "ClusterService/SaveSnapshot",
        "the first message of the stream has it, in what it says of the file; the others are the file's bytes",
    ),
    (
        "SessionService/Session",
        "the first message of the stream says cluster and revision; the others acknowledge heartbeats, and read nothing",
    ),
    (
        "AgentService/GetAgentStatus",
        "an agent has no state of the cluster to read from; what it was told last stands in the answer, with cluster and revision",
    ),
    ("AgentService/GetToken", "as above; the token names its cluster"),
    (
        "AgentService/ServeVersion",
        "as above; the answer is the door's own floor",
    ),
    (
        "AgentService/ReadPointer",
        "as above; what a store says, which names its cluster",
    ),
];

/// Each message by its full name, with its fields as NAME TYPE.
fn messages_of_the_descriptors() -> std::collections::BTreeMap<String, Vec<String>> {
    let set: FileDescriptorSet = prost::Message::decode(proto::FILE_DESCRIPTOR_SET).unwrap();
    let mut messages = std::collections::BTreeMap::new();
    for file in &set.file {
        for message in &file.message_type {
            let fields = message
                .field
                .iter()
                .map(|f| format!("{} {}", f.name(), f.type_name()));
            let name = format!(".{}.{}", file.package(), message.name());
            messages.insert(name, fields.map(|f| f.trim().to_owned()).collect());
        }
    }
    messages
}

/// I2: who reads, or has something changed, is told of which revision the answer is, and how old it may be.
#[test]
fn every_answer_says_of_which_cluster_and_revision_it_is() {
    const HEADER: &str = "header .regent.v1.ResponseHeader";
    let set: FileDescriptorSet = prost::Message::decode(proto::FILE_DESCRIPTOR_SET).unwrap();
    let messages = messages_of_the_descriptors();
    let says = |message: &str, field: &str| messages[message].iter().any(|f| f == field);
    let mut without = Vec::new();
    for service in set.file.iter().flat_map(|file| &file.service) {
        let silent = service.method.iter().filter(|m| !says(m.output_type(), HEADER));
        without.extend(silent.map(|m| format!("{}/{}", service.name(), m.name())));
    }
    without.sort();
    let mut exempt = NO_HEADER.map(|(method, _)| method);
    exempt.sort_unstable();
    assert_eq!(without, exempt);
    // What the reasons say.
    assert!(says(".regent.v1.SavedSnapshot", HEADER));
    for field in ["cluster_id", "revision"] {
        for message in ["Welcome", "GetAgentStatusResponse"] {
            assert!(
                says(&format!(".regent.v1.{message}"), field),
                "{message}: {field}"
            );
        }
    }
    assert!(says(".regent.v1.FencingToken", "cluster_id"));
    for message in ["GetTokenResponse", "Pointer"] {
        let token = "token .regent.v1.FencingToken";
        assert!(says(&format!(".regent.v1.{message}"), token), "{message}");
    }
}

#[test]
fn an_unlisted_method_is_refused_for_everybody() {
    let coordinator: Principal = "spiffe://regent.local/region/r1/coordinator/c1".parse().unwrap();
    for principal in [user("admin"), agent("r1", "a1"), coordinator] {
        let refused = authz::check("/regent.v1.RegistryService/DropEverything", &principal).unwrap_err();
        assert_eq!(refused.reason, Reason::PermissionDenied);
    }
}

/// Rows: method, then whether a user, an agent and a coordinator may call it.
#[test]
fn each_kind_of_caller_has_its_methods() {
    let rows = [
        ("RegistryService/CreateVersion", [true, false, false]),
        ("RegistryService/SetModelTags", [true, true, false]),
        ("RegistryService/ReportReplica", [false, true, false]),
        ("RegistryService/ListModels", [true, true, true]),
        ("PrimaryService/Switchover", [true, false, false]),
        ("PrimaryService/RenewLease", [false, true, false]),
        ("ClusterService/Join", [false, false, true]),
        ("ClusterService/SetTiming", [true, false, false]),
        ("ClusterService/SetElectionTiming", [true, false, false]),
        ("ClusterService/SetLeaderPreference", [true, false, false]),
        ("ClusterService/RecordRebind", [true, false, false]),
        ("SessionService/Session", [false, true, false]),
        ("RegionService/CreateRegion", [true, false, false]),
        ("RegionService/DeleteRegion", [true, false, false]),
        ("RegionService/RemoveNode", [true, false, false]),
    ];
    let coordinator: Principal = "spiffe://regent.local/region/r1/coordinator/c1".parse().unwrap();
    let callers = [user("admin"), agent("r1", "a1"), coordinator];
    for (method, allowed) in rows {
        for (caller, allowed) in callers.iter().zip(allowed) {
            let checked = authz::check(&format!("/regent.v1.{method}"), caller);
            assert_eq!(checked.is_ok(), allowed, "{method} by {caller}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_reach_the_caller_with_their_operands() {
    let cluster = Cluster::start(1).await;
    let agent = cluster.client(&agent("r1", "a1"));
    let refused = agent
        .create_model(&"m".parse().unwrap(), "", Default::default(), &Default::default())
        .await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.reason, Reason::PermissionDenied);
    assert_eq!(
        refused.operand("actor"),
        Some("spiffe://regent.local/region/r1/node/a1")
    );

    // An agent reports for its own region only.
    let key = types::replica::ReplicaKey {
        version: "m@1".parse().unwrap(),
        region: region("r2"),
    };
    let started = client::calls::ReplicaReport::Started { source: None };
    let refused = agent.report_replica(&key, &started).await.unwrap_err();
    assert_eq!(refused.reason, Reason::PermissionDenied);
    cluster.shutdown().await;
}

/// The version of TLS that a server agrees to, with a client that offers `versions` and shows a good certificate.
fn agreed(
    address: std::net::SocketAddr,
    files: &client::TlsFiles,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> std::io::Result<Option<rustls::ProtocolVersion>> {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(&files.ca_file).unwrap())
        .unwrap();
    let certificate = CertificateDer::from_pem_file(&files.cert_file).unwrap();
    let key = PrivateKeyDer::from_pem_file(&files.key_file).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let mut connection =
        rustls::ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    let mut socket = std::net::TcpStream::connect(address)?;
    socket.set_read_timeout(Some(crate::harness::PATIENCE))?;
    while connection.is_handshaking() {
        connection.complete_io(&mut socket)?;
    }
    Ok(connection.protocol_version())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_port_speaks_an_older_tls_than_1_3() {
    let cluster = Cluster::start(1).await;
    let files = cluster
        .certs
        .issue("spiffe://regent.local/region/r9/coordinator/c9");
    let listen = cluster.nodes[0].config.data_dir.join("listen.json");
    let ports = coordinator::listen::read(&listen).unwrap();
    for port in [ports.api.unwrap(), ports.raft.unwrap()] {
        let files = files.clone();
        let tried = tokio::task::spawn_blocking(move || {
            let old = agreed(port, &files, &[&rustls::version::TLS12]);
            (old, agreed(port, &files, rustls::ALL_VERSIONS).unwrap())
        });
        let (old, new) = tried.await.unwrap();
        let refused = old.unwrap_err().to_string();
        assert!(refused.contains("ProtocolVersion"), "{refused}");
        assert_eq!(new, Some(rustls::ProtocolVersion::TLSv1_3));
    }
    cluster.shutdown().await;
}

/// A coordinator that took over another one's address, with a good certificate of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn raft_is_spoken_to_the_coordinator_that_was_meant_and_to_nobody_else() {
    let cluster = Cluster::start(1).await;
    let config = &cluster.nodes[0].config;
    let ports = coordinator::listen::read(&config.data_dir.join("listen.json")).unwrap();
    let tls = coordinator::tls::Tls::load(&config.tls).unwrap();
    let vote = async |node: &str| {
        let peer = Peer {
            node: node.parse().unwrap(),
            region: region("r1"),
            raft_endpoint: format!("https://{}", ports.raft.unwrap()),
            api_endpoint: String::new(),
            disk: None,
            witness: false,
        };
        let endpoint = Endpoint::from_shared(peer.raft_endpoint.clone()).unwrap();
        let channel = tls.dial(&peer, endpoint).unwrap();
        let answer = RaftServiceClient::new(channel)
            .vote(raft_v1::VoteRequest::default())
            .await;
        let status = answer.unwrap_err();
        let chain = std::iter::successors(std::error::Error::source(&status), |e| e.source());
        (
            status.code(),
            chain.map(|e| e.to_string()).collect::<Vec<_>>().join(": "),
        )
    };
    let (code, cause) = vote("c1").await;
    assert_ne!(code, tonic::Code::Unavailable, "it was reached: {cause}");
    let (code, cause) = vote("c2").await;
    assert_eq!(code, tonic::Code::Unavailable);
    assert!(
        cause.contains(
            "coordinator c2 was called, and spiffe://regent.local/region/r1/coordinator/c1 answered"
        ),
        "{cause}"
    );
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_gets_in_without_a_certificate_of_this_ca_that_names_one_principal() {
    let cluster = Cluster::start(1).await;
    let dir = tempfile::tempdir().unwrap();
    let strangers = Certs::new(dir.path());
    let list = async |config| {
        let endpoint = Endpoint::from_shared(cluster.nodes[0].endpoint.clone()).unwrap();
        let channel = endpoint.tls_config(config).unwrap().connect_lazy();
        RegistryServiceClient::new(channel)
            .list_models(pb::ListModelsRequest::default())
            .await
    };
    let own = cluster.certs.issue("spiffe://regent.local/user/admin");
    assert!(list(tls(&own)).await.is_ok());

    let mut foreign = strangers.issue("spiffe://regent.local/user/admin");
    foreign.ca_file.clone_from(&own.ca_file);
    assert!(list(tls(&foreign)).await.is_err(), "a certificate of another CA");
    let anonymous = tonic::transport::ClientTlsConfig::new().ca_certificate(
        tonic::transport::Certificate::from_pem(std::fs::read(&own.ca_file).unwrap()),
    );
    assert!(list(anonymous).await.is_err(), "no certificate at all");
    let nobody = cluster.certs.issue("spiffe://elsewhere.example/user/admin");
    let status = list(tls(&nobody)).await.unwrap_err();
    assert_eq!(
        proto::convert::status::from_status(&status).reason,
        Reason::PermissionDenied
    );
    cluster.shutdown().await;
}
