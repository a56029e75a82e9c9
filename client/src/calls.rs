//! One method per call, in a file per resource. Each call has one deadline for all its attempts; the loop that retries is
//! here.

use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU32},
    time::Duration,
};

use proto::{
    convert::{MEANT, status},
    v1 as pb,
};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tonic::{Request, Response, Status, transport::Channel};
use types::{
    ClusterId, RequestId, Revision,
    reason::{Category, Reason, Refusal},
};

use crate::{
    channel::{Channels, ClientConfig},
    reach::reach,
    retry::{self, Next},
    tour::{Heard, Tour},
};

/// Where an answer was read, or what revision a change made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The cluster that answered; part of a watch token (I7).
    pub cluster_id: ClusterId,
    /// The state's revision.
    pub revision: Revision,
    /// For a stale read, how old it may be.
    pub age: Option<Duration>,
    /// A change that was only validated: nothing was done.
    pub validated_only: bool,
}

impl Header {
    pub(crate) fn read(header: Option<pb::ResponseHeader>) -> Result<Self, Refusal> {
        let header = proto::convert::required("header", header)?;
        Ok(Self {
            cluster_id: proto::convert::text("header.cluster_id", &header.cluster_id)?,
            revision: Revision(header.revision),
            age: header.stale.then_some(Duration::from_millis(header.age_millis)),
            validated_only: header.validated_only,
        })
    }

    /// What is true of both answers together.
    fn or_less_fresh(self, other: Self) -> Self {
        Self {
            cluster_id: other.cluster_id,
            revision: self.revision.min(other.revision),
            age: self.age.max(other.age),
            validated_only: self.validated_only || other.validated_only,
        }
    }
}

/// A handle to the cluster; clones share connections.
#[derive(Clone, Debug)]
pub struct Client {
    channels: Arc<Channels>,
    deadline: Duration,
    attempt_timeout: Duration,
    reads: Reads,
    /// The id of every change; none: each gets its own.
    request_id: Option<RequestId>,
    /// Whether an attempt that may have worked is the last.
    unknown_told: bool,
    /// Of every change.
    options: ChangeOptions,
    /// The highest feature level that the cluster was heard to have come to.
    level: Arc<AtomicU32>,
    /// What answers said of themselves, where that is asked for.
    noted: Option<Arc<Mutex<Noted>>>,
}

/// What the answers of one question said of themselves.
#[derive(Clone, Copy, Debug, Default)]
struct Noted {
    /// Of the reads among them.
    least_fresh: Option<Header>,
    /// Of all, changes too.
    last: Option<Header>,
}

/// Whether a call is answered by the leader only, as changes are, or by anyone, as reads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum To {
    Leader,
    /// The leader too, and never again after an attempt that may have worked: it would do it twice.
    LeaderOnce,
    Anyone,
}

impl To {
    /// What a call's end means. A read changes nothing: that nobody answered it is no unknown outcome.
    fn judge(self, refusal: Refusal) -> Refusal {
        match (self, refusal.reason.category()) {
            (Self::Anyone, Category::Unknown) => Refusal {
                reason: Reason::Unreachable,
                ..refusal
            },
            _ => refusal,
        }
    }
}

impl Client {
    /// Reads the identity and prepares channels; connects to nobody yet.
    pub fn new(config: ClientConfig) -> Result<Self, Refusal> {
        Ok(Self {
            channels: Arc::new(Channels::new(&config)?),
            deadline: config.deadline,
            attempt_timeout: config.attempt_timeout,
            reads: Reads::default(),
            request_id: None,
            unknown_told: false,
            options: ChangeOptions::default(),
            level: Arc::default(),
            noted: None,
        })
    }

