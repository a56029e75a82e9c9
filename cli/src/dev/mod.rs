//! `regent dev`: a cluster of several regions on this machine, as real processes (design.md section 13).
//!
//! Reading order: [`cluster`] (what the demo uses too), `supervise` (what died starts again), then the files it all
//! rests on: `layout`, `spec`, `certs`, `credentials`, `templates`, `listen`, `lock`, `spawn`.

mod banner;
pub(crate) mod certs;
pub(crate) mod cluster;
mod configs;
mod credentials;
mod drain;
pub(crate) mod files;
pub(crate) mod info;
pub(crate) mod layout;
pub(crate) mod listen;
mod lock;
mod ready;
mod run;
mod sockets;
pub(crate) mod spawn;
pub(crate) mod spec;
mod start;
mod supervise;
pub(crate) mod templates;
#[cfg(test)]
mod tests;

pub(crate) use run::run;
