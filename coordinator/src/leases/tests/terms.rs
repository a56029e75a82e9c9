//! A change of a role is of the term in which it was decided.

use std::time::Duration;

use state::{Command, Rejection};
use tempfile::TempDir;
use tokio::time::Instant;
use types::{Epoch, PlanId, RoleName};

use crate::{
    leases::{Leases, RoleChange},
    raft::{Leadership, ProposeError, tests::alone::leading},
};

/// Elected again, a leader has forgotten the mark that refuses renewals: the holder may have renewed since.
#[tokio::test]
async fn a_change_that_an_earlier_term_decided_is_no_entry_of_a_later_one() {
    let dir = TempDir::new().unwrap();
    let node = leading(dir.path()).await;
    let (leases, _renewals) = Leases::new(node.clone());
    let mut leadership = node.leadership();
    let later = leadership.wait_for(|l| l.since.is_some()).await.unwrap().clone();
    let earlier = Leadership {
        term: later.term - 1,
        ..later.clone()
    };
    let change = async || {
        let change = RoleChange {
            role: RoleName::global(),
            epoch: Epoch::new(1, 0),
            needs_free: false,
            command: Command::Fence {
                plan: PlanId(7),
                attempt: 1,
            },
        };
        let actor = "spiffe://regent.local/region/r0/coordinator/c0".parse().unwrap();
        let deadline = Instant::now() + Duration::from_secs(40);
        let request_id = node.own_request_id(deadline).await;
        leases.change(change, actor, request_id, deadline).await
    };
    // It has been elected again, and the news has not come through when the change is decided.
    node.leadership_sender().send_replace(earlier);
    let refused = change().await;
    assert!(
        matches!(refused, Some(Err(ProposeError::NotLeader { .. }))),
        "{refused:?}"
    );
    node.leadership_sender().send_replace(later);
    let applied = change().await.unwrap().unwrap();
    assert!(
        matches!(applied.outcome, Err(Rejection::PlanNotFound { .. })),
        "{applied:?}"
    );
    node.shutdown().await;
}
