//! Whether what leaders and the state say of leases that are outstanding is so.

use state::ControlState;
use types::{Epoch, RoleName, role::RoleRecord};

use super::{super::time::At, Granted, Oracle};

impl Oracle {
    /// The grants that somebody may believe in, running or stopped, whether or not their answers arrived.
    fn believed(&self, now: At) -> impl Iterator<Item = &Granted> {
        let stopped = |epoch: &Epoch| self.stopped.get(epoch).copied().unwrap_or(At::MAX);
        self.grants
            .iter()
            .filter(move |g| g.end.min(stopped(&g.epoch)) > now)
    }

    /// After a promotion nobody may believe in another epoch: a failover waits for that as a step of its plan, a switchover
    /// before its entry is proposed.
    pub(super) fn check_waited(&mut self, new: &RoleRecord, old: &RoleRecord, now: At) {
        if new.holder.is_none() || new.epoch == old.epoch {
            return;
        }
        let text = self.believed(now).find(|g| g.epoch < new.epoch).map(|grant| {
            let (epoch, end) = (grant.epoch, grant.end);
            format!("{} at {now}, and {epoch} is believed in until {end}", new.epoch)
        });
        if let Some(text) = text {
            self.fail("L8 a promotion comes after the lease", text);
        }
    }

    /// The TTL that the state calls outstanding, by which the next leader waits, is no shorter than any that is.
    pub(super) fn check_outstanding(&mut self, after: &ControlState, role: &RoleName, now: At) {
        let said = after.outstanding_ttl(role).unwrap_or_default();
        let longer = self.believed(now).find(|g| g.ttl > said);
        let text =
            longer.map(|g| format!("{} was granted for {:?}, the state says {said:?}", g.epoch, g.ttl));
        if let Some(text) = text {
            self.fail("L8 the state knows of the longest lease", text);
        }
    }

    /// The leader of a term takes an epoch for released: its holder has said so.
    pub(in super::super) fn taken_for_released(&mut self, term: u64, epoch: Epoch) {
        self.released.insert((term, epoch));
        if !self.has_stopped(epoch) {
            let text = format!("{epoch}, of which nobody said so");
            self.fail("L11 an epoch is released by its own holder", text);
        }
    }

    /// The leader of a term takes the role for free: nobody believes in a grant, whoever made it. One that is deposed may be
    /// wrong; nothing comes of it.
    pub(in super::super) fn taken_for_free(&mut self, term: u64, now: At) {
        if self.is_deposed(term, now) {
            return;
        }
        let grant = self.believed(now).next();
        let text = grant.map(|g| format!("at {now}, and {} is believed in until {}", g.epoch, g.end));
        if let Some(text) = text {
            self.fail("L8 a role is free when nobody believes", text);
        }
    }

    /// When the leader of a term was elected.
    pub(in super::super) fn elected_at(&self, term: u64) -> Option<At> {
        let election = self.elections.iter().find(|(known, ..)| *known == term);
        election.map(|(_, _, at)| *at)
    }
}
