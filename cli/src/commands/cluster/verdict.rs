//! What the answers of the coordinators come to. Pure: who answered what, and how long after the first round.
//!
//! A follower's word is about its leader. Where that one answers us, and not of an earlier term, it speaks for itself: it
//! alone knows how many follow it. Where it does not answer, the follower's word counts if it is about a time after that;
//! else the leader may have died, and the follower will know soon.

use std::{collections::BTreeSet, time::Duration};

use proto::v1::{GetStatusResponse, Member};
use types::{Reason, reason::Refusal, units::format_duration};

use crate::{
    error::{Failure, NOBODY_ANSWERS},
    exit::Exit,
};

/// How it is said that nobody answers, here and by the client library.
const NO_ANSWER: &str = "no coordinator answers";

/// One coordinator's answer, or why there is none.
pub(super) struct Asked {
    pub(super) endpoint: String,
    pub(super) answer: Result<GetStatusResponse, Refusal>,
}

impl Asked {
    /// The member that it is, by where it answers.
    pub(super) fn member<'m>(&self, members: &'m [Member]) -> Option<&'m Member> {
        members.iter().find(|m| m.api_endpoint == self.endpoint)
    }
}

/// The newest answers.
pub(super) struct Round {
    pub(super) asked: Vec<Asked>,
    /// How long after those who do not answer had failed to the others were asked.
    pub(super) after: Duration,
}

impl Round {
    /// Whether asking again can tell more: those who answer are enough to elect a leader, or to confirm the one that they
    /// have; or they are fewer, and still vouch for one that we do not reach.
    pub(super) fn is_open(&self) -> bool {
        let leaderless = self.missing_leader().is_some() || self.is_between_leaders();
        !self.has_quorum() && (self.is_majority() || leaderless && self.is_vouched_for())
    }

    /// Why there is no quorum, if there is none: nobody answers, the leader does not, none is elected, or those who
    /// answer are too few.
    pub(super) fn failure(&self) -> Option<Failure> {
        if self.has_quorum() {
            return None;
        }
        let Some(leader) = self.missing_leader() else {
            return Some(self.without_leader());
        };
        if !self.is_majority() && !self.is_vouched_for() {
            return Some(self.too_few());
        }
        let message = format!("the leader {leader} does not answer; {}", self.election());
        Some(no_quorum(message).remedy(ASK_AGAIN))
    }

    /// The membership as the leader knows it, else as anybody does.
    pub(super) fn members(&self) -> Vec<Member> {
        self.best().map(|s| s.members.clone()).unwrap_or_default()
    }

    /// The cluster of whoever speaks for the rest; `None` where nobody who answers belongs to one yet.
    pub(super) fn cluster_id(&self) -> Option<&str> {
        cluster_of(self.best()?)
    }

    /// Which cluster answered, for people; each endpoint's where they are of several, as after one was restored or
    /// recovered and an old coordinator came back.
    pub(super) fn clusters(&self) -> Option<String> {
        let found: BTreeSet<&str> = self.answers().filter_map(cluster_of).collect();
        if found.len() < 2 {
            return found.first().map(|id| format!("cluster {id}"));
        }
        let each = self.asked.iter().filter_map(|asked| {
            let id = cluster_of(asked.answer.as_ref().ok()?)?;
            Some(format!("  {} is of cluster {id}", asked.endpoint))
        });
        let heading =
            "these endpoints are of different clusters; keep those of one in the context:".to_owned();
        let lines: Vec<String> = std::iter::once(heading).chain(each).collect();
        Some(lines.join("\n"))
    }

    /// The leader's answer, else anybody's; that of a witness, which knows nothing of the state, only where no other is.
    pub(super) fn best(&self) -> Option<&GetStatusResponse> {
        let with_state = || self.answers().filter(|s| !s.witness);
        let leader = with_state().find(|s| s.leader_node == s.node && s.has_quorum);
        leader
            .or_else(|| with_state().next())
            .or_else(|| self.answers().next())
    }

    fn answers(&self) -> impl Iterator<Item = &GetStatusResponse> {
        self.asked.iter().filter_map(|a| a.answer.as_ref().ok())
    }

