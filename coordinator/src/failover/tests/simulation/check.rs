//! The oracle: it sees true time and everybody's state, keeps its own records of what was granted and accepted, and says which
//! invariant a history broke. It shares no code with the rules that it judges.

mod reckoning;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use policy::fence::Floor;
use state::{Applied, Command, ControlState, Entry};
use types::{
    Epoch, FencingToken, Holder, RoleName,
    plan::PlanState,
    region::{Health, NodeStatus},
};

use super::time::{At, MS};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum DoorId {
    Store(usize),
    Agent(usize),
}

/// For how long an agent's door may go by an answer, on a clock that is a tenth slow.
const TRUSTED: At = 2_500 * MS * 10 / 9;

/// A promise that a history broke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Broken {
    /// Which one, always in the same words.
    pub(super) promise: &'static str,
    pub(super) what: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.promise, self.what)
    }
}

/// A renewal that some leader granted.
struct Granted {
    epoch: Epoch,
    ttl: Duration,
    /// Until when its holder may believe in it, in true time.
    end: At,
    /// When the leader decided it.
    decided: At,
}

/// A renewal that was asked for.
pub(super) struct Asking {
    pub(super) received: At,
    /// The term of whoever received it then.
    pub(super) then: u64,
    /// The term of whoever answers it.
    pub(super) term: u64,
}

#[derive(Default)]
pub(super) struct Oracle {
    pub(super) broken: Option<Broken>,
    /// Who was committed as the holder of each epoch.
    holders: BTreeMap<Epoch, Option<Holder>>,
    /// To whom each epoch was promised by a fence.
    promised: BTreeMap<Epoch, Holder>,
    /// When each epoch was over.
    ended: BTreeMap<Epoch, At>,
    /// Each term with its leader, and the time at which a majority had voted for it.
    elections: Vec<(u64, usize, At)>,
    grants: Vec<Granted>,
    stopped: BTreeMap<Epoch, At>,
    /// Which epochs the leader of which term took for released.
    released: BTreeSet<(u64, Epoch)>,
    /// The highest token that each door accepted or was shown.
    doors: BTreeMap<DoorId, (Epoch, Option<Holder>)>,
    /// Whether the entry at each index took effect.
    pub(super) outcomes: BTreeMap<usize, bool>,
}

impl Oracle {
    /// The first is told: what comes after it may only follow from it.
    pub(super) fn fail(&mut self, promise: &'static str, what: String) {
        self.broken.get_or_insert(Broken { promise, what });
    }

    /// A majority voted for a coordinator in a term.
    pub(super) fn elected(&mut self, term: u64, who: usize, now: At) {
        if let Some((_, other, _)) = self.elections.iter().find(|(known, ..)| *known == term) {
            let text = format!("c{other} and c{who} lead in term {term}");
            return self.fail("consensus: one leader in a term", text);
        }
        self.elections.push((term, who, now));
    }

    /// Whether a later term had its majority by then.
    pub(super) fn is_deposed(&self, term: u64, by: At) -> bool {
        self.elections
            .iter()
            .any(|(later, _, at)| *later > term && *at <= by)
    }

    /// A leader of `term` granted a renewal that it received at `received`; its holder may believe in it until `end`.
    pub(super) fn granted(&mut self, token: &FencingToken, ttl: Duration, end: At, asked: Asking, now: At) {
        let Asking { received, term, then } = asked;
        if then != term {
            let text = format!("{token} came in under term {then}, and is extended under {term}");
            self.fail("L7 another leadership answers nothing", text);
        }
        if self.released.contains(&(term, token.epoch)) {
            self.fail("L11 what was released is granted no more", token.to_string());
        }
        if self.is_deposed(term, received) {
            let text = format!(
                "the leader of term {term} extends {token} for a request that came after another was elected"
            );
            self.fail("L7 a deposed leader extends no lease", text);
        }
        if self.holders.get(&token.epoch) != Some(&Some(token.holder.clone())) {
            self.fail(
                "I4 only the committed holder is granted a lease",
                token.to_string(),
            );
        }
        let stopped = |epoch| self.stopped.get(epoch).copied().unwrap_or(At::MAX);
        let own_end = end.min(stopped(&token.epoch));
        for other in &self.grants {
            let other_end = other.end.min(stopped(&other.epoch));
            let early = (other.epoch < token.epoch && other_end > now)
                || (other.epoch > token.epoch && own_end > other.decided);
            if early {
                let text = format!(
                    "{token} is granted at {now} until {own_end}, and {} was at {} until {other_end}",
                    other.epoch, other.decided
                );
                return self.fail("L8 no grant while another may be believed in", text);
            }
        }
        let (epoch, decided) = (token.epoch, now);
        self.grants.push(Granted {
            epoch,
            ttl,
            end,
            decided,
        });
    }

    /// Whether an epoch was granted to more than once.
    pub(super) fn was_granted(&self, epoch: Epoch) -> bool {
        self.grants.iter().filter(|g| g.epoch == epoch).count() > 1
    }

    /// A holder stopped acting under an epoch, for ever, and says so from now on.
    pub(super) fn stopped(&mut self, epoch: Epoch, now: At) {
        self.stopped.entry(epoch).or_insert(now);
    }

    /// Whether a release of the epoch was said.
    pub(super) fn has_stopped(&self, epoch: Epoch) -> bool {
        self.stopped.contains_key(&epoch)
    }

