//! Bytes in object stores: one trait, its back ends, and the two things that rest on it.
//!
//! Start with [`ArtifactStore`]. [`transfer`] copies artifacts between stores and shows nothing before its SHA-256
//! matched (I3). [`pointer`] is the object-store door (design.md L14, L15): a fixed key whose body carries the epoch.
//! [`probe`] tells whether a store's conditional writes can be trusted with that (L16).
//!
//! Absent on purpose: any type of an SDK in a signature, retries inside a back end (the outcome of a conditional write
//! is the caller's to judge), and chunking.
//!
//! Invariant kept: a PUT that failed is never taken to mean that the object is absent. What may have happened is
//! [`PutError::Unknown`], and the caller reads again.

mod store;
pub use store::{
    ArtifactStore, Body, ByteStream, Condition, Deadlines, ETag, ListPage, ListedObject, ObjectHead,
    PageToken, Upload,
};

mod error;
mod upload;
pub use error::{Details, ErrorKind, PutError, StoreError};

pub mod keys;
pub use keys::ObjectKey;

mod artifact;
pub use artifact::Artifact;

pub mod cache;
pub mod pointer;
pub mod probe;
pub mod transfer;

mod fs;
pub use fs::FsStore;
mod mem;
pub use mem::MemStore;
mod faulty;
pub use faulty::{Fault, FaultyStore, Gate, Operation, Rival};
#[cfg(feature = "s3")]
mod s3;
#[cfg(feature = "s3")]
pub use s3::{S3Config, S3Store};

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod tests;
