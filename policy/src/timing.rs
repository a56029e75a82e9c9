//! How fast the coordinators' elections may be, from how far the coordinators are from each other; and in which order they
//! change to another timing.
//!
//! Absent on purpose: measuring, and whoever tells a coordinator to change. The argument why a change is safe stands in
//! docs/protocol/timing.md.
//! Invariants: a timing that does not fit the worst known round trip is never called for; none is shortened while a round
//! trip between two members is unknown; jitter around one distance changes nothing.

use std::{collections::BTreeMap, time::Duration};

use types::{NodeId, election::ElectionTiming, units::format_duration};

/// No heartbeat is shorter: what a machine with other work to do can keep.
pub const HEARTBEAT_LEAST: Duration = Duration::from_millis(50);
/// Nor longer, however far the coordinators are from each other.
pub const HEARTBEAT_MOST: Duration = Duration::from_secs(2);
/// For so long a shorter timing must have been enough before it is called for.
pub const CALM: Duration = Duration::from_secs(60);

/// Two members and how long a message and its answer take between them; `None` where neither has measured it lately.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// One of them.
    pub a: NodeId,
    /// The other.
    pub b: NodeId,
    /// The round trip, as whichever end found it longer says.
    pub round_trip: Option<Duration>,
}

/// What the leader does about the timing now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Nothing.
    Keep,
    /// A shorter one would do; it is called for once that has lasted for [`CALM`].
    Shorter,
    /// This one, for this reason.
    Change {
        /// The timing.
        timing: ElectionTiming,
        /// What led to it, with the pair.
        reason: String,
    },
}

/// The timing for members of which the two that are farthest apart need `worst` for a message and its answer. An answer has
/// one heartbeat's time, so that is two round trips and a tenth; a campaign begins after three heartbeats at the earliest,
/// and the draws lie far enough apart that one campaign mostly ends before the next begins.
pub fn for_distance(worst: Duration) -> ElectionTiming {
    let heartbeat = round_up(worst * 22 / 10).clamp(HEARTBEAT_LEAST, HEARTBEAT_MOST);
    let election_min = (heartbeat * 3).max(HEARTBEAT_LEAST * 5);
    ElectionTiming {
        heartbeat,
        election_min,
        election_max: election_min * 8 / 5,
    }
}

/// Whole hundredths of a second: nobody needs finer ones, and election timeouts stay whole milliseconds.
fn round_up(duration: Duration) -> Duration {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 2);
    Duration::from_millis(millis.div_ceil(10) * 10)
}

/// Whether an answer over this distance comes in time, with room for one as late again.
pub fn fits(timing: &ElectionTiming, worst: Duration) -> bool {
    timing.heartbeat >= (worst * 2).min(HEARTBEAT_MOST)
}

/// The pair that is farthest apart, of those that are known.
pub fn worst(pairs: &[Pair]) -> Option<(&Pair, Duration)> {
    let known = pairs.iter().filter_map(|pair| Some((pair, pair.round_trip?)));
    known.max_by_key(|(_, round_trip)| *round_trip)
}

/// What follows from the distances of now. `calm_for`: for how long [`Choice::Shorter`] has been the answer.
pub fn choose(current: &ElectionTiming, pairs: &[Pair], calm_for: Duration) -> Choice {
    let Some((pair, distance)) = worst(pairs) else {
        return Choice::Keep;
    };
    let target = for_distance(distance);
    let reason = || {
        let (a, b) = (&pair.a, &pair.b);
        let distance = format_duration(Duration::from_millis(whole_millis(distance)));
        format!("the longest round trip is {distance}, between {a} and {b}")
    };
    if !fits(current, distance) && target.heartbeat > current.heartbeat {
        return Choice::Change {
            timing: target,
            reason: reason(),
        };
    }
    let known = pairs.iter().all(|pair| pair.round_trip.is_some());
    // What is a little shorter may be longer again soon.
    if !known || target.heartbeat * 10 > current.heartbeat * 7 {
        return Choice::Keep;
    }
    if calm_for < CALM {
        return Choice::Shorter;
    }
    Choice::Change {
        timing: target,
        reason: reason(),
    }
}

fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX)
}

/// Whether a change from one timing to another waits until no plan moves a role. A change takes leadership elsewhere, and the next
/// leader must first learn how far the plan is and wait for leases anew. A shorter timing can wait: what it makes quicker is
/// only the next election. A longer one cannot, because with the present one nobody may keep a quorum.
pub fn waits(from: &ElectionTiming, to: &ElectionTiming, plan_runs: bool) -> bool {
    plan_runs && to.heartbeat < from.heartbeat
}

/// Why a newcomer does not vote yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotYet {
    /// The round trip between it and this voter is unknown.
    Unmeasured(NodeId),
    /// It is farther from this voter than the timing allows.
    TooFar(NodeId, Duration),
}

/// Whether a newcomer may vote under this timing, by its distance from each voter.
pub fn admits(timing: &ElectionTiming, newcomer: &NodeId, pairs: &[Pair]) -> Result<(), NotYet> {
    for pair in pairs {
        let other = match (&pair.a == newcomer, &pair.b == newcomer) {
            (true, false) => &pair.b,
            (false, true) => &pair.a,
            _ => continue,
        };
        match pair.round_trip {
            None => return Err(NotYet::Unmeasured(other.clone())),
            Some(far) if !fits(timing, far) => return Err(NotYet::TooFar(other.clone(), far)),
            Some(_) => {}
        }
    }
    Ok(())
}

