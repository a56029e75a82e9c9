//! Who may begin and move plans, and when.

use policy::failover::is_held;
use types::{Principal, role::RoleRecord};

use super::super::change::Change;
use crate::rejection::Rejection;

/// Plans are the leader's and people's; an agent only reports its own steps.
pub(super) fn check_authority(change: &Change<'_>) -> Result<(), Rejection> {
    match change.actor() {
        Principal::Coordinator { .. } | Principal::User { .. } => Ok(()),
        actor @ Principal::Agent { .. } => {
            let needs = "a coordinator or a person".to_owned();
            Err(Rejection::PermissionDenied {
                actor: actor.clone(),
                needs,
            })
        }
    }
}

/// What runs by itself waits in a pause; a person may act in one. Asked when a plan begins, and again where it takes the
/// role, because a pause may have been said in between.
pub(in crate::apply) fn check_mode(
    change: &Change<'_>,
    role: &RoleRecord,
    begun_by: &Principal,
) -> Result<(), Rejection> {
    if is_held(role.mode, change.now()) && matches!(begun_by, Principal::Coordinator { .. }) {
        return Err(Rejection::FailoverPaused {
            role: role.role.clone(),
            mode: role.mode,
        });
    }
    Ok(())
}
