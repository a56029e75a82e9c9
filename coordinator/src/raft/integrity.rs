//! Compares the state's hash with the other voters', and stops where nobody knows what is right. The replacement of a state
//! that is wrong is in [`super::mend`].
//!
//! Every replica asks all voters for their hashes at round revisions ([`super::hashes`]) and of now, and judges itself
//! ([`policy::integrity`]): a leader is judged as anyone else. `docs/protocol/integrity.md` says what follows and why.
//! Absent on purpose: any part in what is committed. The log is right; what was made of it here was not.
//! Invariant: a state that differs from a majority's, or may, answers no read and no proposal.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
    time::Duration,
};

use futures::future::join_all;
use policy::integrity::{Integrity, Said, at, weigh};
use proto::raft_v1::{self as pb, raft_service_client::RaftServiceClient};
use state::StateHash;
use tokio::time::{Instant, sleep};
use tonic::transport::Channel;
use tracing::{error, info, warn};
use types::{NodeId, Revision};

use super::{RaftNode, network::Lane};

/// Pause between two comparisons, also where a cluster applies a thousand entries in less.
const PAUSE: Duration = Duration::from_secs(1);
/// How long another voter has to say its hashes.
const ANSWER: Duration = Duration::from_secs(2);
/// How long a leader tries to hand over to one that is right.
const HAND_OVER: Duration = Duration::from_secs(2);
/// How long a node that stops still says its hashes, so that the others see what it saw.
const LINGER: Duration = Duration::from_secs(5);
/// A state that was replaced so often and differs again is not the state's fault.
const REPLACED_MAX: u32 = 3;
/// Of the digits of a hash, as many tell states apart.
const DIGITS: usize = 12;

/// What came of the last comparison in which a majority agreed with this replica.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// At which revision it was.
    pub agreed: Revision,
    /// Voters whose states were others then.
    pub differing: Vec<NodeId>,
}

/// How far comparing has come.
#[derive(Clone, Copy, Debug, Default)]
struct Course {
    /// There is nothing to compare before it.
    agreed: Revision,
    /// How often the state was replaced since.
    replaced: u32,
}

/// Whose state was what at one revision.
pub(super) type Hashes = BTreeMap<NodeId, StateHash>;

impl RaftNode {
    /// Compares, whenever there is something new to compare, until the node stops.
    pub(crate) async fn compare_states(self) {
        let mut progress = self.store().progress();
        let mut course = Course::default();
        loop {
            let seen = *progress.borrow_and_update();
            if course.agreed < seen || self.is_unsettled() {
                match self.compare(course).await {
                    ControlFlow::Continue(next) => course = next,
                    ControlFlow::Break(cause) => return self.stop_because(cause).await,
                }
                sleep(PAUSE).await;
            } else if progress.changed().await.is_err() {
                return;
            }
        }
    }

    /// Whether it is compared again though nothing was applied: somebody is wrong, and will not stay so.
    fn is_unsettled(&self) -> bool {
        self.store().suspicion().is_held() || !self.compared().borrow().differing.is_empty()
    }

    async fn compare(&self, course: Course) -> ControlFlow<String, Course> {
        let voters = self.voters_with_state();
        let own = self.hashes_from(course.agreed);
        let said = self.ask_all(&voters, course.agreed, &own).await;
        let Some((revision, verdict)) = weigh(&own, &said, voters.len()) else {
            return ControlFlow::Continue(course);
        };
        let said = at(&said, revision);
        match verdict {
            Integrity::Open => ControlFlow::Continue(course),
            Integrity::Agrees => {
                ControlFlow::Continue(self.agrees(revision, own.get(&revision), &said).await)
            }
            Integrity::Doubt { rather } => {
                self.doubts(revision, &said, &rather).await;
                ControlFlow::Continue(course)
            }
            Integrity::Differs { majority } => self.differs(course, revision, &said, &majority).await,
            Integrity::NoMajority => ControlFlow::Break(self.no_majority(revision, &said).await),
        }
    }

    /// Voters whose states count, by their names: a witness has none, and is no part of any majority here.
    fn voters_with_state(&self) -> BTreeMap<NodeId, u64> {
        let voters = self.members().into_iter();
        let voters = voters.filter(|m| m.voter && !m.peer.witness);
        voters.map(|m| (m.peer.node, m.raft_id)).collect()
    }

    /// This replica's hashes at round revisions and now, from `least` on.
    pub(super) fn hashes_from(&self, least: Revision) -> BTreeMap<Revision, StateHash> {
        let all = self.store().hashes_and_now().into_iter();
        all.filter(|(at, _)| *at >= least && *at > Revision::default())
            .collect()
    }

