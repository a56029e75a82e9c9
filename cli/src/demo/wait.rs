//! Waiting for something that nobody announces: look, and look again, with an end.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::error::Failure;

/// Looks every `interval` until there is something to see; after `limit` the error says what was waited for.
pub(super) async fn until<T>(
    what: &str,
    limit: Duration,
    interval: Duration,
    mut look: impl AsyncFnMut() -> Result<Option<T>, Failure>,
) -> Result<T, Failure> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            let limit = types::units::format_duration(limit);
            return Err(Failure::other(format!("waited {limit} for {what}")));
        }
        sleep(interval).await;
    }
}