    /// The same connections with another deadline per call.
    #[must_use]
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        Self {
            deadline,
            attempt_timeout: self.attempt_timeout.min(deadline),
            ..self.clone()
        }
    }

    /// How long a silent coordinator is waited for.
    pub(crate) fn attempt_timeout(&self) -> Duration {
        self.attempt_timeout
    }

    /// The same connections, where a coordinator that is silent for this long is given up for the next one.
    #[must_use]
    pub fn with_attempt_timeout(&self, attempt_timeout: Duration) -> Self {
        Self {
            attempt_timeout: attempt_timeout.min(self.deadline),
            ..self.clone()
        }
    }

    /// The same connections with reads answered from the nearest coordinator's local state, also without a quorum.
    #[must_use]
    pub fn with_stale_reads(&self) -> Self {
        let mut client = self.clone();
        client.reads.allow_stale = true;
        client
    }

    /// The same connections for one change under an id of the caller's: to ask again for one whose outcome was unknown.
    /// The registry answers it once, whatever the number of times that it is asked (I9).
    #[must_use]
    pub fn with_request_id(&self, request_id: RequestId) -> Self {
        Self {
            request_id: Some(request_id),
            ..self.clone()
        }
    }

    /// The same connections for changes whose caller is told at once, by OUTCOME_UNKNOWN, that an attempt may have worked. Else it is
    /// asked again under its request id until somebody answers or the deadline is over, and the answer may be of a record that others
    /// have changed since.
    #[must_use]
    pub fn with_unknown_told(&self) -> Self {
        Self {
            unknown_told: true,
            ..self.clone()
        }
    }

    /// The same connections for one question, of which [`Client::least_fresh`] and [`Client::last_answer`] then say how
    /// fresh its answer is.
    #[must_use]
    pub fn with_answers_noted(&self) -> Self {
        Self {
            noted: Some(Arc::default()),
            ..self.clone()
        }
    }

    /// The smallest revision and the greatest age of the answers to reads since [`Client::with_answers_noted`].
    pub fn least_fresh(&self) -> Option<Header> {
        let noted = self.noted.as_ref()?;
        noted.lock().unwrap_or_else(PoisonError::into_inner).least_fresh
    }

    /// What the last answer since [`Client::with_answers_noted`] said, be it to a read or to a change.
    pub fn last_answer(&self) -> Option<Header> {
        let noted = self.noted.as_ref()?;
        noted.lock().unwrap_or_else(PoisonError::into_inner).last
    }

    pub(crate) fn note_change(&self, header: Option<&pb::ResponseHeader>) {
        if let (Some(noted), Ok(header)) = (&self.noted, Header::read(header.cloned())) {
            let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
            noted.last = Some(header);
        }
    }

    pub(crate) fn note(&self, header: Option<&pb::ResponseHeader>) {
        let (Some(noted), Ok(header)) = (&self.noted, Header::read(header.cloned())) else {
            return;
        };
        let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
        let before = noted.least_fresh;
        noted.least_fresh = Some(before.map_or(header, |before| before.or_less_fresh(header)));
        noted.last = Some(header);
    }

    pub(crate) fn check_fresh(&self, header: Option<&pb::ResponseHeader>) -> Result<(), Refusal> {
        self.reads.check(header)
    }

    /// From now on, for every clone, only coordinators of this cluster may answer; of the others it is only asked how they are.
    pub fn belong_to(&self, cluster: ClusterId) {
        self.channels.belong_to(cluster);
    }

    /// The cluster that this client belongs to; none: whichever answers.
    pub fn cluster(&self) -> Option<ClusterId> {
        self.channels.cluster()
    }

    /// Waits until a coordinator of another cluster than the own one has answered; at once where one has since this was awaited last.
    pub async fn met_stranger(&self) {
        self.channels.met_stranger.notified().await;
    }

    pub(crate) fn channels(&self) -> &Channels {
        &self.channels
    }

    fn read_options(&self) -> Option<pb::ReadOptions> {
        Some(self.reads.options())
    }

    /// Sends `message` until an answer is final or the deadline is over. The only loop that retries.
    async fn call<M, T, F, R>(&self, to: To, message: M, send: F) -> Result<T, Refusal>
    where
        M: Clone,
        F: Fn(Channel, Request<M>) -> R,
        R: Future<Output = Result<Response<T>, Status>>,
    {
        let end = Instant::now() + self.deadline;
        if self.channels.is_first_use() && self.channels.count() > 1 {
            let limit = self.attempt_timeout.min(self.deadline / 2);
            // In vain or not: the call itself comes to the same end.
            let _ = timeout(limit, reach(&self.channels, limit)).await;
        }
        let by_leader = to != To::Anyone;
        let mut tour = Tour::new(&self.channels, by_leader);
        let (mut attempt, mut hints, mut any_unknown) = (0_u32, 0_u32, false);
        let mut last = None;
        while Instant::now() < end && !tour.is_vain() {
            let (endpoint, channel) = tour.next()?;
            let until = end.min(Instant::now() + self.attempt_timeout);
            let mut request = Request::new(message.clone());
            request.set_timeout(until.saturating_duration_since(Instant::now()));
            self.channels.name_cluster(request.metadata_mut());
            let (heard, refusal) = match attempt_at(&endpoint, until, send(channel, request)).await {
                Ok(answer) => {
                    tour.heard(&endpoint, Heard::Answer);
                    if by_leader {
                        self.channels.set_leader(&endpoint);
                    }
                    return Ok(answer);
                }
                Err((heard, refusal)) => (heard, to.judge(refusal)),
            };
            tour.heard(&endpoint, heard.clone());
            if refusal.operand(MEANT).is_some() {
                self.channels.stranger(&endpoint);
            }
            let is_unknown = refusal.reason.category() == Category::Unknown;
            if is_unknown && (to == To::LeaderOnce || self.unknown_told && to == To::Leader) {
                return Err(refusal);
            }
            any_unknown |= is_unknown;
            match retry::next(attempt, hints, &refusal) {
                Next::Stop => return Err(refusal),
                Next::AskLeader(leader) => {
                    tour.hint(leader);
                    hints += 1;
                }
                Next::AskAgain { wait } => {
                    tour.hint(endpoint);
                    (hints, attempt) = (0, attempt + 1);
                    sleep(retry::jittered(wait).min(end.saturating_duration_since(Instant::now()))).await;
                    if end.saturating_duration_since(Instant::now()) < AGAIN_WORTH {
                        last = Some(refusal);
                        break;
                    }
                }
                Next::AskNext { wait } => {
                    self.channels.forget_leader(&endpoint);
                    hints = 0;
                    if !tour.goes_on_at_once(&heard) {
                        attempt += 1;
                        let wait = retry::jittered(wait).min(end.saturating_duration_since(Instant::now()));
                        sleep(wait).await;
                    }
                }
            }
            // What somebody said explains more than that others said nothing.
            if heard == Heard::Answer || !tour.is_answered() || last.is_none() {
                last = Some(refusal);
            }
        }
        let refusal = to.judge(retry::out_of_time(last, any_unknown, self.deadline));
        Err(tour.end(refusal, self.deadline))
    }
}