    fn has_quorum(&self) -> bool {
        self.answers()
            .any(|status| self.vouches(status) && self.is_news(status))
    }

    fn is_vouched_for(&self) -> bool {
        self.answers().any(|status| self.vouches(status))
    }

    /// Whether it says that there is a quorum, and the leader that it means did not answer itself, in that term or a later
    /// one.
    fn vouches(&self, status: &GetStatusResponse) -> bool {
        let corrects_it = |leader: &GetStatusResponse| {
            leader.node == status.leader_node && leader.node != status.node && leader.term >= status.term
        };
        status.has_quorum && !self.answers().any(corrects_it)
    }

    /// Whether what it says of its leader is about now, as far as we know of that leader.
    fn is_news(&self, status: &GetStatusResponse) -> bool {
        let silent = status.leader_silent_millis.map(Duration::from_millis);
        !self.is_missing(&status.leader_api_endpoint) || silent.is_some_and(|silent| silent < self.after)
    }

    fn is_missing(&self, leader: &str) -> bool {
        self.asked
            .iter()
            .any(|a| a.endpoint == leader && a.answer.is_err())
    }

    /// The leader that the newest answer names, if it was asked and does not answer.
    fn missing_leader(&self) -> Option<String> {
        let newest = self.newest()?;
        if !self.is_missing(&newest.leader_api_endpoint) {
            return None;
        }
        let member = newest.members.iter().find(|m| m.node == newest.leader_node);
        let named = member.map(|m| format!("{}/{}", m.region, m.node));
        Some(named.unwrap_or_else(|| newest.leader_node.clone()))
    }

    fn is_between_leaders(&self) -> bool {
        self.newest().is_some_and(|newest| newest.leader_node.is_empty())
    }

    /// Of the highest term; of two of one term, one that knows its leader.
    fn newest(&self) -> Option<&GetStatusResponse> {
        self.answers()
            .max_by_key(|status| (status.term, !status.leader_node.is_empty()))
    }

    fn is_majority(&self) -> bool {
        self.answers().count() * 2 > self.asked.len()
    }

    /// When those who answer will campaign.
    fn election(&self) -> String {
        let due = self.answers().filter_map(|s| s.election_due_millis).min();
        match due.filter(|due| *due > 0) {
            Some(due) => format!(
                "an election is due within {}",
                format_duration(Duration::from_millis(due))
            ),
            None => "an election is due".to_owned(),
        }
    }

    fn without_leader(&self) -> Failure {
        if self.answers().next().is_none() {
            return self.nobody();
        }
        if !self.is_between_leaders() || !self.is_majority() {
            return self.too_few();
        }
        let message = format!("no leader is elected yet: {}", self.how_many());
        no_quorum(message).remedy(ASK_AGAIN)
    }

    fn nobody(&self) -> Failure {
        let refusals = self.asked.iter().filter_map(|a| a.answer.as_ref().err());
        let each: Vec<&str> = refusals.map(|refusal| refusal.message.as_str()).collect();
        let message = match each.as_slice() {
            // Nobody told whom else to ask.
            [only] if only.starts_with(NO_ANSWER) => (*only).to_owned(),
            _ => format!("{NO_ANSWER}: {}", each.join("; ")),
        };
        Failure::new(Exit::Unavailable, message).remedy(NOBODY_ANSWERS)
    }

    fn too_few(&self) -> Failure {
        let message = format!("no coordinator has a quorum: {}", self.how_many());
        no_quorum(message).remedy(if self.is_majority() {
            ASK_AGAIN
        } else {
            "start or reach the others: changes need a majority; reads do without one, with --stale"
        })
    }

    fn how_many(&self) -> String {
        format!("{} of {} answer", self.answers().count(), self.asked.len())
    }
}

fn cluster_of(status: &GetStatusResponse) -> Option<&str> {
    let id = status.header.as_ref()?.cluster_id.as_str();
    (!id.is_empty()).then_some(id)
}

fn no_quorum(message: String) -> Failure {
    Failure::new(Exit::Unavailable, message).because(Reason::NoQuorum)
}

/// What helps while an election is due, or was a moment ago.
const ASK_AGAIN: &str =
    "ask again: those who answer are enough to elect a leader; reads do without a leader, with --stale";
