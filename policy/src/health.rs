//! Which regions are well: from sessions, and from shallow probes by the agents of the other regions.
//!
//! Absent on purpose: who probes and how; deep and synthetic probes come later.
//! Invariants: one vantage alone never condemns a region; a region that was given up comes back through RECOVERING; a
//! new leader that has not listened for a detection window condemns nobody.

use std::time::Duration;

use types::{RegionId, region::Health, role::TimingPolicy, units::format_duration};

use crate::readiness::Coverage;

/// What the leader knows of one region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionView {
    /// The region.
    pub region: RegionId,
    /// The committed verdict.
    pub health: Health,
    /// Time since any agent of the region was heard; none if none was since the election.
    pub silent_for: Option<Duration>,
    /// Some agent of the region, with a live session, says that it can serve.
    pub ready: bool,
    /// Which copies the region must have, and has.
    pub coverage: Coverage,
}

/// What one vantage last saw of another region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The region of the agent that probes.
    pub from: RegionId,
    /// The region that is probed.
    pub to: RegionId,
    /// Probes in a row that failed, up to the last one; 0 if that one succeeded.
    pub failures: u32,
    /// How long ago the last probe was reported.
    pub age: Duration,
}

/// A verdict to commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The region.
    pub region: RegionId,
    /// The verdict that it has.
    pub from: Health,
    /// The verdict that it gets.
    pub to: Health,
    /// The observations, for people.
    pub evidence: String,
}

/// How long an agent may be silent and still count as having a session.
pub fn session_window(timing: &TimingPolicy) -> Duration {
    (timing.heartbeat_interval * 3).max(Duration::from_secs(1))
}

/// How long a silence must last, and a new leader must have listened, before it says anything.
pub fn detection_window(timing: &TimingPolicy) -> Duration {
    session_window(timing).max(timing.probe_interval * timing.probe_failures)
}

/// The transitions that are due, with their evidence; at most one per region.
pub fn verdicts(
    regions: &[RegionView],
    probes: &[Probe],
    since_election: Duration,
    timing: &TimingPolicy,
) -> Vec<Transition> {
    let votes = |region: &RegionView| Votes::count(region, regions, probes, timing);
    regions
        .iter()
        .filter_map(|region| verdict(region, &votes(region), since_election, timing))
        .collect()
}

/// What the vantages say of one region.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Votes {
    observing: Vec<RegionId>,
    failing: Vec<RegionId>,
}

impl Votes {
    /// A vantage counts while its own region has a session and its report is fresh: a cut-off vantage sees everybody dead.
    fn count(region: &RegionView, regions: &[RegionView], probes: &[Probe], timing: &TimingPolicy) -> Self {
        let fresh = timing.probe_interval * 2 + session_window(timing);
        let has_session = |id: &RegionId| regions.iter().any(|r| &r.region == id && has_session(r, timing));
        let mut observing = Vec::new();
        let mut failing = Vec::new();
        for probe in probes
            .iter()
            .filter(|p| p.to == region.region && p.from != region.region)
        {
            if probe.age > fresh || !has_session(&probe.from) || observing.contains(&probe.from) {
                continue;
            }
            observing.push(probe.from.clone());
            if probe.failures >= timing.probe_failures {
                failing.push(probe.from.clone());
            }
        }
        Self { observing, failing }
    }

    fn majority_fails(&self) -> bool {
        self.failing.len() * 2 > self.observing.len()
    }

    fn condemn(&self) -> bool {
        self.failing.len() >= 2 && self.majority_fails()
    }
}

fn has_session(region: &RegionView, timing: &TimingPolicy) -> bool {
    region
        .silent_for
        .is_some_and(|silence| silence <= session_window(timing))
}

fn verdict(
    region: &RegionView,
    votes: &Votes,
    since_election: Duration,
    timing: &TimingPolicy,
) -> Option<Transition> {
    let session = has_session(region, timing);
    let silent = region.silent_for.unwrap_or(since_election).min(since_election);
    let lost = !session && silent >= detection_window(timing) && votes.condemn();
    let able = session && region.ready && region.coverage.is_complete() && !votes.majority_fails();
    let (to, evidence) = match region.health {
        Health::Healthy | Health::Recovering if lost => (Health::Unhealthy, lost_evidence(votes, silent)),
        Health::Unhealthy if session => (
            Health::Recovering,
            "an agent had a session again; copies and readiness were to be checked".to_owned(),
        ),
        Health::Recovering if able => (Health::Healthy, able_evidence(region)),
        Health::Healthy | Health::Unhealthy | Health::Recovering => return None,
    };
    Some(Transition {
        region: region.region.clone(),
        from: region.health,
        to,
        evidence,
    })
}

fn lost_evidence(votes: &Votes, silent: Duration) -> String {
    let failing: Vec<_> = votes.failing.iter().map(RegionId::as_str).collect();
    format!(
        "no session for {}; {} of {} vantages could not reach it: {}",
        format_duration(Duration::from_millis(
            u64::try_from(silent.as_millis()).unwrap_or(u64::MAX)
        )),
        votes.failing.len(),
        votes.observing.len(),
        failing.join(", ")
    )
}

fn able_evidence(region: &RegionView) -> String {
    match region.coverage {
        Coverage { wanted: 0, .. } => "an agent reported ready; no version was served then".to_owned(),
        Coverage { wanted, verified } => {
            format!("an agent reported ready; {verified} of {wanted} served versions were verified then")
        }
    }
}
