//! One connection, and what its failures mean.
//!
//! Absent on purpose: tasks. The connection moves only while a call waits for it, so that a call that is given up leaves
//! nothing behind. Invariant: a session of ours commits durably, waits no longer than it was told to, and reads committed.

use std::{error::Error as _, future::Future, pin::Pin, time::Duration};

use tokio::time::timeout;
use tokio_postgres::{Client, Connection, Row, Socket, types::ToSql};

use super::{Postgres, Trouble, decide::trouble_of, tls};

/// What one host may take to be reached, its greeting included.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// For the polite end of a connection.
const CLOSE_LIMIT: Duration = Duration::from_millis(100);

/// A standing or role default of the server says nothing here: it could be another isolation, or a commit that is not kept.
const SESSION: &str = "SET default_transaction_isolation = 'read committed'; SET default_transaction_read_only = off; \
     SET statement_timeout = '5s'; SET lock_timeout = '1s'; SET idle_in_transaction_session_timeout = '10s'; \
     SET client_min_messages = warning; SET search_path = pg_catalog; SET jit = off; \
     SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') IN ('off', 'local')";

type Driver = Pin<Box<Connection<Socket, tls::Stream>>>;

/// A connection of our own.
pub(super) struct Link {
    client: Client,
    driver: Driver,
}

/// Runs a call within its time.
pub(super) async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, Trouble>>,
) -> Result<T, Trouble> {
    let late = || Trouble::Unreachable(format!("no answer within {limit:?}"));
    timeout(limit, call).await.unwrap_or_else(|_| Err(late()))
}

impl Postgres {
    /// Connects as the fence's owner.
    pub(super) async fn connect(&self) -> Result<Link, Trouble> {
        let mut target = self.target.clone();
        target.connect_timeout(CONNECT_LIMIT);
        if let Some(path) = &self.config.password_file {
            let text = tokio::fs::read_to_string(path).await.map_err(|error| {
                let path = path.display();
                Trouble::Unusable(format!(
                    "password_file is {path}: {error}; name a file that is there and that this user can read"
                ))
            })?;
            target.password(text.trim_end_matches(['\r', '\n']));
        }
        let tls = tls::MakeTls::trusting(self.config.ca_file.as_deref())?;
        let connected = timeout(CONNECT_LIMIT, target.connect(tls)).await;
        let connected =
            connected.map_err(|_| Trouble::Unreachable(format!("no answer within {CONNECT_LIMIT:?}")))?;
        let (client, connection) = connected.map_err(|error| trouble(&error))?;
        let mut link = Link {
            client,
            driver: Box::pin(connection),
        };
        link.batch(SESSION).await.map_err(|error| trouble(&error))?;
        Ok(link)
    }
}

impl Link {
    /// Runs statements that give nothing back.
    pub(super) async fn batch(&mut self, sql: &str) -> Result<(), tokio_postgres::Error> {
        drive(&mut self.driver, self.client.batch_execute(sql)).await
    }

    /// The rows of one statement.
    pub(super) async fn query(
        &mut self,
        sql: &str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        drive(&mut self.driver, self.client.query(sql, values)).await
    }

    /// The row of a statement that gives at most one.
    pub(super) async fn row(
        &mut self,
        sql: &str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Option<Row>, tokio_postgres::Error> {
        drive(&mut self.driver, self.client.query_opt(sql, values)).await
    }

    /// How many rows one statement changed.
    pub(super) async fn execute(
        &mut self,
        sql: &str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, tokio_postgres::Error> {
        drive(&mut self.driver, self.client.execute(sql, values)).await
    }

    /// Says good-bye, so that the server's log stays clean.
    pub(super) async fn close(self) {
        drop(self.client);
        // What went wrong here was told before, or matters to nobody.
        drop(timeout(CLOSE_LIMIT, self.driver).await);
    }
}

/// Moves the connection while a call waits for it. One that ends answers the call with an error of its own.
async fn drive<T>(
    driver: &mut Driver,
    call: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, tokio_postgres::Error> {
    tokio::pin!(call);
    tokio::select! {
        biased;
        done = &mut call => done,
        ended = driver.as_mut() => match ended {
            Err(error) => Err(error),
            Ok(()) => call.await,
        },
    }
}

/// What a failure of the client library means.
pub(super) fn trouble(error: &tokio_postgres::Error) -> Trouble {
    trouble_of(
        error.code().map(tokio_postgres::error::SqlState::code),
        is_io(error),
        said(error),
    )
}

/// What a failure says, with its causes; the server's words with their code and hint. Never a password.
pub(super) fn said(error: &tokio_postgres::Error) -> String {
    if let Some(db) = error.as_db_error() {
        let more = [db.detail(), db.hint()].into_iter().flatten();
        let more: String = more.map(|text| format!("; {text}")).collect();
        return format!("{} ({}){more}", db.message(), db.code().code());
    }
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// Whether the network or the other end failed, and not a rule.
fn is_io(error: &tokio_postgres::Error) -> bool {
    let tls = |e: &std::io::Error| e.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            return !tls(io);
        }
        source = cause.source();
    }
    error.is_closed()
}
