//! How anything talks to the coordinators: the CLI, agents, drills, and programs that embed them.
//!
//! [`Client`] has one method per call of `regent.v1`, each with one deadline. Retries live in [`retry`] and nowhere
//! else: a request is sent again only if it surely had no effect, or under the same request id. [`watch`] folds the
//! cluster's state, [`session`] keeps an agent's tie to the leader, [`guard`] is the client-side door: it knows how
//! long a lease still holds.
//!
//! Absent on purpose: rules of the registry, and any wall clock in a decision about a lease.
//! Invariant: an `Err` whose reason is not [`types::reason::Category::Unknown`] means that nothing was changed.

#![warn(missing_docs)]
#![forbid(unsafe_code)]

pub mod agents;
pub mod calls;
pub mod channel;
pub mod complaint;
pub mod context;
pub mod credentials;
pub mod guard;
pub mod identity;
pub mod reach;
pub mod rebind;
pub mod retry;
pub mod session;
pub mod tls13;
mod tour;
pub mod watch;

pub use agents::AgentClient;
pub use calls::Client;
pub use channel::{ClientConfig, TlsFiles};
pub use complaint::Complaint;
pub use context::Context;
pub use credentials::{BadCredentials, Callee, Credentials, Distrust};
pub use rebind::{CaKey, CaVerifier};

#[cfg(test)]
mod reach_tests;
#[cfg(test)]
mod tests;
