//! What a door says to a fencing token (design.md L2, L3, L12, L13, I5).
//!
//! Absent on purpose: where a door keeps its floor, and how it asks a coordinator. A door that cannot ask refuses.
//! Invariant: a token below a floor, or equal to it from another holder, is refused whatever else is true.

use std::{cmp::Ordering, iter::successors};

use types::{
    ClusterId, Epoch, FencingToken, Holder, ModelName, Reason, RoleName, reason::Refusal, role::RoleRecord,
};

/// The lowest epoch that a door still accepts for a role, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Floor {
    /// The cluster that the door is bound to.
    pub cluster_id: ClusterId,
    /// The role.
    pub role: RoleName,
    /// The highest epoch that the door accepted or was shown by a coordinator.
    pub epoch: Epoch,
    /// Who holds that epoch; nobody while the role is fenced or empty.
    pub holder: Option<Holder>,
}

/// What a door does with a token, before it asked anybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The token is the floor's own: go on.
    Accept,
    /// The token is above the floor: accept it only after a coordinator confirmed it ([`confirm`]) and the raised
    /// floor is on disk; refuse it if none can be asked.
    Raise,
    /// No.
    Refuse(Refused),
}

/// Why a door refuses; every variant says what was shown and what rules instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The token comes from another cluster.
    #[error("token of cluster {shown} at a door of cluster {current}")]
    WrongCluster {
        /// The token's cluster.
        shown: ClusterId,
        /// The door's cluster.
        current: ClusterId,
    },
    /// The token is for another role.
    #[error("token of role {shown} at a door of role {current}")]
    WrongRole {
        /// The token's role.
        shown: RoleName,
        /// The door's role.
        current: RoleName,
    },
    /// The token's epoch is over.
    #[error("epoch {shown} of {role} is over: {current} is held by {}", name(.holder))]
    StaleEpoch {
        /// The role.
        role: RoleName,
        /// The token's epoch.
        shown: Epoch,
        /// The door's epoch.
        current: Epoch,
        /// Who holds the door's epoch.
        holder: Option<Holder>,
    },
    /// The epoch is the current one, and another's.
    #[error("epoch {epoch} of {role} is held by {}, not by {shown}", name(.holder))]
    WrongHolder {
        /// The role.
        role: RoleName,
        /// The epoch, shown and current.
        epoch: Epoch,
        /// Who showed it.
        shown: Holder,
        /// Whose it is.
        holder: Option<Holder>,
    },
    /// The epoch is above everything known here, and nobody confirmed it.
    #[error("epoch {shown} of {role} is not confirmed: {current} is held by {}", name(.holder))]
    Unconfirmed {
        /// The role.
        role: RoleName,
        /// The token's epoch.
        shown: Epoch,
        /// The highest epoch known here.
        current: Epoch,
        /// Who holds that one.
        holder: Option<Holder>,
    },
}

fn name(holder: &Option<Holder>) -> String {
    holder
        .as_ref()
        .map_or_else(|| "nobody".to_owned(), ToString::to_string)
}

impl Refused {
    /// The machine-readable reason.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::WrongCluster { .. } => Reason::WrongCluster,
            Self::WrongRole { .. } => Reason::WrongRole,
            Self::StaleEpoch { .. } => Reason::StaleEpoch,
            Self::WrongHolder { .. } => Reason::WrongHolder,
            Self::Unconfirmed { .. } => Reason::EpochUnconfirmed,
        }
    }

    /// As it travels: operands `shown`, `current`, `holder` and, where there is one, `role`.
    pub fn to_refusal(&self) -> Refusal {
        let refusal = Refusal::new(self.reason(), self.to_string());
        match self {
            Self::WrongCluster { shown, current } => refusal.with("shown", shown).with("current", current),
            Self::WrongRole { shown, current } => refusal.with("shown", shown).with("current", current),
            Self::StaleEpoch {
                role,
                shown,
                current,
                holder,
            }
            | Self::Unconfirmed {
                role,
                shown,
                current,
                holder,
            } => refusal
                .with("role", role)
                .with("shown", shown)
                .with("current", current)
                .with("holder", name(holder)),
            Self::WrongHolder {
                role,
                epoch,
                shown,
                holder,
            } => refusal
                .with("role", role)
                .with("shown", epoch)
                .with("current", epoch)
                .with("shown_holder", shown)
                .with("holder", name(holder)),
        }
    }
}

/// A door's first answer to a token, from what it has on disk. No floor yet means that nothing is known of the role:
/// the token has to be confirmed.
pub fn check(floor: Option<&Floor>, token: &FencingToken, own_cluster: ClusterId) -> Verdict {
    if token.cluster_id != own_cluster {
        let (shown, current) = (token.cluster_id, own_cluster);
        return Verdict::Refuse(Refused::WrongCluster { shown, current });
    }
    let Some(floor) = floor else { return Verdict::Raise };
    if token.role != floor.role {
        return Verdict::Refuse(wrong_role(token, &floor.role));
    }
    match token.epoch.cmp(&floor.epoch) {
        Ordering::Less => Verdict::Refuse(stale(token, floor.epoch, floor.holder.as_ref())),
        Ordering::Equal if floor.holder.as_ref() == Some(&token.holder) => Verdict::Accept,
        Ordering::Equal => Verdict::Refuse(wrong_holder(token, floor.holder.as_ref())),
        Ordering::Greater => Verdict::Raise,
    }
}

