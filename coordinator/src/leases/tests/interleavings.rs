//! The lease table by random interleavings of renewals, expiry, fences, promotions, switchovers and elections.

use std::collections::BTreeMap;

use proptest::{prelude::*, strategy::ValueTree as _};

use super::*;

/// One step of a random history.
#[derive(Clone, Debug)]
enum Step {
    /// Time passes.
    Pass(u64),
    /// Some node sends a renewal of what it believes its epoch is.
    Send(u128),
    /// Some node asks for the next epoch before it is committed (L11).
    Expect(u128),
    /// The leader takes in the n-th renewal that is under way, and later decides it.
    Receive(usize),
    Decide(usize),
    /// The n-th answer reaches its holder.
    Answer(usize),
    /// Everything that is under way arrives and is decided.
    Deliver,
    /// A fence is proposed.
    Fence(Fate),
    /// A change that was on its way is applied now.
    Land,
    /// That no lease under an earlier epoch can be outstanding is committed; by a leader for whom that is so.
    Wait,
    /// A promotion of an empty role after that, maybe by another leader; or a switchover, only if nobody can believe any
    /// more.
    Promote(u128, Fate),
    Switch(u128, Fate),
    /// A node stops under every epoch that it was given, and says so.
    Release(u128),
    /// Another leader is elected; what was on its way is in its log, or lost.
    Elect {
        lands: bool,
    },
}

/// What becomes of a proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Applied,
    NotProposed,
    /// Its caller gave up; it is applied later, or never.
    OnItsWay,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![Just(Fate::Applied), Just(Fate::NotProposed), Just(Fate::OnItsWay)]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1u64..700).prop_map(Step::Pass),
        1 => (1500u64..2600).prop_map(Step::Pass),
        4 => (1u128..4).prop_map(Step::Send),
        2 => (1u128..4).prop_map(Step::Expect),
        4 => (0usize..4).prop_map(Step::Receive),
        4 => (0usize..4).prop_map(Step::Decide),
        4 => (0usize..4).prop_map(Step::Answer),
        3 => Just(Step::Deliver),
        1 => fate().prop_map(Step::Fence),
        1 => Just(Step::Land),
        2 => Just(Step::Wait),
        2 => (1u128..4, fate()).prop_map(|(node, fate)| Step::Promote(node, fate)),
        1 => (1u128..4, fate()).prop_map(|(node, fate)| Step::Switch(node, fate)),
        1 => (1u128..4).prop_map(Step::Release),
        1 => any::<bool>().prop_map(|lands| Step::Elect { lands }),
    ]
}

/// What the simulated world is like: one leader's table at a time, one committed role, holders with slow clocks.
struct World {
    now: Instant,
    table: LeaseTable,
    role: RoleRecord,
    /// Sent, not received.
    sent: Vec<(FencingToken, Instant)>,
    /// Received by this leader, not decided.
    received: Vec<(FencingToken, Instant, Instant)>,
    /// Granted, the answer on its way.
    answers: Vec<(FencingToken, Instant)>,
    /// Until when a node believes in an epoch, by the leader's clock.
    beliefs: BTreeMap<(u128, u32), Instant>,
    released: Vec<(u128, u32)>,
    /// How many requests were granted that came before their epoch was committed, after a fence.
    armed: usize,
    /// Epochs that were asked for early and found nobody in the role.
    early: Vec<u32>,
    /// Who was given which epoch.
    held: BTreeMap<u32, u128>,
    /// The epoch to nobody under which the wait was committed.
    waited: Option<u32>,
    /// A change of this epoch, to this holder or nobody, whose proposer gave up waiting.
    on_its_way: Option<(u32, Option<u128>)>,
}

impl World {
    fn new() -> Self {
        let now = Instant::now() + Duration::from_secs(1000);
        Self {
            now,
            table: leading(now),
            role: role(2, Some(holder(1))),
            sent: Vec::new(),
            received: Vec::new(),
            answers: Vec::new(),
            beliefs: BTreeMap::new(),
            released: Vec::new(),
            early: Vec::new(),
            held: BTreeMap::from([(2, 1)]),
            armed: 0,
            waited: None,
            on_its_way: None,
        }
    }

    fn is_free(&self) -> bool {
        self.table
            .free_at(&view(&self.role))
            .is_some_and(|at| self.now >= at)
    }

    /// Proposes a change of the role; what is applied comes after everything that was proposed before it.
    fn propose(&mut self, to: Option<u128>, needs_free: bool, fate: Fate) {
        let (role, now) = (self.role.clone(), self.now);
        let Some(mark) = self.table.begin_change(&view(&role), role.epoch, needs_free, now) else {
            return;
        };
        let change = (self.role.epoch.counter(), to);
        let outcome = match fate {
            Fate::NotProposed => ChangeOutcome::NotProposed,
            Fate::OnItsWay => {
                // One at a time is enough; the driver proposes the same change again until it is over.
                self.on_its_way = self.on_its_way.or(Some(change));
                ChangeOutcome::Unknown
            }
            Fate::Applied => {
                self.land();
                self.apply(change);
                ChangeOutcome::Applied
            }
        };
        self.table.end_change(mark, outcome);
    }

