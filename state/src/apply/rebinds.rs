//! That this cluster goes on from another one, as the CA signed it (L19).
//!
//! Absent on purpose: whether the signature is good. There is no key here, and each door verifies it by itself.
//! Invariant: whatever the statements say that are kept, all of them lead to this cluster: no door is sent elsewhere by its state.

use types::{Rebind, SignedRebind};

use super::{Outcome, change::Change};
use crate::{features::Feature, rejection::Rejection, state::ClusterRecord};

/// Statements that are kept: one for each restore or recovery, and for each cluster that one of them was told to supersede.
const REBINDS_MAX: u64 = 64;
/// Bytes of a signature: RSA with 8192 bits has as many.
const SIGNATURE_BYTES_MAX: u64 = 1024;

pub(super) fn record(change: &mut Change<'_>, rebind: &SignedRebind) -> Outcome {
    change.enabled(Feature::Rebinds)?;
    let cluster = change.cluster()?;
    if !rebind.is_signed() {
        return Err(Rejection::invalid("the signature", "is empty"));
    }
    super::text::at_most(
        "bytes of the signature",
        rebind.signature.len(),
        SIGNATURE_BYTES_MAX,
    )?;
    let mut rebinds = cluster.rebinds.clone();
    match rebinds
        .iter_mut()
        .find(|known| known.statement == rebind.statement)
    {
        Some(known) if known == rebind => {
            return Ok(crate::Reply::Done {
                modified: cluster.modified,
            });
        }
        // Signed at last, or anew: by another key of the CA.
        Some(known) => known.clone_from(rebind),
        None => {
            check_new(&cluster, &rebind.statement)?;
            rebinds.push(rebind.clone());
        }
    }
    super::text::at_most("statements", rebinds.len(), REBINDS_MAX)?;
    change.put_cluster(ClusterRecord { rebinds, ..cluster });
    Ok(change.done())
}

/// A statement that nobody asked this cluster to be signed must be its own, and lead to it.
fn check_new(cluster: &ClusterRecord, said: &Rebind) -> Result<(), Rejection> {
    let wrong = |problem: String| Err(Rejection::invalid("the statement", problem));
    if said.cluster != cluster.cluster_id || said.generation != cluster.generation {
        let (id, generation) = (cluster.cluster_id, cluster.generation);
        let (other, shown) = (said.cluster, said.generation);
        return wrong(format!(
            "is of cluster {other} from generation {shown} on, and this one is {id} from generation {generation} on"
        ));
    }
    if said.supersedes == cluster.cluster_id {
        return wrong("says that this cluster goes on from itself".to_owned());
    }
    let kept = cluster.rebinds.iter().map(|rebind| rebind.statement);
    let all: Vec<Rebind> = kept.chain([*said]).collect();
    match policy::rebind::conflict(&all) {
        Some(conflict) => wrong(conflict.to_string()),
        None => Ok(()),
    }
}
