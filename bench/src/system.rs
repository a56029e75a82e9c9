//! What the load needs of a system: sessions that put and get, servers that cost something.

use std::future::Future;

use crate::process::Server;

/// Clients that share their connections, as those of one process do; one has a connection to each member.
pub const CLIENTS_PER_PROCESS: usize = 16;

/// An operation that has no good answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failed(pub String);

/// One client.
pub trait Session: Send + 'static {
    /// Makes a key.
    fn create(&mut self, key: usize, value: &str) -> impl Future<Output = Result<(), Failed>> + Send;
    /// Sets a key's value; `Ok` once the system says that it is durable.
    fn put(&mut self, key: usize, value: &str) -> impl Future<Output = Result<(), Failed>> + Send;
    /// The value of a key as of now: linearizable.
    fn get(&mut self, key: usize) -> impl Future<Output = Result<String, Failed>> + Send;
}

/// A running cluster of three.
pub trait System {
    /// Its clients.
    type Session: Session;
    /// As the rows call it.
    fn name(&self) -> &str;
    /// Its processes.
    fn servers(&self) -> &[Server];
    /// So many clients, spread over the members, on connections that stand.
    fn sessions(&self, clients: usize) -> impl Future<Output = anyhow::Result<Vec<Self::Session>>>;
    /// Ends it.
    fn stop(self) -> impl Future<Output = anyhow::Result<()>>;
    /// What is done between two cells, outside what is measured.
    fn tidy_up(&self) -> impl Future<Output = anyhow::Result<()>>;
}
