//! Follows the cluster's state: into the view, and its roles into the door.

use std::{sync::Arc, time::Duration};

use client::{
    Client, retry,
    watch::{Change, StateWatch},
};
use proto::convert::watch::Resource;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use types::ClusterId;

use crate::{door::Door, floors::FloorsError, view::View};

/// Silence after which another coordinator is asked; bookmarks come about every second.
const PATIENCE: Duration = Duration::from_secs(3);

/// Follows until `stop`. The door learns a role before anybody acts on it.
///
/// # Errors
/// A floor that cannot be kept: the process must not go on.
pub async fn run(
    client: Client,
    door: Door,
    view: watch::Sender<Arc<View>>,
    stop: CancellationToken,
) -> Result<(), FloorsError> {
    let mut state = StateWatch::new(client.clone(), PATIENCE);
    loop {
        let change = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            change = state.next() => change,
        };
        let of = match &change {
            Change::Reset { cluster_id, .. } => Some(*cluster_id),
            Change::Events { .. } | Change::Bookmark { .. } => view.borrow().cluster_id,
        };
        // This agent has followed another one meanwhile, or must not follow this one: somebody else may be of its own.
        let own = own_cluster(&client, &door);
        if own.is_some_and(|own| of.is_some_and(|of| of != own)) {
            tracing::info!(
                ?own,
                ?of,
                "the watch goes on elsewhere: that is another cluster than this agent's"
            );
            state.elsewhere();
            tokio::time::sleep(retry::jittered(retry::WAIT_MAX)).await;
            continue;
        }
        match apply(change, &door, &view).await {
            // It followed in this very moment: the next change is judged by that.
            Err(error @ FloorsError::OtherCluster { .. }) => tracing::info!("{error}"),
            applied => applied?,
        }
        own_cluster(&client, &door);
    }
}

/// The cluster that the door is bound to, which is the only one that is asked from then on.
fn own_cluster(client: &Client, door: &Door) -> Option<ClusterId> {
    let own = door.lineage().borrow().as_ref().map(|lineage| lineage.cluster);
    if let Some(own) = own {
        client.belong_to(own);
    }
    own
}

/// Takes one change.
///
/// # Errors
/// A floor that cannot be kept, or another cluster than the one that the door is bound to.
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
