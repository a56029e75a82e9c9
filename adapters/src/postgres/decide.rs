//! The rules of the raise: what a token may do to the fence that was read, and what a failure means. Pure.
//!
//! Invariant: no answer lets an epoch sink, nor gives an epoch that somebody else has to another holder (I5).

use std::cmp::Ordering;

use types::{Epoch, FencingToken, Lineage, RoleName};

use super::{Trouble, token::holder_text};

/// An epoch, and whose it is, as a database holds them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The cluster that issued the epoch, as text.
    pub cluster_id: String,
    /// The epoch.
    pub epoch: Epoch,
    /// `region/node/incarnation`.
    pub holder: String,
}

/// How a role stands in a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The epoch that rules.
    pub fence: Fence,
    /// One that is about to; at or above it wherever a raise was begun. From its announcement on older epochs are refused.
    pub announced: Option<Fence>,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It stands already.
    Stands,
    /// There is no row: make it.
    Create,
    /// Announce it, and raise the row from this epoch.
    Raise(Epoch),
    /// The row is of a cluster that this one goes on from: note that it is over, and then the same.
    Rebind(Epoch),
    /// No.
    Refuse(Refusal),
}

/// Why a token may not raise a fence. Each names what was shown, what is current, and who holds it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A higher epoch rules, or is about to.
    #[error(
        "stale epoch: {shown} was shown for {role}, current is {current}, held by {holder}: stop writing"
    )]
    StaleEpoch {
        /// The role.
        role: RoleName,
        /// The token's epoch.
        shown: Epoch,
        /// The database's.
        current: Epoch,
        /// Whose it is.
        holder: String,
    },
    /// The epoch is another's.
    #[error("{epoch} was shown for {role} by {shown_by}, but {holder} holds it: stop writing")]
    OtherHolder {
        /// The role.
        role: RoleName,
        /// The epoch, shown and current.
        epoch: Epoch,
        /// Who showed it.
        shown_by: String,
        /// Whose it is.
        holder: String,
    },
    /// Another cluster's database; its epochs cannot be compared (L19).
    #[error("token of cluster {shown} shown where cluster {expected} rules")]
    OtherCluster {
        /// The token's cluster.
        shown: String,
        /// The database's.
        expected: String,
    },
    /// More than a database's numbers hold.
    #[error("epoch {0} is beyond what a database can hold")]
    TooLarge(Epoch),
}

/// What `mine` may do to a fence that was read. One of a cluster that `lineage` says is over may be taken over by the cluster that
/// goes on from it (L19).
pub(crate) fn decide(read: Option<&Standing>, mine: &FencingToken, lineage: &Lineage) -> Decision {
    if super::token::number(mine.epoch).is_none() {
        return Decision::Refuse(Refusal::TooLarge(mine.epoch));
    }
    let Some(Standing { fence, announced }) = read else {
        return Decision::Create;
    };
    // What was announced by a cluster that goes on from the row's is above it: generations grow.
    let ahead = announced.as_ref().filter(|ahead| ahead.epoch > fence.epoch);
    for standing in ahead.into_iter().chain([fence]) {
        if let Some(refusal) = refusal(standing, mine, lineage) {
            return Decision::Refuse(refusal);
        }
    }
    let own = mine.cluster_id.to_string();
    let is_other = |standing: &Fence| standing.cluster_id != own;
    if is_other(fence) || ahead.is_some_and(is_other) {
        Decision::Rebind(fence.epoch)
    } else if fence.epoch == mine.epoch {
        Decision::Stands
    } else {
        Decision::Raise(fence.epoch)
    }
}

fn refusal(highest: &Fence, mine: &FencingToken, lineage: &Lineage) -> Option<Refusal> {
    let (cluster, me) = (mine.cluster_id.to_string(), holder_text(&mine.holder));
    let (role, holder) = (mine.role.clone(), highest.holder.clone());
    let old = highest.cluster_id.parse();
    let is_taken_over = old.is_ok_and(|old| lineage.takes_over(mine.cluster_id, old));
    if highest.cluster_id != cluster && !is_taken_over {
        let expected = highest.cluster_id.clone();
        return Some(Refusal::OtherCluster {
            shown: cluster,
            expected,
        });
    }
    match mine.epoch.cmp(&highest.epoch) {
        Ordering::Less => Some(Refusal::StaleEpoch {
            role,
            shown: mine.epoch,
            current: highest.epoch,
            holder,
        }),
        Ordering::Equal if highest.holder != me => Some(Refusal::OtherHolder {
            role,
            epoch: mine.epoch,
            shown_by: me,
            holder,
        }),
        Ordering::Equal | Ordering::Greater => None,
    }
}

/// What a guarded table's refusal means for who wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The epoch is over: stop writing.
    StaleEpoch,
    /// The transaction showed no token, or something that is none.
    NoToken,
    /// The epoch is another holder's: stop writing.
    OtherHolder,
    /// The token is of another cluster.
    OtherCluster,
    /// The token is of another role than the one that guards the table.
    OtherRole,
    /// The epoch was not raised in this database yet: try again.
    NotRaised,
}

/// Reads a SQLSTATE of the guard; none for every other one. A transaction that fails with 40001 has to be tried again, as
/// always: where an epoch was raised since it began, the second try is refused as one of these.
pub fn refused(sqlstate: &str) -> Option<Refused> {
    match sqlstate {
        "RG001" => Some(Refused::StaleEpoch),
        "RG002" => Some(Refused::NoToken),
        "RG003" => Some(Refused::OtherHolder),
        "RG004" => Some(Refused::OtherCluster),
        "RG005" => Some(Refused::OtherRole),
        "RG006" => Some(Refused::NotRaised),
        _ => None,
    }
}

/// What a failure with this SQLSTATE, or none, means. `io`: the network failed, or the other end went away.
pub(crate) fn trouble_of(sqlstate: Option<&str>, io: bool, said: String) -> Trouble {
    let Some(code) = sqlstate else {
        return if io {
            Trouble::Unreachable(said)
        } else {
            Trouble::Unusable(said)
        };
    };
    match code {
        // Lock not available, deadlock, serialization failure.
        "55P03" | "40P01" | "40001" => Trouble::Contended(said),
        // Time-outs, read-only (a standby), and a server that is starting, stopping or full.
        "57014" | "25006" | "25P03" => Trouble::Unreachable(said),
        _ if ["08", "53", "57P", "58", "XX"]
            .iter()
            .any(|class| code.starts_with(class)) =>
        {
            Trouble::Unreachable(said)
        }
        _ => Trouble::Unusable(said),
    }
}
