//! `regent dev`: a cluster of several regions on this machine, as real processes (design.md section 13).
//!
//! Reading order: [`cluster`] (what the demo uses too), `supervise` (what died starts again), then the files it all
//! rests on: `layout`, `spec`, `certs`, `credentials`, `templates`, `listen`, `lock`, `spawn`.

pub(crate) mod certs;
pub(crate) mod cluster;
mod credentials;
mod files;
pub(crate) mod layout;
pub(crate) mod listen;
mod lock;
mod run;
pub(crate) mod spawn;
pub(crate) mod spec;
pub(crate) mod templates;

pub(crate) use run::run;
