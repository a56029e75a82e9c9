//! The other side of an announcement: what this node remembers of who calls, and what a caller remembers of this node.

use openraft::{ServerState, async_runtime::WatchReceiver as _};
use policy::standing::{self, Older, Remembered, Shown, Stored};
use proto::raft_v1 as pb;
use types::{
    DiskId, NodeId,
    reason::{Reason, Refusal},
};

use super::{Door, point};
use crate::raft::{
    RaftNode,
    convert::{self, Malformed},
    error::JoinError,
    types::{LogId, Peer},
};

/// The way back of a coordinator that was turned away.
fn way_back(node: &NodeId) -> String {
    format!(
        "`regent cluster replace {node}` takes this disk out of the cluster; then start {node} with an empty data_dir, and it joins \
         anew"
    )
}

impl RaftNode {
    /// Whether a message may reach Raft: not before this node was let in. What its sender remembers of this disk is a voice
    /// for or against that.
    pub(in crate::raft) fn check_let_in(&self, route: &pb::Route) -> Result<(), Refusal> {
        let door = self.admission().door();
        if let Some(heard) = &route.remembered
            && matches!(door, Door::Closed | Door::New)
        {
            let remembered = convert::remembered_in(heard);
            match standing::judge(&self.admission().shown, &remembered) {
                Err(older) => self.turn_away(self.older(route.from, &older.to_string())),
                // Nobody knew it before its first start in this cluster, and now somebody has said so.
                Ok(()) if door == Door::New => self.open(),
                Ok(()) => self.accept(route.from),
            }
        }
        match self.admission().door() {
            Door::New | Door::Open => Ok(()),
            Door::Closed => Err(Refusal::new(
                Reason::ClusterState,
                "this coordinator has just started; it stores nothing and elects nobody before a majority has said that its disk is \
                 not older than they remember",
            )),
            Door::TurnedAway(refusal) => Err(refusal),
        }
    }

    /// Why a disk that is older than `by` remembers is not let in.
    pub(super) fn older(&self, by: u64, why: &str) -> Refusal {
        let node = &self.own_peer().node;
        let by = self
            .membership()
            .get_node(&by)
            .map_or_else(|| by.to_string(), |p| p.node.to_string());
        let text = format!(
            "the data directory of {node} is older than what {by} remembers of it: {why}; what this node voted and acknowledged \
             since is lost; {}",
            way_back(node)
        );
        Refusal::new(Reason::ClusterState, text).with(JoinError::LOST_DISK, node)
    }

    pub(super) fn removed(&self) -> Refusal {
        let node = self.own_peer().node.clone();
        JoinError::Removed { node }.to_refusal()
    }

    /// What this node says to another one's announcement.
    pub(in crate::raft) fn answer_announcement(
        &self,
        message: &pb::AnnounceRequest,
    ) -> Result<pb::AnnounceResponse, Malformed> {
        let (id, peer) = convert::peer_in(message.peer.clone().ok_or_else(|| convert::missing("peer"))?)?;
        let membership = message.membership_log_id.map(convert::log_id_in);
        let own = self
            .admission()
            .acts()
            .then(|| convert::remembered_out(&self.stored_now()));
        let answer = |verdict: pb::Verdict, why: String| pb::AnnounceResponse {
            verdict: verdict.into(),
            why,
            own,
        };
        if self.has_left(id, &peer, membership) {
            return Ok(answer(pb::Verdict::Removed, String::new()));
        }
        let Some(disk) = peer.disk else {
            return Ok(answer(pb::Verdict::Accepted, String::new()));
        };
        self.note_matched();
        if let Err(older) = self.judge(disk, message)? {
            return Ok(answer(pb::Verdict::Older, older.to_string()));
        }
        if let Some(now) = message.now.as_ref().filter(|_| message.let_in) {
            self.memory().learn(disk, convert::remembered_in(now));
        }
        self.find_again(id, peer);
        Ok(answer(pb::Verdict::Accepted, String::new()))
    }

    /// One that was let in goes on from what was judged then: only another start of the same disk speaks against it.
    fn judge(&self, disk: DiskId, message: &pb::AnnounceRequest) -> Result<Result<(), Older>, Malformed> {
        let boot = message.boot.as_ref().ok_or_else(|| convert::missing("boot"))?;
        let shown = Shown {
            boot: convert::boot_in(boot),
            ballot: message.vote.as_ref().map(convert::ballot_in),
            last: message.last_log_id.as_ref().map(convert::point_in),
        };
        let remembered = self.memory().of(disk);
        Ok(match message.let_in {
            true => standing::judge_running(shown.boot, &remembered),
            false => standing::judge(&shown, &remembered),
        })
    }

    /// Whether the sender is no member any more. A committed membership that is later than the one it goes by says so; so
    /// does a removal in the log, which stands behind every membership that it was part of.
    fn has_left(&self, id: u64, peer: &Peer, membership: Option<LogId>) -> bool {
        let metrics = self.raft().server_metrics();
        let now = metrics.borrow_watched();
        let committed = &now.committed_membership_config;
        let same = |known: &Peer| known.disk.is_none() || peer.disk.is_none() || known.disk == peer.disk;
        let member = committed.membership().get_node(&id).is_some_and(same);
        let later = *committed.log_id() > membership;
        !member
            && (later
                || peer
                    .disk
                    .is_some_and(|disk| self.read(|state| state.is_barred(disk))))
    }

    /// A member that moved while this node was down is called where it is now.
    fn find_again(&self, id: u64, peer: Peer) {
        let membership = self.membership();
        if membership
            .get_node(&id)
            .is_some_and(|known| known.node == peer.node)
        {
            self.connections().learn_one(id, &peer);
        }
    }

    /// A leader knows best what the others have stored: they count on each other through it.
    pub(super) fn note_matched(&self) {
        let matched = {
            let metrics = self.raft().metrics();
            let now = metrics.borrow_watched();
            if now.state != ServerState::Leader {
                return;
            }
            let term = now.current_term;
            let replication = now.replication.iter().flatten();
            let stored = replication.filter_map(|(id, matched)| Some((*id, term, (*matched)?)));
            stored.collect::<Vec<_>>()
        };
        let membership = self.membership();
        for (id, term, upto) in matched {
            let disk = membership.get_node(&id).and_then(|peer| peer.disk);
            if let Some(disk) = disk.filter(|_| id != self.own_id()) {
                let stored = Some(Stored {
                    under: term,
                    upto: point(&upto),
                });
                let heard = Remembered {
                    stored,
                    ..Remembered::default()
                };
                self.memory().learn(disk, heard);
            }
        }
    }
}