    fn land(&mut self) {
        if let Some(change) = self.on_its_way.take() {
            self.apply(change);
        }
    }

    /// A change of another epoch than the committed one is refused by rule.
    fn apply(&mut self, (epoch, to): (u32, Option<u128>)) {
        if epoch != self.role.epoch.counter() {
            return;
        }
        self.role = role(epoch + 1, to.map(holder));
        if let Some(node) = to {
            self.held.insert(epoch + 1, node);
        }
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Pass(millis) => self.now += ms(millis),
            Step::Send(node) if self.role.holder == Some(holder(node)) => {
                let epoch = self.role.epoch.counter();
                self.sent.push((token(epoch, holder(node)), self.now));
            }
            Step::Expect(node) => {
                let next = self.role.epoch.counter() + 1;
                self.sent.push((token(next, holder(node)), self.now));
            }
            Step::Receive(n) if n < self.sent.len() => {
                let (token, sent) = self.sent.remove(n);
                self.received.push((token, sent, self.now));
            }
            Step::Decide(n) if n < self.received.len() => {
                let (token, sent, received) = self.received.remove(n);
                let role = self.role.clone();
                match self.table.renew(&view(&role), &token, received, self.now) {
                    Ok(_) => {
                        self.armed += usize::from(self.early.contains(&token.epoch.counter()));
                        self.answers.push((token, sent));
                    }
                    // It waits for the entry, and is decided again by the same leader; few do at once.
                    Err(refusal) if refusal.reason == Reason::EpochUnconfirmed && self.received.len() < 3 => {
                        if role.holder.is_none() {
                            self.early.push(token.epoch.counter());
                        }
                        self.received.push((token, sent, received));
                    }
                    Err(_) => {}
                }
            }
            Step::Answer(n) if n < self.answers.len() => {
                let (token, sent) = self.answers.remove(n);
                let key = (token.holder.incarnation.as_u128(), token.epoch.counter());
                if !self.released.contains(&key) {
                    // TTL less a tenth on a clock that runs a tenth slow is at most the TTL by the leader's clock.
                    let until = self.beliefs.entry(key).or_insert(sent);
                    *until = (*until).max(sent + TTL);
                }
            }
            Step::Deliver => {
                let under_way = [
                    vec![Step::Receive(0); self.sent.len()],
                    vec![Step::Decide(0); self.received.len() + self.sent.len()],
                ];
                under_way.concat().iter().for_each(|step| self.run(step));
                vec![Step::Answer(0); self.answers.len()]
                    .iter()
                    .for_each(|step| self.run(step));
            }
            Step::Fence(fate) if self.role.holder.is_some() => self.propose(None, false, fate),
            Step::Land => self.land(),
            Step::Wait if self.role.holder.is_none() && self.is_free() => {
                self.waited = Some(self.role.epoch.counter());
            }
            // The wait is a committed step before it, so the entry itself needs no look at the leases.
            Step::Promote(node, fate) if self.waited == Some(self.role.epoch.counter()) => {
                self.propose(Some(node), false, fate);
            }
            Step::Switch(node, fate) if self.role.holder.is_some() => self.propose(Some(node), true, fate),
            Step::Release(node) => {
                // Also of epochs under which it never got an answer.
                let old: Vec<_> = (2..=self.role.epoch.counter())
                    .filter(|e| self.held.get(e) == Some(&node))
                    .collect();
                for epoch in old {
                    let key = (node, epoch);
                    self.beliefs.remove(&key);
                    self.released.push(key);
                    let role = self.role.clone();
                    // A stale one is refused, and changes nothing.
                    let _ = self
                        .table
                        .release(&view(&role), &token(epoch, holder(node)), self.now);
                }
            }
            Step::Elect { lands } => {
                if lands {
                    self.land();
                }
                self.on_its_way = None;
                self.table = leading(self.now);
                // The former leader's round cannot be confirmed any more; its calls end unanswered.
                self.received.clear();
            }
            _ => {}
        }
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let believing: Vec<_> = self
            .beliefs
            .iter()
            .filter(|(_, until)| self.now < **until)
            .collect();
        let epochs: Vec<_> = believing.iter().map(|((_, epoch), _)| *epoch).collect();
        prop_assert!(
            epochs.iter().all(|e| Some(e) == epochs.first()),
            "two holders: {believing:?}"
        );
        if self.role.holder.is_none() {
            prop_assert!(
                !self.is_free() || believing.is_empty(),
                "free, and believed in: {believing:?}"
            );
        }
        Ok(())
    }
}

/// That the histories reach what they are meant to attack: failovers whose target asked for its lease early.
#[test]
fn histories_arm_the_targets_of_failovers() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut armed = 0;
    for _ in 0..100 {
        let steps = prop::collection::vec(step(), 120).new_tree(&mut runner).unwrap();
        let mut world = World::new();
        steps.current().iter().for_each(|step| world.run(step));
        armed += world.armed;
    }
    assert!(armed > 20, "{armed}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_two_holders_ever_believe_at_once(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for step in &steps {
            world.run(step);
            world.check()?;
        }
    }
}