/// The role that guards a model: of the roles that exist the one that is named after the model, else after the nearest
/// namespace around it, else `primaries/global`. Roles are never taken away, so that with time a model's guard only comes
/// nearer to it: a door that has taken a token of the nearer role knows of it, and takes none of the wider one again.
pub fn guard_of(model: &ModelName, exists: impl Fn(&RoleName) -> bool) -> RoleName {
    let names = successors(Some(model.as_str()), |name| Some(name.rsplit_once('.')?.0));
    names
        .filter_map(|name| RoleName::new(format!("primaries/{name}")).ok())
        .find(exists)
        .unwrap_or_else(RoleName::global)
}

/// As [`check`], at a door that `guard` guards: another role's token is refused, however current it is.
pub fn check_guarded(
    guard: &RoleName,
    floor: Option<&Floor>,
    token: &FencingToken,
    own_cluster: ClusterId,
) -> Verdict {
    if token.cluster_id == own_cluster && token.role != *guard {
        return Verdict::Refuse(wrong_role(token, guard));
    }
    check(floor, token, own_cluster)
}

/// What a coordinator says to a door that asks about a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Confirmation {
    /// The token is the role's current one.
    Current,
    /// The token is what a running plan's target will hold: good for claiming doors, and for nothing else yet.
    Reserved,
    /// No.
    Refused(Refused),
}

/// Compares a token with the committed role: the answer to `CheckFence`.
pub fn confirm(role: &RoleRecord, own_cluster: ClusterId, token: &FencingToken) -> Confirmation {
    let reserved = role.reservation.as_ref();
    if token.cluster_id == own_cluster
        && token.role == role.role
        && reserved.is_some_and(|r| r.epoch == token.epoch && r.target == token.holder)
    {
        return Confirmation::Reserved;
    }
    match at_registry(role, own_cluster, token) {
        Ok(()) => Confirmation::Current,
        Err(refused) => Confirmation::Refused(*refused),
    }
}

/// The rule of the state machine's own door (L12): the token is exactly the committed epoch and holder.
pub fn at_registry(
    role: &RoleRecord,
    own_cluster: ClusterId,
    token: &FencingToken,
) -> Result<(), Box<Refused>> {
    let floor = floor_of(role, own_cluster);
    match check(Some(&floor), token, own_cluster) {
        Verdict::Accept => Ok(()),
        Verdict::Refuse(refused) => Err(Box::new(refused)),
        Verdict::Raise => Err(Box::new(Refused::Unconfirmed {
            role: role.role.clone(),
            shown: token.epoch,
            current: role.epoch,
            holder: role.holder.clone(),
        })),
    }
}

/// The floor that a committed role asks of a door.
pub fn floor_of(role: &RoleRecord, cluster_id: ClusterId) -> Floor {
    Floor {
        cluster_id,
        role: role.role.clone(),
        epoch: role.epoch,
        holder: role.holder.clone(),
    }
}

/// The higher of two floors of one role and cluster; a floor never sinks. Of two equal epochs the one with a holder
/// stays: nobody takes an epoch away from its holder but a higher epoch. What is confirmed of another role or cluster says
/// nothing of this one, however high its epoch (L3).
pub fn raise(floor: Option<Floor>, confirmed: Floor) -> Floor {
    let of_another =
        |floor: &Floor| (floor.cluster_id, &floor.role) != (confirmed.cluster_id, &confirmed.role);
    match floor {
        None => confirmed,
        Some(floor) if of_another(&floor) => floor,
        Some(floor) if confirmed.epoch > floor.epoch => confirmed,
        Some(floor) if confirmed.epoch == floor.epoch && floor.holder.is_none() => confirmed,
        Some(floor) => floor,
    }
}

fn wrong_role(token: &FencingToken, guard: &RoleName) -> Refused {
    Refused::WrongRole {
        shown: token.role.clone(),
        current: guard.clone(),
    }
}

fn stale(token: &FencingToken, current: Epoch, holder: Option<&Holder>) -> Refused {
    Refused::StaleEpoch {
        role: token.role.clone(),
        shown: token.epoch,
        current,
        holder: holder.cloned(),
    }
}

fn wrong_holder(token: &FencingToken, holder: Option<&Holder>) -> Refused {
    Refused::WrongHolder {
        role: token.role.clone(),
        epoch: token.epoch,
        shown: token.holder.clone(),
        holder: holder.cloned(),
    }
}
