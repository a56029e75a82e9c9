//! State time: what an entry may do to it (L10).
//!
//! Invariant: it never goes back, an entry that is refused for its time does not move it, and no entry but a time mark moves
//! it by more than [`policy::clock::AHEAD_MAX`].

use policy::clock;
use types::{Principal, UnixMillis, time::ClockReading};

use crate::{
    command::{Command, Entry},
    features::Feature,
    rejection::Rejection,
    state::ControlState,
};

/// State time at an entry, before anything else is looked at.
pub(crate) fn at_entry(state: &ControlState, entry: &Entry) -> Result<UnixMillis, Rejection> {
    let is_on = state.features().has(Feature::TimeMarks);
    if let Command::MarkTime { readings } = &entry.command {
        if !is_on {
            return Err(Rejection::invalid("command", "needs feature level 2"));
        }
        // What its proposer reckoned counts for nothing: the clocks that it names do.
        return Ok(state.time.max(marked(&entry.actor, readings)?));
    }
    if is_on && clock::is_ahead(entry.proposed_at, state.time) {
        return Err(Rejection::TimeAhead {
            stamped: entry.proposed_at,
            state_time: state.time,
        });
    }
    Ok(state.time.max(entry.proposed_at))
}

fn marked(actor: &Principal, readings: &[ClockReading]) -> Result<UnixMillis, Rejection> {
    if !matches!(actor, Principal::Coordinator { .. }) {
        return Err(Rejection::PermissionDenied {
            actor: actor.clone(),
            needs: "a coordinator, which asked the others for their time".to_owned(),
        });
    }
    super::text::at_most("readings", readings.len(), clock::READINGS_MAX)?;
    let mut nodes: Vec<_> = readings.iter().map(|reading| &reading.node).collect();
    nodes.sort_unstable();
    if let Some(twice) = nodes.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Rejection::invalid(
            "readings",
            format!("{} is named twice", twice[0]),
        ));
    }
    clock::median(readings).ok_or_else(|| Rejection::invalid("readings", "there are none"))
}
