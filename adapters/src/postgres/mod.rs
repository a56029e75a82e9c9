//! A PostgreSQL database as a fencing door (design.md L17): triggers of its own refuse writes under an epoch that is over.
//!
//! The database keeps one fence row for each role. A guarded table's trigger takes that row FOR SHARE until the writer's
//! transaction ends, and compares the token that the transaction shows; the raise is an UPDATE of it that only `regent_fence`
//! may make. So each write was committed before the raise, or is refused. The SQL stands in `sql/`, with the arguments;
//! docs/protocol/postgres.md is for those who write to such tables.
//! Absent on purpose: creating roles and tables, and any right beyond those of `regent_fence`.
//! Invariants: an epoch in a database never sinks; a raise is told as done only after the database has committed it.

mod attach;
mod config;
mod connect;
pub(crate) mod decide;
mod raise;
mod tls;
mod token;

use std::time::Duration;

use types::{FencingToken, Lineage, RoleName};

pub use attach::{Attached, Incarnation};
pub use config::{BadPostgres, FENCE_USER, PostgresConfig};
pub use decide::{Fence, Refusal, Refused, Standing, refused};
pub use raise::{RaiseError, Raised};
pub use token::{TOKEN_SETTING, show, token_text};

/// Why a database did nothing for us.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// It does not answer, or takes no writes now: it starts, stops, or is a standby. It may be there soon.
    #[error("{0}")]
    Unreachable(String),
    /// It answers and says no: a wrong password, a missing right, a certificate that is not the one named. Only people can
    /// mend that.
    #[error("{0}")]
    Unusable(String),
    /// Others hold what is needed, so far.
    #[error("{0}")]
    Contended(String),
}

/// One database. Every call connects anew: raises are rare, and a password that was changed is read again.
#[derive(Clone, Debug)]
pub struct Postgres {
    config: PostgresConfig,
    target: tokio_postgres::Config,
}

impl Postgres {
    /// Takes a config; does not connect.
    ///
    /// # Errors
    /// What cannot be used, and what to write instead.
    pub fn new(config: PostgresConfig) -> Result<Self, BadPostgres> {
        let target = config.target()?;
        Ok(Self { config, target })
    }

    /// Installs or upgrades the fence where it is missing, looks for what would keep it from holding, and tries it: a write
    /// under an older epoch must be refused, and a transaction that was let through must hold a raise up. `roles` are those
    /// that ought to guard tables here. Takes `limit` at most.
    ///
    /// # Errors
    /// Nothing can be said of the door yet.
    pub async fn attach(&self, roles: &[RoleName], limit: Duration) -> Result<Attached, Trouble> {
        connect::within(limit, attach::attach(self, roles, limit)).await
    }

    /// Brings a role's fence under this token. Waits [`PostgresConfig::patience`] for transactions that were let through
    /// under an older epoch, then ends their connections. Takes `limit` at most. Raising again what stands is no change.
    ///
    /// # Errors
    /// The door stands under another epoch or holder, or the epoch could not be raised in time; it may be raised all the
    /// same then, and announced: writers under older epochs are refused from the announcement on.
    pub async fn raise(&self, token: &FencingToken, limit: Duration) -> Result<Raised, RaiseError> {
        self.raise_for(token, &Lineage::first(token.cluster_id), limit)
            .await
    }

    /// As [`Postgres::raise`], also over the fence of a cluster that the token's goes on from (L19): that one is noted as over first, and
    /// neither raises nor writes here any more.
    ///
    /// # Errors
    /// As for [`Postgres::raise`].
    pub async fn raise_for(
        &self,
        token: &FencingToken,
        lineage: &Lineage,
        limit: Duration,
    ) -> Result<Raised, RaiseError> {
        raise::raise(self, token, lineage, limit).await
    }

    /// How a role's fence stands; none where no epoch of it was raised yet.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn read(&self, role: &RoleName, limit: Duration) -> Result<Option<Standing>, Trouble> {
        let reading = async {
            let mut link = self.connect().await?;
            let standing = raise::read(&mut link, role).await?;
            link.close().await;
            Ok(standing)
        };
        connect::within(limit, reading).await
    }
}
