//! What a request was answered first, and by which it is known again.

use types::{Digest, DiskId, NodeId, Principal, RequestId, UnixMillis, plan::PlanRecord};

use crate::{
    codec,
    command::{Command, Entry, Expects},
    rejection::Rejection,
    reply::Reply,
    state::ControlState,
};

impl ControlState {
    /// What a request was answered first of which the digest is told ([`crate::Expects::asked`]), if it is remembered; that
    /// the id was another request's, or another caller's, if so.
    pub fn answer_to(
        &self,
        request: RequestId,
        actor: &Principal,
        asked: Digest,
    ) -> Option<Result<Reply, Rejection>> {
        let digest = crate::apply::expects::digest_of(actor, asked);
        self.requests.answer_to(request, digest)
    }
    /// What a request was answered first, if it is remembered. Says nothing of who asked.
    pub fn first_answer(&self, request: RequestId) -> Option<Result<Reply, Rejection>> {
        self.requests.first_answer(request)
    }
    /// Whether a request was answered first by taking out a disk of this coordinator's name that is not `other`.
    pub fn took_out(
        &self,
        request: RequestId,
        actor: &Principal,
        node: &NodeId,
        other: Option<DiskId>,
    ) -> bool {
        let answered = |disk| self.answer_to_removal(request, actor, node, disk);
        let mut removed = self.removed_coordinators().iter();
        removed.any(|r| r.node == *node && r.disk != other && matches!(answered(r.disk), Some(Ok(_))))
    }
    /// Whether a request was answered first, and that was not about taking out a disk of this coordinator's name, one of these or one
    /// that was taken out, by whoever asks now.
    pub fn asked_for_another(
        &self,
        request: RequestId,
        actor: &Principal,
        node: &NodeId,
        disks: &[Option<DiskId>],
    ) -> bool {
        let removed = self.removed_coordinators().iter().filter(|r| r.node == *node);
        let mut disks = removed.map(|r| r.disk).chain(disks.iter().copied());
        let is_another = |disk| {
            let answer = self.answer_to_removal(request, actor, node, disk);
            matches!(answer, Some(Err(Rejection::RequestReused { .. })))
        };
        disks.all(is_another)
    }
    fn answer_to_removal(
        &self,
        request: RequestId,
        actor: &Principal,
        node: &NodeId,
        disk: Option<DiskId>,
    ) -> Option<Result<Reply, Rejection>> {
        let entry = Entry {
            proposed_at: UnixMillis::default(),
            request_id: request,
            actor: actor.clone(),
            command: Command::RemoveCoordinator {
                node: node.clone(),
                disk,
            },
            expects: Expects::default(),
        };
        self.requests.answer_to(request, codec::request_digest(&entry))
    }
    /// The plan that a request began whose entry did not tell what was asked, because the level did not know of that yet: by its
    /// digest the entry was the plan's, word for word.
    pub fn plan_of_untold(&self, request: RequestId, actor: &Principal) -> Option<&PlanRecord> {
        let Ok(Reply::Plan { plan }) = self.first_answer(request)? else {
            return None;
        };
        let plan = self.plan(plan)?;
        let entry = Entry {
            proposed_at: UnixMillis::default(),
            request_id: request,
            actor: actor.clone(),
            command: Command::StartPlan {
                role: plan.role.clone(),
                kind: plan.kind,
                target: plan.target.clone(),
                trigger: plan.trigger.clone(),
                expected_epoch: plan.from_epoch,
            },
            expects: Expects::default(),
        };
        let answer = self.requests.answer_to(request, codec::request_digest(&entry))?;
        answer.is_ok().then_some(plan)
    }
}