    /// What all voters say that answer, this one among them if it votes.
    async fn ask_all(
        &self,
        voters: &BTreeMap<NodeId, u64>,
        from: Revision,
        own: &BTreeMap<Revision, StateHash>,
    ) -> Said<StateHash> {
        let asked = voters.iter().map(|(node, id)| async move {
            let said = match *id == self.own_id() {
                true => own.clone(),
                false => self.ask_one(*id, from).await?,
            };
            Some((node.clone(), said))
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    async fn ask_one(&self, voter: u64, from: Revision) -> Option<BTreeMap<Revision, StateHash>> {
        let request = pb::StateHashesRequest {
            route: Some(self.connections().route(voter)),
            from_revision: from.0,
        };
        let send = async |mut client: RaftServiceClient<Channel>| client.state_hashes(request).await;
        let answer = self
            .connections()
            .call(voter, Lane::Read, ANSWER, send)
            .await
            .ok()?;
        let hash = |h: pb::StateHashAt| {
            Some((
                Revision(h.revision),
                StateHash::from_bytes(h.hash.try_into().ok()?),
            ))
        };
        answer.hashes.into_iter().map(hash).collect()
    }

    async fn agrees(&self, revision: Revision, own: Option<&StateHash>, said: &Hashes) -> Course {
        let others = said.iter().filter(|(_, hash)| Some(*hash) != own);
        let differing: Vec<NodeId> = others.map(|(node, _)| node.clone()).collect();
        let before = self.compared().send_replace(Compared {
            agreed: revision,
            differing: differing.clone(),
        });
        for node in differing.iter().filter(|node| !before.differing.contains(node)) {
            error!(%node, %revision, states = text_of(said), "a coordinator's state differs from the majority's");
            crate::metrics::observe_divergence("other");
        }
        if self.store().suspicion().is_held() {
            self.believe_again(revision).await;
        }
        Course {
            agreed: revision,
            replaced: 0,
        }
    }

    /// A leader does not go on with what it made of another state than the log's: leases that it counts, for one.
    async fn believe_again(&self, revision: Revision) {
        if self.store().suspicion().is_proved() && !self.hands_over(&[]).await {
            return;
        }
        match self.store().believe_again().await {
            Ok(()) => info!(%revision, "this replica's state is the log's; it serves again"),
            Err(error) => {
                warn!(%error, "it cannot be written down that this state is right; it serves nobody yet")
            }
        }
    }

    async fn doubts(&self, revision: Revision, said: &Hashes, rather: &[NodeId]) {
        let states = text_of(said);
        let why = format!(
            "the states at revision {revision} differ ({states}), and too few voters answer to say which is right; this coordinator \
             serves nobody until more do"
        );
        if self.store().suspicion().doubt(why.clone()) {
            error!(%revision, states, "{why}");
            crate::metrics::observe_divergence("doubted");
        }
        if !rather.is_empty() {
            self.hands_over(rather).await;
        }
    }

    async fn differs(
        &self,
        course: Course,
        revision: Revision,
        said: &Hashes,
        majority: &[NodeId],
    ) -> ControlFlow<String, Course> {
        let (states, who) = (text_of(said), names(majority));
        let why = format!("its state at revision {revision} is not that of {who}; it is being replaced");
        let (first, written) = self.store().convict(&why);
        if first {
            error!(%revision, states, majority = who, "this replica's state is not the log's; it serves nobody until it is replaced");
            crate::metrics::observe_divergence("differs");
        }
        if let Err(error) = written {
            warn!(%error, "it cannot be written down that this state is wrong; it would be served after a restart");
        }
        if course.replaced == REPLACED_MAX {
            return ControlFlow::Break(computes_wrongly(&format!(
                "this replica's state was replaced {REPLACED_MAX} times, and differs again at revision {revision} ({states})"
            )));
        }
        self.hands_over(majority).await;
        let right = majority.first().and_then(|node| said.get(node)).copied();
        match self.replace_state(revision, right, majority).await {
            Ok(()) => {
                crate::metrics::observe_divergence("replaced");
                ControlFlow::Continue(Course {
                    agreed: Revision::default(),
                    replaced: course.replaced + 1,
                })
            }
            Err(error) if error.is_of_this_replica() => {
                ControlFlow::Break(computes_wrongly(&error.to_string()))
            }
            Err(error) => {
                warn!(%error, "the state cannot be replaced yet");
                ControlFlow::Continue(course)
            }
        }
    }

    /// Nobody knows what is right: nobody goes on.
    async fn no_majority(&self, revision: Revision, said: &Hashes) -> String {
        let states = text_of(said);
        let cause = format!(
            "no majority of the voters agrees on the state at revision {revision} ({states}): some of them computed wrongly, and nobody \
             can say who; no coordinator serves from such a state. Stop all coordinators, keep their data directories, and go \
             on from the one that is right: docs/protocol/integrity.md, \"Where no majority agrees\""
        );
        error!("{cause}");
        crate::metrics::observe_divergence("no_majority");
        if let (_, Err(error)) = self.store().convict(&cause) {
            warn!(%error, "it cannot be written down that no state is known to be right");
        }
        sleep(LINGER).await;
        cause
    }

    /// Whether this node does not lead, or does not any more. Tries these first, and then whoever is fit.
    async fn hands_over(&self, to: &[NodeId]) -> bool {
        for target in to.iter().cloned().map(Some).chain([None]) {
            if !self.leadership().borrow().is_leader {
                return true;
            }
            if let Err(error) = self.transfer_leadership(target, Instant::now() + HAND_OVER).await {
                warn!(%error, "leadership was not handed over");
            }
        }
        !self.leadership().borrow().is_leader
    }

    async fn stop_because(&self, cause: String) {
        error!(cause, "this coordinator stops");
        self.stopped_with(cause);
        // What it says is known already.
        drop(self.engine().close().await);
    }
}

fn computes_wrongly(what: &str) -> String {
    format!(
        "{what}: this machine or this build computes wrongly. Run the build of the others, or replace the machine: `regent \
         cluster replace`"
    )
}

fn names(nodes: &[NodeId]) -> String {
    nodes.iter().map(NodeId::as_str).collect::<Vec<_>>().join(", ")
}

/// `c0 12ab…, c1 …`: whose state is which.
fn text_of(said: &Hashes) -> String {
    let one = |(node, hash): (&NodeId, &StateHash)| format!("{node} {:.DIGITS$}", hash.to_string());
    let distinct: BTreeSet<_> = said.iter().map(one).collect();
    distinct.into_iter().collect::<Vec<_>>().join(", ")
}