/// A member, as the leader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Votes.
    pub voter: bool,
    /// May lead for good: no witness.
    pub may_lead: bool,
    /// It could take over now: it answers in time, has nearly all of the log, room on its disk, and believes its state.
    pub fit: bool,
    /// The timing that it goes by, as it said lately; `None`: it is silent.
    pub timing: Option<ElectionTiming>,
    /// It was told for [`TURN`] that it is its turn, and has not changed, or cannot take over yet: for how long nobody told it so.
    /// The leader tells itself.
    pub stuck: Option<Duration>,
    /// Its last log index that the leader knows of.
    pub matched: u64,
}

/// How long a member is told that it is its turn before others go first: its disk may have no room to write the timing down.
pub const TURN: Duration = Duration::from_secs(5);

/// Whose turn it is to change to the timing that the log names. One member at a time is told; one that is stuck may be away for longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nobody's: all who answer have changed.
    Nobody,
    /// This member's; or it has changed, and is to take over as soon as it can.
    Tell(NodeId),
    /// The leader's, and this one, which has changed and is fit, leads meanwhile.
    HandOver(NodeId),
    /// The leader's, and no other voter that could lead has changed, or, as far as is known, can.
    Here,
}

/// Whose turn it is. A leader that beats slower than its followers expect is campaigned against, so to a longer timing the
/// followers go first; to a shorter one, one follower goes first and leads: alone it cannot win a campaign, because the
/// others still hear their leader in the time that they give it. For the same reason nobody leads by a longer timing while members
/// that are stuck are half of the voters or more; and where some are, the leader changes in place, because one that is stuck, too, would
/// be one more of them once another leads. To a shorter one it goes without them always: whoever beats faster than it has to is
/// campaigned against by nobody.
pub fn next_turn(target: &ElectionTiming, leader: &NodeId, members: &BTreeMap<NodeId, Standing>) -> Turn {
    let others = || members.iter().filter(|(node, _)| *node != leader);
    let behind = || others().filter(|(_, m)| m.timing.is_some_and(|t| t != *target));
    // Those that are stuck are asked on when nobody else is left, in turn: one that never can holds up nobody who can by now.
    let in_order = |m: &Standing| {
        m.stuck
            .map_or((0, Duration::ZERO), |ago| (1, Duration::MAX - ago))
    };
    let next = behind().min_by_key(|(_, m)| in_order(m));
    let tell = |node: &NodeId| Turn::Tell(node.clone());
    let own = members.get(leader);
    let Some(own) = own.filter(|own| own.timing.is_some_and(|t| t != *target)) else {
        return next.map_or(Turn::Nobody, |(node, _)| tell(node));
    };
    // The leader before those that are stuck; once it is, too, in turn with them.
    let in_turn = |next: Option<(&NodeId, &Standing)>| match next {
        Some((node, m)) if in_order(m) <= in_order(own) => tell(node),
        _ => Turn::Here,
    };
    let longer = own.timing.is_some_and(|own| target.heartbeat >= own.heartbeat);
    if longer && let Some((node, m)) = next {
        let voters = members.values().filter(|m| m.voter).count();
        let impatient = behind().filter(|(_, m)| m.voter).count();
        if m.stuck.is_none() || impatient * 2 >= voters {
            return tell(node);
        }
        if impatient > 0 && (own.stuck.is_none() || (impatient + 1) * 2 >= voters) {
            return in_turn(next);
        }
    }
    let leads = |m: &Standing| m.voter && m.may_lead;
    let changed = || others().filter(|(_, m)| leads(m) && m.timing == Some(*target));
    if let Some((node, _)) = changed().filter(|(_, m)| m.fit).max_by_key(|(_, m)| m.matched) {
        return Turn::HandOver(node.clone());
    }
    // A second one would elect the first, which could not take over. One that an earlier target made quicker than the leader is a first one, too.
    let is_quicker = |m: &Standing| {
        m.timing
            .is_some_and(|t| own.timing.is_some_and(|own| t.heartbeat < own.heartbeat))
    };
    let quicker = || others().filter(|(_, m)| leads(m) && is_quicker(m));
    if !longer && let Some((node, m)) = quicker().min_by_key(|(_, m)| in_order(m)) {
        match (m.stuck, own.stuck) {
            (None, _) => return tell(node),
            (Some(_), None) => return Turn::Here,
            (Some(_), Some(_)) => {}
        }
    }
    let able = behind().filter(|(_, m)| longer || leads(m));
    in_turn(able.min_by_key(|(_, m)| (in_order(m), !m.fit)))
}

/// Whether a member that has written `timing` down, because it was its turn, may go by it now, although that took a while. `setting` is what the log
/// names by now, as far as it is known here; `as_leader`, whether it was its turn as the leader, `leads_now`, whether it leads by now, and
/// `waits`, whether a leader's change waits now ([`waits`]); whoever leads sees to it for those that it tells.
pub fn is_still_due(
    timing: &ElectionTiming,
    setting: Option<&ElectionTiming>,
    as_leader: bool,
    leads_now: bool,
    waits: bool,
) -> bool {
    setting.is_none_or(|setting| setting == timing) && as_leader == leads_now && !(as_leader && waits)
}

/// Whether this turn waits until the leader has led for long enough to have heard who is fit: a hand-over and a change in place do, and
/// to a shorter timing every turn, because whoever is told it is to lead at once.
pub fn asks_who_is_fit(turn: &Turn, from: &ElectionTiming, to: &ElectionTiming) -> bool {
    matches!(turn, Turn::HandOver(_) | Turn::Here) || to.heartbeat < from.heartbeat
}