/// One attempt at one coordinator: its answer, or what was heard instead and what that means.
async fn attempt_at<T>(
    endpoint: &str,
    until: Instant,
    answer: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, (Heard, Refusal)> {
    match timeout_at(until, answer).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => match Heard::of(&status) {
            Heard::Distrust(why) => {
                let refusal = Refusal::new(Reason::Unreachable, format!("{endpoint} {why}"));
                Err((Heard::Distrust(why), refusal))
            }
            heard => Err((heard, status::from_status(&status))),
        },
        Err(_) => {
            let message = format!("{endpoint} did not answer in time");
            Err((Heard::Nothing, Refusal::new(Reason::OutcomeUnknown, message)))
        }
    }
}

/// Writes one method body: build the request, send it, read the answer. A `Change` goes to the leader under its request
/// id, and an unknown outcome says under which. Of each it is noted how fresh its answer is.
macro_rules! send {
    ($self:ident, Change, $service:ident :: $method:ident, $message:expr) => {{
        let message = $message;
        let request_id = message.request_id.clone();
        send!($self, Leader, $service::$method, message)
            .inspect(|answer| $self.note_change(answer.header.as_ref()))
            .and_then(|answer| $self.check_validated(answer.header.as_ref()).map(|()| answer))
            .map_err(|refusal| $crate::retry::name_request(refusal, &request_id))
    }};
    ($self:ident, Anyone, $service:ident :: $method:ident, $message:expr) => {
        send!($self, To Anyone, $service::$method, $message)
            .inspect(|answer| $self.note(answer.header.as_ref()))
            .and_then(|answer| $self.check_fresh(answer.header.as_ref()).map(|()| answer))
    };
    ($self:ident, Leader, $service:ident :: $method:ident, $message:expr) => {
        send!($self, To Leader, $service::$method, $message)
    };
    ($self:ident, To $to:ident, $service:ident :: $method:ident, $message:expr) => {
        $self
            .call($crate::calls::To::$to, $message, |channel, request| async move {
                $service::new(channel)
                    .max_decoding_message_size($crate::calls::MAX_MESSAGE)
                    .$method(request)
                    .await
            })
            .await
    };
}

/// Less time than this is not worth another try at a leader that said "not yet": the caller asks anew.
const AGAIN_WORTH: Duration = Duration::from_millis(20);

/// Largest message that is read: lists and watches are cut far below it.
pub(crate) const MAX_MESSAGE: usize = 16 << 20;

// Below the macro, which they are written with.
mod aliases;
mod cluster;
mod experiments;
mod history;
mod leases;
mod models;
mod options;
mod pages;
mod plans;
mod preferences;
mod regions;
mod replicas;
mod roles;
mod services;
mod snapshots;
mod versions;

use self::options::Reads;
pub use cluster::{LeadershipTransfer, RemoveMember};
pub use experiments::Assigned;
pub use leases::{FenceStanding, Renewal};
pub use options::ChangeOptions;
pub use regions::RegionChange;
pub use replicas::ReplicaReport;
pub use services::Offer;
pub use snapshots::SnapshotDownload;
