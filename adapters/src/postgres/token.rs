//! The token as a transaction shows it.
//!
//! Absent on purpose: where the token comes from; its holder's agent gives it out.

use tokio_postgres::Transaction;
use types::{Epoch, FencingToken, Holder};

/// The setting that holds the token, for one transaction at a time (`SET LOCAL`).
pub const TOKEN_SETTING: &str = "regent.token";

/// The largest epoch that a database takes: eighteen decimal digits, so that it fits its numbers whatever is written.
const EPOCH_MAX: i64 = 999_999_999_999_999_999;

/// The token's text: cluster id, role, epoch as a number, holder, with one space between them. It holds no quote.
/// None for an epoch beyond what a database takes, of a generation above 232 million.
pub fn token_text(token: &FencingToken) -> Option<String> {
    let (cluster, role, epoch) = (token.cluster_id, &token.role, number(token.epoch)?);
    Some(format!("{cluster} {role} {epoch} {}", holder_text(&token.holder)))
}

/// Shows the token in a transaction of the caller's: every write to a guarded table after this is judged by it.
///
/// # Errors
/// The connection's; the transaction is of no use then. An epoch that no database takes is shown as none, and refused.
pub async fn show(transaction: &Transaction<'_>, token: &FencingToken) -> Result<(), tokio_postgres::Error> {
    let text = token_text(token).unwrap_or_default();
    let sql = "SELECT set_config($1, $2, true)";
    transaction.execute(sql, &[&TOKEN_SETTING, &text]).await.map(drop)
}

/// An epoch as a database holds it: generation in the high 32 bits, counter in the low.
pub(super) fn number(epoch: Epoch) -> Option<i64> {
    i64::try_from(epoch.as_u64()).ok().filter(|n| *n <= EPOCH_MAX)
}

/// The epoch of such a number.
pub(super) fn epoch(number: i64) -> Epoch {
    Epoch::from_u64(u64::try_from(number).unwrap_or_default())
}

/// A holder in full, `region/node/incarnation`: two runs of a node never look alike.
pub(super) fn holder_text(holder: &Holder) -> String {
    format!("{}/{}/{}", holder.region, holder.node, holder.incarnation)
}