    /// Another process has the disk of this one's door.
    pub(super) fn inherit(&mut self, from: usize, to: usize) {
        if let Some(known) = self.doors.get(&DoorId::Agent(from)).cloned() {
            self.doors.insert(DoorId::Agent(to), known);
        }
    }

    /// A coordinator told a door what is committed.
    pub(super) fn shown(&mut self, door: DoorId, floor: &Floor) {
        let known = self
            .doors
            .entry(door)
            .or_insert_with(|| (floor.epoch, floor.holder.clone()));
        if floor.epoch > known.0 {
            *known = (floor.epoch, floor.holder.clone());
        }
    }

    /// A door let a write through.
    pub(super) fn accepted(&mut self, door: DoorId, token: &FencingToken, claim: bool, now: At) {
        if let Some((epoch, holder)) = self.doors.get(&door) {
            if token.epoch < *epoch {
                let text = format!("{door:?} accepts {token}, and knew of {epoch}");
                return self.fail("I5 a door accepts no older epoch", text);
            }
            if token.epoch == *epoch && holder.as_ref() != Some(&token.holder) {
                let text = format!("{door:?} accepts {token} of {holder:?}");
                return self.fail("I5 a door accepts an epoch from one holder", text);
            }
        }
        if !claim && self.holders.get(&token.epoch) != Some(&Some(token.holder.clone())) {
            let text = format!("{door:?} accepts {token}, which was never committed");
            return self.fail("I4 writes are made under committed epochs", text);
        }
        let asked = now.saturating_sub(TRUSTED);
        if matches!(door, DoorId::Agent(_)) && self.ended.get(&token.epoch).is_some_and(|at| *at < asked) {
            let text =
                format!("{door:?} accepts {token} at {now}, which no quorum called current since {asked}");
            return self.fail("L13 a door goes by no old confirmation", text);
        }
        self.doors.insert(door, (token.epoch, Some(token.holder.clone())));
    }

    /// An entry was committed.
    pub(super) fn applied(
        &mut self,
        before: &ControlState,
        after: &ControlState,
        entry: &Entry,
        applied: &Applied,
        now: At,
    ) {
        let name = RoleName::global();
        let (Some(old), Some(new)) = (before.role(&name), after.role(&name)) else {
            return;
        };
        if new.epoch < old.epoch || (new.epoch == old.epoch && new.holder != old.holder) {
            let text = format!(
                "{} of {:?} after {} of {:?}",
                new.epoch, new.holder, old.epoch, old.holder
            );
            self.fail("I4 every change of holder takes the next epoch", text);
        }
        if new.epoch > old.epoch {
            self.ended.entry(old.epoch).or_insert(now);
        }
        if new.epoch > old.epoch
            && new.holder.is_none()
            && let Some(to) = self.promised.get(&new.epoch)
        {
            let text = format!("{} ends {}, and was promised to {to}", new.epoch, old.epoch);
            self.fail("I4 an epoch is given out once", text);
        }
        self.check_outstanding(after, &name, now);
        let given = new.reservation.iter().map(|r| (r.epoch, &r.target));
        for (epoch, to) in given.chain(new.holder.iter().map(|holder| (new.epoch, holder))) {
            if self.promised.entry(epoch).or_insert_with(|| to.clone()) != to {
                self.fail("I4 an epoch is given out once", format!("{epoch} to {to} too"));
            }
        }
        let known = self
            .holders
            .entry(new.epoch)
            .or_insert_with(|| new.holder.clone());
        if *known != new.holder {
            self.fail("I4 an epoch has one holder", format!("{}", new.epoch));
        }
        if let Some(door) = applied.door.as_ref().filter(|door| door.accepted)
            && (door.shown != old.epoch || old.holder.as_ref() != Some(&door.shown_holder))
        {
            let text = format!("{} of {:?} is current", old.epoch, old.holder);
            self.fail(
                "I5 the registry accepts the committed token alone",
                format!("{door:?}: {text}"),
            );
        }
        if applied.outcome.is_err() {
            return;
        }
        if let Command::StartPlan { expected_epoch, .. } = &entry.command
            && *expected_epoch != old.epoch
        {
            let text = format!("decided at {expected_epoch}, begun at {}", old.epoch);
            self.fail("L9 a plan begins at the epoch that it was decided at", text);
        }
        if let Command::Fence { plan, .. } | Command::Promote { plan, .. } = &entry.command
            && let Some(plan) = before.plan(*plan)
        {
            self.check_target(before, plan, entry);
            self.check_waited(new, old, now);
        }
    }

    /// Nobody is fenced for, and nobody promoted, who is not known able to serve (I8).
    fn check_target(&mut self, before: &ControlState, plan: &types::plan::PlanRecord, entry: &Entry) {
        let target = &plan.target;
        let healthy = before
            .region(&target.region)
            .is_some_and(|r| r.health == Health::Healthy);
        let node = before.node(&target.node);
        let runs = node.is_some_and(|n| n.incarnation == target.incarnation && n.status == NodeStatus::Up);
        if plan.state != PlanState::Running || !healthy || !runs {
            let text = format!(
                "{:?} for {target}: healthy {healthy}, running {runs}",
                entry.command
            );
            self.fail("I8 only a target that can serve", text);
        }
    }
}
