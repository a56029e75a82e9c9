//! Coordinators that answer, hang, refuse and have no quorum, on real sockets: whom a call asks, how long that takes, and
//! what it says in the end. No test passes or fails
//! by how fast the machine is: what must not be waited for is a minute long.

use std::{
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use proto::{
    convert::status::to_status,
    v1::{self as pb, cluster_service_server},
};
use tempfile::TempDir;
use tokio::{sync::watch, time::Instant};
use tonic::{
    Request, Response, Status,
    transport::{Identity, Server, ServerTlsConfig},
};
use types::{
    reason::{Reason, Refusal},
    role::TimingPolicy,
};

use crate::{Client, ClientConfig, TlsFiles, channel::LAST_FOR};

/// A time limit that none of these tests may reach.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// The CA of a test, with one certificate for everybody: a coordinator's, unless it is said whose.
pub(crate) struct Ca {
    dir: TempDir,
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Ca {
    pub(crate) fn new() -> Self {
        Self::of("spiffe://regent.local/region/eu/coordinator/c1")
    }

    /// One whose certificate ended with that year's beginning.
    fn until(year: i32) -> Self {
        Self::made("spiffe://regent.local/region/eu/coordinator/c1", Some(year))
    }

    fn of(principal: &str) -> Self {
        Self::made(principal, None)
    }

    fn made(principal: &str, until: Option<i32>) -> Self {
        crate::tls13::install();
        let dir = tempfile::tempdir().unwrap();
        let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        let uri = rcgen::SanType::URI(principal.try_into().unwrap());
        params.subject_alt_names.push(uri);
        if let Some(year) = until {
            params.not_after = rcgen::date_time_ymd(year, 1, 1);
        }
        let signing_key = rcgen::KeyPair::generate().unwrap();
        let own = params.self_signed(&signing_key).unwrap();
        let (cert, key) = (own.pem(), signing_key.serialize_pem());
        std::fs::write(dir.path().join("cert.pem"), &cert).unwrap();
        std::fs::write(dir.path().join("key.pem"), &key).unwrap();
        Self { dir, cert, key }
    }

    pub(crate) fn client(
        &self,
        endpoints: &[String],
        deadline: Duration,
        attempt_timeout: Duration,
    ) -> Client {
        let config = ClientConfig {
            deadline,
            attempt_timeout,
            ..ClientConfig::new(endpoints.to_vec(), self.files())
        };
        Client::new(config).unwrap()
    }

    fn files(&self) -> TlsFiles {
        let at = |name| self.dir.path().join(name);
        TlsFiles {
            ca_file: at("cert.pem"),
            cert_file: at("cert.pem"),
            key_file: at("key.pem"),
        }
    }
}

/// How a coordinator of these tests behaves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mood {
    Well,
    WithoutQuorum,
    Hung,
    /// It does what it is asked, and its answer is lost.
    Unheard,
}

/// Changes that a coordinator which leads is asked for until it makes one.
const NOT_YET: usize = 3;

#[derive(Clone)]
struct Coordinator(watch::Receiver<Mood>, String, Arc<Asked>);

/// What says of a coordinator that it is well.
pub(crate) fn well()
-> cluster_service_server::ClusterServiceServer<impl cluster_service_server::ClusterService> {
    let (sender, mood) = watch::channel(Mood::Well);
    // As long as the test.
    std::mem::forget(sender);
    cluster_service_server::ClusterServiceServer::new(Coordinator(mood, String::new(), Arc::default()))
}

/// What was asked of a coordinator.
#[derive(Default)]
struct Asked {
    changes: AtomicUsize,
    transfers: AtomicUsize,
}

impl Coordinator {
    /// Waits as long as it hangs.
    async fn mood(&self) -> Mood {
        let mut mood = self.0.clone();
        *mood.wait_for(|mood| *mood != Mood::Hung).await.unwrap()
    }
}

#[tonic::async_trait]
impl cluster_service_server::ClusterService for Coordinator {
    type SaveSnapshotStream = futures::stream::Empty<Result<pb::SaveSnapshotResponse, Status>>;
    async fn save_snapshot(
        &self,
        _: Request<pb::SaveSnapshotRequest>,
    ) -> Result<Response<Self::SaveSnapshotStream>, Status> {
        Err(Status::unimplemented("save_snapshot"))
    }
    async fn get_status(
        &self,
        _: Request<pb::GetStatusRequest>,
    ) -> Result<Response<pb::GetStatusResponse>, Status> {
        Ok(Response::new(pb::GetStatusResponse {
            has_quorum: self.mood().await == Mood::Well,
            leader_api_endpoint: self.1.clone(),
            ..Default::default()
        }))
    }
    async fn get_settings(
        &self,
        _: Request<pb::GetSettingsRequest>,
    ) -> Result<Response<pb::Settings>, Status> {
        if self.mood().await == Mood::WithoutQuorum {
            let refusal = Refusal::new(Reason::NoQuorum, "no round was confirmed");
            return Err(to_status(&refusal));
        }
        Ok(Response::new(pb::Settings {
            header: Some(pb::ResponseHeader {
                cluster_id: uuid::Uuid::nil().to_string(),
                ..Default::default()
            }),
            timing: Some((&TimingPolicy::fast()).into()),
            ..Default::default()
        }))
    }
    async fn join(&self, _: Request<pb::JoinRequest>) -> Result<Response<pb::JoinResponse>, Status> {
        Err(Status::unimplemented("join"))
    }
    /// As a coordinator that knows none of its fields but to whom.
    async fn transfer_leadership(
        &self,
        request: Request<pb::TransferLeadershipRequest>,
    ) -> Result<Response<pb::TransferLeadershipResponse>, Status> {
        self.2.transfers.fetch_add(1, Ordering::SeqCst);
        match self.mood().await {
            Mood::Unheard => Err(Status::unavailable("the connection broke")),
            _ => Ok(Response::new(pb::TransferLeadershipResponse {
                leader_node: request.into_inner().to_node,
                ..Default::default()
            })),
        }
    }
    async fn remove_member(
        &self,
        _: Request<pb::RemoveMemberRequest>,
    ) -> Result<Response<pb::RemoveMemberResponse>, Status> {
        Err(Status::unimplemented("remove_member"))
    }
    async fn set_election_timing(
        &self,
        _: Request<pb::SetElectionTimingRequest>,
    ) -> Result<Response<pb::Settings>, Status> {
        Err(Status::unimplemented("set_election_timing"))
    }
    async fn set_leader_preference(
        &self,
        _: Request<pb::SetLeaderPreferenceRequest>,
    ) -> Result<Response<pb::Settings>, Status> {
        Err(Status::unimplemented("set_leader_preference"))
    }
    async fn record_rebind(
        &self,
        _: Request<pb::RecordRebindRequest>,
    ) -> Result<Response<pb::Rebinds>, Status> {
        Err(Status::unimplemented("record_rebind"))
    }
    async fn set_timing(&self, _: Request<pb::SetTimingRequest>) -> Result<Response<pb::Settings>, Status> {
        if self.2.changes.fetch_add(1, Ordering::SeqCst) < NOT_YET {
            let refusal = Refusal::new(Reason::RoleChanging, "not yet").with("retry_after_ms", 0);
            return Err(to_status(&refusal));
        }
        self.get_settings(Request::new(pb::GetSettingsRequest::default()))
            .await
    }
}

/// A coordinator that runs as long as this lives.
struct Running {
    endpoint: String,
    mood: watch::Sender<Mood>,
    asked: Arc<Asked>,
}

impl Running {
    fn start(ca: &Ca, mood: Mood) -> Self {
        Self::led_by(ca, mood, "")
    }

    /// One that believes in this leader.
    fn led_by(ca: &Ca, mood: Mood, leader: &str) -> Self {
        let listener = listener();
        let endpoint = url(listener.local_addr().unwrap());
        let (mood, seen) = watch::channel(mood);
        let tls = ServerTlsConfig::new().identity(Identity::from_pem(&ca.cert, &ca.key));
        let mut server = Server::builder().tls_config(tls).unwrap();
        let asked = Arc::new(Asked::default());
        let coordinator = Coordinator(seen.clone(), leader.to_owned(), Arc::clone(&asked));
        let service = cluster_service_server::ClusterServiceServer::new(coordinator);
        listener.set_nonblocking(true).unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let incoming = tonic::transport::server::TcpIncoming::from(listener);
        tokio::spawn(async move {
            let served = server.add_service(service).serve_with_incoming(incoming);
            let mut seen = seen;
            tokio::select! {
                _ = served => {}
                // The sender is gone: the test is over with it.
                _ = async { while seen.changed().await.is_ok() {} } => {}
            }
        });
        Self {
            endpoint,
            mood,
            asked,
        }
    }
}

pub(crate) fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

pub(crate) fn url(address: SocketAddr) -> String {
    format!("https://{address}")
}

/// What a stopped process is to its callers: the kernel takes connections, and nobody ever answers.
fn stopped() -> (TcpListener, String) {
    let listener = listener();
    let endpoint = url(listener.local_addr().unwrap());
    (listener, endpoint)
}

/// An address where nobody listens.
fn nobody() -> String {
    url(listener().local_addr().unwrap())
}

#[tokio::test]
async fn a_hung_coordinator_costs_a_moment_once_and_is_asked_last_from_then_on() {
    let ca = Ca::new();
    let (_hung, hung) = stopped();
    let well = Running::start(&ca, Mood::Well);
    let endpoints = [hung.clone(), well.endpoint.clone()];
    let client = ca.client(&endpoints, LONG, LONG);
    client.timing().await.unwrap();
    assert_eq!(client.channels().order(), [well.endpoint.clone(), hung.clone()]);
    let later = Instant::now() + LAST_FOR;
    assert_eq!(
        client.channels().order_at(later),
        endpoints,
        "it gets another chance"
    );
}

/// A follower does not notice at once that its leader hangs; its word about it would cost a change a whole attempt.
#[tokio::test]
async fn a_leader_is_taken_from_its_follower_unless_it_was_asked_and_is_late() {
    let ca = Ca::new();
    let (_hung, hung) = stopped();
    let follower = Running::led_by(&ca, Mood::Well, &hung);
    let elsewhere = nobody();
    let informed = Running::led_by(&ca, Mood::Well, &elsewhere);
    let client = |endpoints: [&String; 2]| ca.client(&endpoints.map(Clone::clone), LONG, LONG);
    let late = client([&hung, &follower.endpoint]);
    late.timing().await.unwrap();
    assert_eq!(late.channels().leader(), None);
    let known = client([&hung, &informed.endpoint]);
    known.timing().await.unwrap();
    assert_eq!(known.channels().leader(), Some(elsewhere));
}

/// The same in the middle of things: the coordinator that was asked first until now begins to hang.
#[tokio::test]
async fn a_coordinator_that_begins_to_hang_loses_its_place_and_gets_it_back_when_it_answers() {
    let ca = Ca::new();
    let (first, second) = (Running::start(&ca, Mood::Well), Running::start(&ca, Mood::Well));
    let endpoints = [first.endpoint.clone(), second.endpoint.clone()];
    let client = ca.client(&endpoints, LONG, Duration::from_secs(2));
    client.timing().await.unwrap();
    // Whoever is late on a busy machine lost its place already.
    client.channels().ask_in_turn(&first.endpoint);
    first.mood.send_replace(Mood::Hung);
    client.timing().await.unwrap();
    assert_eq!(
        client.channels().order(),
        [second.endpoint.clone(), first.endpoint.clone()]
    );
    first.mood.send_replace(Mood::Well);
    second.mood.send_replace(Mood::WithoutQuorum);
    client.timing().await.unwrap();
    assert_eq!(client.channels().order(), endpoints);
}

#[tokio::test]
async fn refused_connections_are_passed_over_and_cost_no_place() {
    let ca = Ca::new();
    let well = Running::start(&ca, Mood::Well);
    let endpoints = [nobody(), nobody(), well.endpoint.clone()];
    let client = ca.client(&endpoints, LONG, LONG);
    client.timing().await.unwrap();
    client.timing().await.unwrap();
}

#[tokio::test]
async fn where_everybody_refuses_a_call_ends_long_before_its_deadline() {
    let ca = Ca::new();
    for endpoints in [vec![nobody()], vec![nobody(), nobody(), nobody()]] {
        let began = Instant::now();
        let refusal = ca.client(&endpoints, LONG, LONG).timing().await.unwrap_err();
        assert!(began.elapsed() < LONG / 2, "{:?}", began.elapsed());
        assert_eq!(refusal.reason, Reason::Unreachable);
        assert!(
            refusal.message.starts_with("no coordinator answers at https://"),
            "{refusal}"
        );
        assert!(refusal.message.ends_with(": connection refused"), "{refusal}");
        assert_eq!(refusal.operand("heard"), Some("refused connections"));
        assert!(endpoints.iter().all(|e| refusal.message.contains(e)), "{refusal}");
        // Nothing was ever sent, so nothing can have been changed.
        let change = ca
            .client(&endpoints, LONG, LONG)
            .set_timing(&TimingPolicy::fast())
            .await;
        assert_eq!(change.unwrap_err().reason, Reason::Unreachable);
    }
}

#[tokio::test]
async fn silence_is_told_from_refusal_and_from_a_lost_quorum() {
    let ca = Ca::new();
    let (_hung, hung) = stopped();
    let nobody = nobody();
    let client =
        |endpoints: &[String]| ca.client(endpoints, Duration::from_secs(3), Duration::from_millis(700));
    let refusal = client(&[hung.clone(), nobody.clone()])
        .timing()
        .await
        .unwrap_err();
    assert_eq!(refusal.reason, Reason::Unreachable);
    for words in [
        "no final answer within 3s",
        &format!("{hung} is silent"),
        &format!("{nobody} refuses connections"),
    ] {
        assert!(refusal.message.contains(words), "{words:?} is missing: {refusal}");
    }
    // However little time there is, each call asks somebody.
    let all = [hung.clone(), hung.replace("127.0.0.1", "localhost"), hung.clone()];
    let hurried = ca.client(&all, Duration::from_millis(300), Duration::from_secs(2));
    let refusal = hurried.timing().await.unwrap_err();
    assert_eq!(refusal.reason, Reason::Unreachable);
    assert!(
        refusal.message.contains(&format!("{hung} is silent")),
        "{refusal}"
    );
    // A change may have reached the one that says nothing.
    let change = client(std::slice::from_ref(&hung))
        .set_timing(&TimingPolicy::fast())
        .await;
    assert_eq!(change.unwrap_err().reason, Reason::OutcomeUnknown);

    let alone = Running::start(&ca, Mood::WithoutQuorum);
    let refusal = client(&[hung, nobody, alone.endpoint.clone()])
        .timing()
        .await
        .unwrap_err();
    assert_eq!(refusal.reason, Reason::NoQuorum, "{refusal}");
    assert!(refusal.message.contains("no round was confirmed"), "{refusal}");
}

/// Who has no quorum is asked last too: each question to it takes until it gives up.
#[tokio::test]
async fn a_coordinator_without_a_quorum_is_passed_over() {
    let ca = Ca::new();
    let (cut_off, well) = (
        Running::start(&ca, Mood::WithoutQuorum),
        Running::start(&ca, Mood::Well),
    );
    let client = ca.client(&[cut_off.endpoint.clone(), well.endpoint.clone()], LONG, LONG);
    client.timing().await.unwrap();
    assert_eq!(
        client.channels().order(),
        [well.endpoint.clone(), cut_off.endpoint.clone()]
    );
}

/// A neighbour would point back at it, and each detour costs what the answer is waited for (L11).
#[tokio::test]
async fn a_leader_that_says_not_yet_is_asked_again_and_its_neighbour_is_not() {
    let ca = Ca::new();
    let (leader, neighbour) = (Running::start(&ca, Mood::Well), Running::start(&ca, Mood::Well));
    let endpoints = [neighbour.endpoint.clone(), leader.endpoint.clone()];
    let client = ca.client(&endpoints, LONG, LONG);
    client.timing().await.unwrap();
    client.channels().set_leader(&leader.endpoint);
    client.set_timing(&TimingPolicy::fast()).await.unwrap();
    let asked = [&leader, &neighbour].map(|c| c.asked.changes.load(Ordering::SeqCst));
    assert_eq!(asked, [NOT_YET + 1, 0]);
}

/// On one machine everybody has a certificate of the CA for this host; who answers must be a coordinator all the same, or
/// an agent's key could grant leases.
#[tokio::test]
async fn nobody_but_a_coordinator_is_believed() {
    for other in [
        "spiffe://regent.local/user/admin",
        "spiffe://regent.local/region/eu/node/a1",
        "https://example.com/",
    ] {
        let ca = Ca::of(other);
        let impostor = Running::start(&ca, Mood::Well);
        let client = ca.client(std::slice::from_ref(&impostor.endpoint), LONG, LONG);
        let refusal = client.timing().await.unwrap_err();
        assert_eq!(refusal.reason, Reason::Unreachable, "{refusal}");
        assert_eq!(refusal.operand("heard"), Some("distrust"));
        assert!(refusal.message.contains(&impostor.endpoint), "{refusal}");
        assert!(refusal.message.contains("is somebody else"), "{refusal}");
        let named = other.starts_with("spiffe") && refusal.message.contains(other);
        assert!(
            named || refusal.message.contains("names no principal"),
            "{refusal}"
        );
        // Nothing was sent, so nothing can have been changed.
        let change = client.set_timing(&TimingPolicy::fast()).await;
        assert_eq!(change.unwrap_err().reason, Reason::Unreachable);
        assert_eq!(impostor.asked.changes.load(Ordering::SeqCst), 0);
    }
}

/// A stranger among the endpoints costs no call that somebody else can answer, and is no leader for being called one.
#[tokio::test]
async fn a_stranger_among_coordinators_is_passed_over() {
    let ca = Ca::new();
    let stranger = Running::start(&Ca::new(), Mood::Well);
    let well = Running::led_by(&ca, Mood::Well, &stranger.endpoint);
    let client = ca.client(&[stranger.endpoint.clone(), well.endpoint.clone()], LONG, LONG);
    client.timing().await.unwrap();
    let alone = ca.client(std::slice::from_ref(&stranger.endpoint), LONG, LONG);
    let refusal = alone.timing().await.unwrap_err();
    assert!(
        refusal
            .message
            .contains("shows a certificate that is not trusted"),
        "{refusal}"
    );
}

/// Each call would fail in words that blame the endpoint.
#[tokio::test]
async fn a_key_of_another_certificate_is_named_with_both_files() {
    let (ca, other) = (Ca::new(), Ca::new());
    let mut files = ca.files();
    files.key_file = other.files().key_file;
    let refusal = files.load().unwrap_err();
    let said = format!(
        "tls.key_file is {}, which is not the key of tls.cert_file, {}; name a certificate and the key that it was made for",
        files.key_file.display(),
        files.cert_file.display()
    );
    assert!(refusal.message.starts_with(&said), "{refusal}");
    let endpoints = vec![nobody()];
    let refused = Client::new(ClientConfig::new(endpoints, files)).err().unwrap();
    assert_eq!(refused.message, refusal.message);
}

/// Whoever is called refuses it when the connection stands already, and that reads as silence. Nothing ends by it here: a
/// node that starts again with it goes on serving.
#[tokio::test]
async fn a_certificate_of_another_ca_or_of_another_time_is_told_and_can_be_used() {
    let (ca, other) = (Ca::new(), Ca::new());
    assert_eq!(ca.files().load().unwrap().distrust(), None);
    let mut files = ca.files();
    files.ca_file = other.files().ca_file;
    let distrust = files.load().unwrap().distrust().cloned().unwrap();
    assert!(!distrust.is_of_time, "{distrust:?}");
    let said = format!(
        "tls.cert_file is {}, which nobody who trusts tls.ca_file alone would accept now: ",
        files.cert_file.display()
    );
    assert!(
        distrust.explain(&files.cert_file).starts_with(&said),
        "{distrust:?}"
    );

    let over = Ca::until(2020);
    let distrust = over.files().load().unwrap().distrust().cloned().unwrap();
    assert!(
        distrust.is_of_time && distrust.why.contains("expired"),
        "{distrust:?}"
    );
}

/// A coordinator of before level 11 takes the look for the deed.
#[tokio::test]
async fn leadership_of_an_older_cluster_is_not_looked_at_and_handed_over_once() {
    let ca = Ca::new();
    let (first, second) = (Running::start(&ca, Mood::Well), Running::start(&ca, Mood::Well));
    let endpoints = [first.endpoint.clone(), second.endpoint.clone()];
    let client = ca.client(&endpoints, LONG, LONG);
    let transfers = || [&first, &second].map(|c| c.asked.transfers.load(Ordering::SeqCst));
    let to = "c2".parse().unwrap();

    let looked = client.transfer_leadership(Some(&to), true).await.unwrap_err();
    assert_eq!(looked.reason, Reason::FeatureLevel, "{looked}");
    assert_eq!(looked.operand("needs"), Some("11"));
    assert_eq!(transfers(), [0, 0], "nobody handed over");

    let done = client.transfer_leadership(Some(&to), false).await.unwrap();
    assert_eq!((done.from.as_str(), done.leader.as_str()), ("", "c2"));
    assert_eq!(transfers().iter().sum::<usize>(), 1);

    for coordinator in [&first, &second] {
        coordinator.mood.send_replace(Mood::Unheard);
    }
    let lost = client.transfer_leadership(None, false).await.unwrap_err();
    assert_eq!(lost.reason, Reason::OutcomeUnknown, "{lost}");
    assert_eq!(transfers().iter().sum::<usize>(), 2, "nobody was asked again");
}
