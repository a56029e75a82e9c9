//! Follows the cluster's state: into the view, and its roles into the door.

use std::{sync::Arc, time::Duration};

use client::{
    Client,
    watch::{Change, StateWatch},
};
use proto::convert::watch::Resource;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{door::Door, floors::FloorsError, view::View};

/// Silence after which another coordinator is asked; bookmarks come about every second.
const PATIENCE: Duration = Duration::from_secs(3);

/// Follows until `stop`. The door learns a role before anybody acts on it.
///
/// # Errors
/// A floor that cannot be kept, or another cluster: the process must not go on.
pub async fn run(
    client: Client,
    door: Door,
    view: watch::Sender<Arc<View>>,
    stop: CancellationToken,
) -> Result<(), FloorsError> {
    let mut state = StateWatch::new(client, PATIENCE);
    loop {
        let change = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            change = state.next() => change,
        };
        apply(change, &door, &view).await?;
    }
}

/// Takes one change.
///
/// # Errors
/// As for [`run`].
pub async fn apply(change: Change, door: &Door, view: &watch::Sender<Arc<View>>) -> Result<(), FloorsError> {
    let bound = match &change {
        Change::Reset { cluster_id, .. } => Some(*cluster_id),
        Change::Events { .. } | Change::Bookmark { .. } => view.borrow().cluster_id,
    };
    let resources: Vec<&Resource> = match &change {
        Change::Reset { resources, .. } => resources.iter().collect(),
        Change::Events { events, .. } => events
            .iter()
            .filter(|e| !e.deleted)
            .map(|e| &e.resource)
            .collect(),
        Change::Bookmark { .. } => Vec::new(),
    };
    let roles = resources.into_iter().filter_map(|resource| match resource {
        Resource::Role(role) => Some(role.as_ref()),
        _ => None,
    });
    let roles: Vec<_> = roles.collect();
    let is_list = matches!(change, Change::Reset { .. });
    if let Some(cluster_id) = bound.filter(|_| is_list || !roles.is_empty()) {
        door.learn(cluster_id, roles).await?;
    }
    view.send_modify(|view| Arc::make_mut(view).apply(change));
    Ok(())
}
