//! Whether a change of the coordinators' membership is safe: what it would cost is said before it is made.
//!
//! Absent on purpose: how Raft makes the change (joint consensus), clocks, and who may ask.
//! Invariant: no answer allows a change after which those who answer and have the log are no majority, or after which the
//! last voter that may lead is gone; and none gives region survival away unless the caller said so.

use std::{collections::BTreeSet, fmt};

use types::{NodeId, RegionId};

/// A voter, as the leader sees it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voter {
    /// Its name.
    pub node: NodeId,
    /// Its region.
    pub region: RegionId,
    /// It acknowledged the leader within the longest election timeout; the leader itself always does.
    pub answers: bool,
    /// It stores nearly all that the leader does.
    pub caught_up: bool,
    /// It votes and stores the log, and leads only as long as it takes to hand leadership over.
    pub witness: bool,
}

impl Voter {
    fn counts(&self) -> bool {
        self.answers && self.caught_up
    }
}

/// The membership before a change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// All who vote.
    pub voters: Vec<Voter>,
    /// Those who only listen.
    pub learners: BTreeSet<NodeId>,
    /// Another change is under way: two sets of voters must agree until it has ended.
    pub changing: bool,
}

/// What somebody wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Takes a coordinator out.
    Remove {
        /// Its name.
        node: NodeId,
        /// The caller gives region survival away, and said so.
        accept_region_loss: bool,
    },
    /// Lets a learner that has caught up vote.
    Promote {
        /// Its name.
        node: NodeId,
        /// Its region.
        region: RegionId,
        /// It is to be a witness.
        witness: bool,
    },
}

/// What is to be said of a change that is made all the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Warning {
    /// An even number of voters bears no more losses than one voter less.
    EvenVoters {
        /// How many there will be.
        voters: usize,
        /// How many of them may be lost.
        spare: usize,
    },
    /// Losing one region will cost the majority.
    DiesWithRegion {
        /// The first such region.
        region: RegionId,
    },
    /// It was given away on request.
    RegionSurvivalGivenUp {
        /// The first region whose loss costs the majority from now on.
        region: RegionId,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EvenVoters { voters, spare } => write!(
                f,
                "{voters} voters are an even number: {spare} of them may be lost, as of {}",
                voters - 1
            ),
            Self::DiesWithRegion { region } => write!(
                f,
                "if region {region} is lost, the rest of the voters is no majority"
            ),
            Self::RegionSurvivalGivenUp { region } => write!(
                f,
                "as asked, the cluster no longer survives the loss of any one region: without {region} the rest of the voters is no \
                 majority"
            ),
        }
    }
}

/// Why a change is not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Nobody of this name.
    #[error("{node} is no member of this cluster")]
    NoMember {
        /// Who was named.
        node: NodeId,
    },
    /// One change at a time.
    #[error("another change of membership is under way, and has not ended yet")]
    UnderWay,
    /// A cluster without voters decides nothing any more.
    #[error("{node} is the last voter")]
    LastVoter {
        /// Who was named.
        node: NodeId,
    },
    /// Witnesses serve nobody.
    #[error("{node} is the last voter that is no witness: nobody would be left who serves")]
    LastServing {
        /// Who was named.
        node: NodeId,
    },
    /// Too few of those who would be left answer.
    #[error(
        "without {node} a majority is {needed} of {voters} voters, and only {answering} of them answer; {} do not",
        silent.iter().map(NodeId::as_str).collect::<Vec<_>>().join(", ")
    )]
    NoQuorum {
        /// Who was named.
        node: NodeId,
        /// How many voters there would be.
        voters: usize,
        /// How many of them are a majority.
        needed: usize,
        /// How many of them answer.
        answering: usize,
        /// Those who do not.
        silent: Vec<NodeId>,
    },
    /// Too few of those who would be left have the log.
    #[error(
        "without {node} a majority is {needed} of {voters} voters, and only {caught_up} of them have caught up with the log; {} \
         have not",
        behind.iter().map(NodeId::as_str).collect::<Vec<_>>().join(", ")
    )]
    TooFewCaughtUp {
        /// Who was named.
        node: NodeId,
        /// How many voters there would be.
        voters: usize,
        /// How many of them are a majority.
        needed: usize,
        /// How many of them answer and have nearly the whole log.
        caught_up: usize,
        /// Those who answer and are behind.
        behind: Vec<NodeId>,
    },
    /// The cluster survives the loss of any region now, and would not any more.
    #[error(
        "now the cluster survives the loss of any one region; without {node} it would not: with {region} lost, {left} of {voters} \
         voters are left, and a majority is {needed}"
    )]
    RegionSurvival {
        /// Who was named.
        node: NodeId,
        /// The first region whose loss would cost the majority.
        region: RegionId,
        /// How many voters would be left without it.
        left: usize,
        /// How many voters there would be.
        voters: usize,
        /// How many of them are a majority.
        needed: usize,
    },
}

