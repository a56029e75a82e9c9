//! The situations that histories must reach, each at least once over all seeds: a simulation that stops reaching one tests
//! nothing there, and says so.

use std::collections::BTreeMap;

use types::{Reason, reason::Refusal};

/// All of them.
pub(super) const SITUATIONS: &[&str] = &[
    "a change was not proposed after all",
    "a confirmation that is too old carries nothing out",
    "a coordinator applies its log again",
    "a coordinator is elected again",
    "a crash leaves a part of what was not synced",
    "a crash loses a vote or a term that was not synced",
    "a crash loses entries that were not synced",
    "a deposed leader is asked to renew",
    "a door that has read no committed state refuses",
    "a door that was stopped asks again",
    "a failover waits for the lease",
    "a former TTL is waited out",
    "a guarded write is acknowledged",
    "a holder freezes between its look at the lease and its write",
    "a holder hears that its epoch is over",
    "a holder is asked to hand over",
    "a holder releases its lease",
    "a hand-over waits out a silent holder",
    "a late call is refused at an agent's door",
    "a late call meets a door that hears nothing of what is committed",
    "a late write is refused at a store",
    "a late write is refused at the registry",
    "a hand-over was decided, and the holder renewed before it",
    "a leader freezes between its round and its decision",
    "a leader's rounds are answered, and its change is not stored",
    "a leader waits for what earlier leaders granted",
    "a lease runs out at its holder",
    "a lease that ran out is renewed under the same epoch",
    "a person fails a living holder over",
    "a plan fails",
    "a plan goes on under another leader",
    "a race at a store is lost",
    "a release is said again",
    "a renewal comes before its entry and waits",
    "a renewal is not answered by a round that began before it",
    "a renewal is on its way when its epoch is fenced",
    "a renewal of a fenced epoch is refused",
    "a renewal of a released epoch is refused",
    "a renewal of a run that was replaced is refused",
    "a renewal that waited for its entry is granted",
    "a renewal that waited for its entry outlives its leader",
    "a renewal while a change is proposed is refused",
    "a renewal while its holder is asked to stop is refused",
    "a round finds no majority",
    "a run that was replaced comes back",
    "a store that could not be reached is claimed later",
    "a TTL is shortened while a former one ends",
    "a TTL is shortened while a lease of it may be outstanding",
    "a wait counts the TTL before it was shortened",
    "a wall clock jumps by hours",
    "a writer in doubt recognises its own write",
    "an answer comes when nobody waits for it any more",
    "an epoch of another holder is refused at a store",
    "an epoch of another holder is refused at an agent's door",
    "an epoch of another holder is refused at the registry",
    "an epoch that nobody confirms is refused",
    "state time is marked after a wall clock jumped",
    "every coordinator crashes at once",
    "the outcome of a change is unknown",
    "the power fails while a change is on its way to the disks",
    "what a deposed leader proposed is lost",
];

#[derive(Clone, Default)]
pub(super) struct Seen(BTreeMap<&'static str, u64>);

impl Seen {
    pub(super) fn see(&mut self, situation: &'static str) {
        *self.0.entry(situation).or_default() += 1;
    }

    pub(super) fn refused_renewal(&mut self, refusal: &Refusal, changing: bool) {
        match refusal.reason {
            Reason::RoleChanging if changing => self.see("a renewal while a change is proposed is refused"),
            Reason::RoleChanging => self.see("a renewal while its holder is asked to stop is refused"),
            Reason::StaleEpoch => self.see("a renewal of a fenced epoch is refused"),
            Reason::LeaseLost if refusal.message.contains("released") => {
                self.see("a renewal of a released epoch is refused");
            }
            Reason::LeaseLost => self.see("a renewal of a run that was replaced is refused"),
            _ => {}
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (situation, count) in &other.0 {
            *self.0.entry(situation).or_default() += count;
        }
    }

    pub(super) fn count(&self, situation: &str) -> u64 {
        self.0.get(situation).copied().unwrap_or(0)
    }

    /// What was noted and stands on no list.
    pub(super) fn unlisted(&self) -> Vec<&'static str> {
        self.0
            .keys()
            .filter(|s| !SITUATIONS.contains(s))
            .copied()
            .collect()
    }
}
