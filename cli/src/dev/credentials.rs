//! The key pair of a cluster's object stores: made at random once, kept in files that the owner alone can read.

use client::context::StoreCredentials;
use rand::Rng as _;

use crate::{
    dev::{
        files::{self, Access},
        layout::Layout,
    },
    error::Failure,
};

/// Makes the key pair where it is missing; returns where it stands.
pub(crate) fn issue(layout: &Layout) -> Result<StoreCredentials, Failure> {
    let keys = StoreCredentials {
        access_key_file: layout.store_access_key(),
        secret_key_file: layout.store_secret_key(),
    };
    if !keys.access_key_file.exists() || !keys.secret_key_file.exists() {
        files::write(&keys.secret_key_file, random_text(40).as_bytes(), Access::Secret)?;
        files::write(&keys.access_key_file, random_text(20).as_bytes(), Access::Secret)?;
    }
    Ok(keys)
}

fn random_text(length: usize) -> String {
    let letters = rand::rng().sample_iter(rand::distr::Alphanumeric);
    letters.take(length).map(char::from).collect()
}
