//! Which rebind statement lets a door move from its cluster to another one (design.md L19).
//!
//! A statement says that one cluster supersedes another, and is an edge from the old one to the new one. A door follows a path of
//! such edges to its end, and only where all of them end in one cluster: two that both go on from one are a split that no door
//! may settle by whom it happened to meet first.
//! Absent on purpose: signatures. Whoever calls has verified every statement by the CA.
//! Invariants: a door never moves to a cluster that was superseded, nor to a generation that is not above its own. So it never
//! comes back, whatever it is shown, and however often.

use std::collections::BTreeSet;

use types::{ClusterId, Lineage, Rebind};

/// To which cluster a door belongs, and where it has been.
#[derive(Clone, Copy, Debug)]
pub struct Bound<'a> {
    /// The cluster.
    pub cluster: ClusterId,
    /// The highest generation of an epoch that it saw there.
    pub seen: u32,
    /// Clusters that it left, or never belonged to because they had ended before. It goes to none of them, whatever is signed.
    pub closed: &'a BTreeSet<ClusterId>,
}

/// Why a door stays where it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stays {
    /// The other cluster ended: it is what was left behind.
    #[error("cluster {shown} has ended: {by} goes on from it")]
    Superseded {
        /// The cluster that was met.
        shown: ClusterId,
        /// Which goes on from it.
        by: ClusterId,
    },
    /// Nobody said that the other cluster goes on from this one.
    #[error("no statement that the CA signed says that cluster {shown} supersedes {bound}")]
    Unsigned {
        /// The door's cluster.
        bound: ClusterId,
        /// The cluster that was met.
        shown: ClusterId,
    },
    /// Its epochs would be below those that the door accepted.
    #[error(
        "cluster {shown} begins at generation {generation}, and this door has seen generation {seen} of {bound}"
    )]
    Generation {
        /// The door's cluster.
        bound: ClusterId,
        /// The cluster that was met.
        shown: ClusterId,
        /// From which on it gives out epochs.
        generation: u32,
        /// The highest one that the door saw.
        seen: u32,
    },
    /// Two clusters go on from one, and neither from the other.
    #[error(
        "both {one} and {other} are signed as successors of cluster {bound}: end one of them, and sign that the other, or a new one, \
         supersedes it"
    )]
    Conflict {
        /// The door's cluster.
        bound: ClusterId,
        /// One successor.
        one: ClusterId,
        /// Another.
        other: ClusterId,
    },
}

/// Whether a door moves to the cluster that it met.
///
/// # Errors
/// Why it stays.
pub fn follow(door: Bound<'_>, shown: ClusterId, statements: &[Rebind]) -> Result<(), Stays> {
    let (bound, seen) = (door.cluster, door.seen);
    if door.closed.contains(&shown) {
        return Err(Stays::Superseded { shown, by: bound });
    }
    if let Some(by) = successor(shown, statements) {
        return Err(Stays::Superseded { shown, by });
    }
    let ends = ends(bound, statements);
    if !ends.contains(&shown) {
        return Err(Stays::Unsigned { bound, shown });
    }
    if let Some(other) = ends.into_iter().find(|end| *end != shown) {
        let one = shown;
        return Err(Stays::Conflict { bound, one, other });
    }
    let generation = generation_of(shown, statements);
    if generation <= seen {
        return Err(Stays::Generation {
            bound,
            shown,
            generation,
            seen,
        });
    }
    Ok(())
}

/// A cluster with every one that it goes on from, also by way of others.
pub fn lineage(cluster: ClusterId, statements: &[Rebind]) -> Lineage {
    let mut closed = BTreeSet::new();
    let mut open = vec![cluster];
    while let Some(of) = open.pop() {
        for old in rising(statements)
            .filter(|s| s.cluster == of)
            .map(|s| s.supersedes)
        {
            if closed.insert(old) {
                open.push(old);
            }
        }
    }
    Lineage { cluster, closed }
}

/// Two clusters that both go on from one, where there are any: somebody has to be told, also where no door is held up by it.
pub fn conflict(statements: &[Rebind]) -> Option<Stays> {
    statements.iter().map(|s| s.supersedes).find_map(|bound| {
        let mut ends = ends(bound, statements).into_iter();
        let (one, other) = (ends.next()?, ends.next()?);
        Some(Stays::Conflict { bound, one, other })
    })
}

/// Which cluster goes on from this one, if any does.
fn successor(of: ClusterId, statements: &[Rebind]) -> Option<ClusterId> {
    rising(statements).find(|s| s.supersedes == of).map(|s| s.cluster)
}

/// Where the paths from a cluster end; itself is none of them.
fn ends(from: ClusterId, statements: &[Rebind]) -> BTreeSet<ClusterId> {
    let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(at) = open.pop() {
        for next in rising(statements)
            .filter(|s| s.supersedes == at)
            .map(|s| s.cluster)
        {
            if seen.insert(next) {
                open.push(next);
            }
        }
    }
    seen.retain(|cluster| successor(*cluster, statements).is_none());
    seen
}

/// Statements under which epochs grow, and so none that leads back to where another began.
fn rising(statements: &[Rebind]) -> impl Iterator<Item = &Rebind> {
    statements
        .iter()
        .filter(|s| s.generation > generation_of(s.supersedes, statements))
}

/// The highest generation that any statement gives a cluster; 0 where none does.
fn generation_of(cluster: ClusterId, statements: &[Rebind]) -> u32 {
    let own = statements.iter().filter(|s| s.cluster == cluster);
    own.map(|s| s.generation).max().unwrap_or_default()
}