/// How many of `voters` are a majority.
pub const fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

/// What becomes of the voters when one region is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Survival {
    /// The rest is a majority, whichever region it is.
    AnyRegion,
    /// Not without this one.
    DiesWith {
        /// The first such region.
        region: RegionId,
        /// How many voters are left without it.
        left: usize,
        /// How many are needed.
        needed: usize,
    },
}

/// Whether the voters that answer outlive the loss of any one region. Those who do not answer count as voters, and help
/// nobody.
pub fn survival(voters: &[Voter]) -> Survival {
    let needed = majority(voters.len());
    let regions: BTreeSet<_> = voters.iter().map(|v| &v.region).collect();
    for region in regions {
        let rest = voters.iter().filter(|v| v.answers && v.region != *region);
        let left = rest.count();
        if left < needed {
            return Survival::DiesWith {
                region: region.clone(),
                left,
                needed,
            };
        }
    }
    Survival::AnyRegion
}

/// Whether the change may be made now, and what is to be said of it.
pub fn decide(now: &Membership, change: &Change) -> Result<Vec<Warning>, Refused> {
    if now.changing {
        return Err(Refused::UnderWay);
    }
    match change {
        Change::Remove {
            node,
            accept_region_loss,
        } => remove(now, node, *accept_region_loss),
        Change::Promote {
            node,
            region,
            witness,
        } => promote(now, node, region, *witness),
    }
}

fn promote(
    now: &Membership,
    node: &NodeId,
    region: &RegionId,
    witness: bool,
) -> Result<Vec<Warning>, Refused> {
    if !now.learners.contains(node) {
        return Err(Refused::NoMember { node: node.clone() });
    }
    let mut after = now.voters.clone();
    after.push(Voter {
        node: node.clone(),
        region: region.clone(),
        answers: true,
        caught_up: true,
        witness,
    });
    Ok(warnings(&after))
}

fn remove(now: &Membership, node: &NodeId, accept_region_loss: bool) -> Result<Vec<Warning>, Refused> {
    let after: Vec<Voter> = now.voters.iter().filter(|v| v.node != *node).cloned().collect();
    if after.len() == now.voters.len() {
        return match now.learners.contains(node) {
            // Nobody counts on its answers.
            true => Ok(Vec::new()),
            false => Err(Refused::NoMember { node: node.clone() }),
        };
    }
    check_somebody_is_left(node, &after)?;
    check_quorum(node, &after)?;
    match (survival(&now.voters), survival(&after)) {
        (Survival::AnyRegion, Survival::DiesWith { region, left, needed }) if !accept_region_loss => {
            Err(Refused::RegionSurvival {
                node: node.clone(),
                region,
                left,
                voters: after.len(),
                needed,
            })
        }
        (Survival::AnyRegion, Survival::DiesWith { region, .. }) => {
            let given_up = Warning::RegionSurvivalGivenUp { region };
            Ok(std::iter::once(given_up).chain(even(&after)).collect())
        }
        _ => Ok(warnings(&after)),
    }
}

fn check_somebody_is_left(node: &NodeId, after: &[Voter]) -> Result<(), Refused> {
    if after.is_empty() {
        return Err(Refused::LastVoter { node: node.clone() });
    }
    if after.iter().all(|v| v.witness) {
        return Err(Refused::LastServing { node: node.clone() });
    }
    Ok(())
}

fn check_quorum(node: &NodeId, after: &[Voter]) -> Result<(), Refused> {
    let needed = majority(after.len());
    let names = |these: &dyn Fn(&Voter) -> bool| {
        let these = after.iter().filter(|v| these(v));
        these.map(|v| v.node.clone()).collect::<Vec<_>>()
    };
    let answering = names(&|v| v.answers).len();
    if answering < needed {
        return Err(Refused::NoQuorum {
            node: node.clone(),
            voters: after.len(),
            needed,
            answering,
            silent: names(&|v| !v.answers),
        });
    }
    let caught_up = names(&Voter::counts).len();
    if caught_up < needed {
        return Err(Refused::TooFewCaughtUp {
            node: node.clone(),
            voters: after.len(),
            needed,
            caught_up,
            behind: names(&|v| v.answers && !v.caught_up),
        });
    }
    Ok(())
}

fn warnings(after: &[Voter]) -> Vec<Warning> {
    let dies = match survival(after) {
        Survival::DiesWith { region, .. } if after.len() > 1 => Some(Warning::DiesWithRegion { region }),
        Survival::DiesWith { .. } | Survival::AnyRegion => None,
    };
    dies.into_iter().chain(even(after)).collect()
}

fn even(after: &[Voter]) -> Option<Warning> {
    let voters = after.len();
    voters.is_multiple_of(2).then(|| Warning::EvenVoters {
        voters,
        spare: voters - majority(voters),
    })
}
