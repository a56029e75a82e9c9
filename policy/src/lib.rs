//! Every decision, pure: (view of state, observations, settings, now) -> choice and reasons.
//!
//! Absent on purpose: clocks, I/O, logging, randomness. Coordinator, agent, `state::apply`, the CLI's previews and the
//! tests call the same functions, so that none of them decides by a copy of the rule.
//! Invariant: equal arguments give equal answers, and every answer says why.
//!
//! Reading order: [`fence`] (who may write), [`door`] (what an agent lets in), [`rebind`] (which cluster a door belongs to),
//! [`readiness`] (who can serve), [`placement`] (where copies belong), [`experiment`] (who gets which version),
//! [`health`] (which regions are well), [`failover`] (what to do about it), [`features`] (which rules
//! a whole cluster knows), [`clock`] (what time it is), [`compaction`] (when a
//! snapshot is due), [`membership`] (who may leave), [`standing`] (whose disk is older than
//! others remember), [`timing`] (how fast elections are), [`leader`] (which coordinator should lead), [`witness`] (when one that
//! serves nobody campaigns), [`integrity`] (whose state is the log's), [`lag`] (how far behind a member is).

#![warn(missing_docs)]
#![forbid(unsafe_code)]
#![deny(
    clippy::float_arithmetic,
    clippy::wildcard_enum_match_arm,
    clippy::match_wildcard_for_single_variants
)]

pub mod clock;
pub mod compaction;
pub mod door;
pub mod experiment;
pub mod failover;
pub mod features;
pub mod fence;
pub mod health;
pub mod integrity;
pub mod lag;
pub mod leader;
pub mod membership;
pub mod placement;
pub mod readiness;
pub mod rebind;
pub mod standing;
pub mod timing;
pub mod witness;

#[cfg(test)]
mod tests;
