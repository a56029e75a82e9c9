//! Raising a role's fence: read, announce, wait for those who hold out, end them, raise.
//!
//! Why announce: a row lock in share mode passes a waiting UPDATE by, so writers that overlap could hold it up for ever. What
//! is announced is committed at once, and the guard refuses older epochs from then on; those who hold the row only get fewer.
//! Absent on purpose: whose epoch it is. Invariant: [`Raised`] is told only of an epoch that the database has committed, or
//! that it was read to have committed.

use std::{collections::BTreeSet, convert::Infallible, future::Future, time::Duration};

use tokio::time::{Instant, sleep, timeout_at};
use tokio_postgres::error::SqlState;
use types::{Epoch, FencingToken, Lineage, RoleName};

use super::{
    Postgres, Trouble,
    connect::{Link, said, trouble},
    decide::{Decision, Fence, Refusal, Standing, decide},
    token::{epoch, holder_text, number},
};

/// Looks at the fence in one raise. Each further one means that another raiser was faster, with an epoch of its own.
const LOOKS: usize = 8;
/// Between two looks for who holds out: an ended connection takes some milliseconds to let go.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// Before the next try to look for who holds out, after one that failed.
const LOOK_RETRY: Duration = Duration::from_millis(50);

const READ: &str = "SELECT f.cluster_id::text, f.epoch, f.holder, a.cluster_id::text, a.epoch, a.holder \
     FROM regent.fence f LEFT JOIN regent.announced a USING (role) WHERE f.role = $1";
const CREATE: &str = "INSERT INTO regent.fence (role, cluster_id, epoch, holder) VALUES ($1, $2::text::uuid, $3, $4) \
     ON CONFLICT (role) DO NOTHING";
const ANNOUNCE: &str = "INSERT INTO regent.announced AS a (role, cluster_id, epoch, holder) VALUES ($1, $2::text::uuid, $3, $4) \
     ON CONFLICT (role) DO UPDATE SET cluster_id = excluded.cluster_id, epoch = excluded.epoch, holder = excluded.holder, \
     announced_at = clock_timestamp() \
     WHERE (a.cluster_id = excluded.cluster_id OR a.cluster_id::text = ANY ($5)) AND a.epoch < excluded.epoch";
const RAISE: &str = "UPDATE regent.fence SET cluster_id = $2::text::uuid, epoch = $3, holder = $4, raised_at = clock_timestamp() \
     WHERE role = $1 AND (cluster_id = $2::text::uuid OR cluster_id::text = ANY ($5)) AND epoch < $3";
/// Before anything is raised over them: no raise of theirs is taken from then on, also where this one is cut short.
const CLOSE: &str = "INSERT INTO regent.superseded (cluster_id, by) SELECT old::uuid, $2::text::uuid FROM unnest($1::text[]) AS old \
     ON CONFLICT (cluster_id) DO NOTHING";
/// Zero stands for a prepared transaction. Another raiser is no holder; one whose process died still waits at the server, before
/// us, and ends nobody any more: whoever it waits for is looked up through it.
const HOLDERS: &str = "WITH RECURSIVE b (pid) AS (SELECT unnest(pg_blocking_pids($1)) \
     UNION SELECT unnest(pg_blocking_pids(b.pid)) FROM b JOIN pg_stat_activity r ON r.pid = b.pid AND r.usename = current_user) \
     SELECT b.pid, coalesce(a.usename::text, '') FROM b LEFT JOIN pg_stat_activity a ON a.pid = b.pid \
     WHERE a.usename IS DISTINCT FROM current_user";

/// A fence that stands under the epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raised {
    /// The epoch before; none where it stood already, or where there was none.
    pub previous: Option<Epoch>,
    /// Connections that were ended because they held the raise up.
    pub ended: usize,
}

/// Why a fence does not stand under the epoch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RaiseError {
    /// The door says no: another epoch rules.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The database does not let us, now or at all.
    #[error(transparent)]
    Trouble(#[from] Trouble),
}

impl From<tokio_postgres::Error> for RaiseError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Trouble(trouble(&error))
    }
}

/// Who held a raise up.
#[derive(Debug, Default)]
struct Holdouts {
    ended: BTreeSet<i32>,
    /// Why some are left.
    left: Option<String>,
}

/// How a role stands.
pub(super) async fn read(link: &mut Link, role: &RoleName) -> Result<Option<Standing>, Trouble> {
    let row = link.row(READ, &[&role.as_str()]).await.map_err(|e| trouble(&e))?;
    let Some(row) = row else { return Ok(None) };
    let fence = |first: usize| -> Result<Option<Fence>, tokio_postgres::Error> {
        let (cluster, number, holder): (Option<String>, Option<i64>, Option<String>) = (
            row.try_get(first)?,
            row.try_get(first + 1)?,
            row.try_get(first + 2)?,
        );
        let fence = cluster.zip(number).zip(holder);
        Ok(fence.map(|((cluster_id, number), holder)| Fence {
            cluster_id,
            epoch: epoch(number),
            holder,
        }))
    };
    let announced = fence(3).map_err(|e| trouble(&e))?;
    let fence = fence(0).map_err(|e| trouble(&e))?;
    Ok(fence.map(|fence| Standing { fence, announced }))
}

/// See [`Postgres::raise`].
pub(super) async fn raise(
    postgres: &Postgres,
    token: &FencingToken,
    lineage: &Lineage,
    limit: Duration,
) -> Result<Raised, RaiseError> {
    let mine = Raiser {
        token,
        lineage,
        closed: lineage.closed.iter().map(ToString::to_string).collect(),
    };
    let deadline = Instant::now() + limit;
    let raising = async {
        let mut link = postgres.connect().await?;
        let raised = looks(postgres, &mut link, &mine, deadline).await;
        link.close().await;
        raised
    };
    let late = || Trouble::Unreachable(format!("no answer within {limit:?}")).into();
    timeout_at(deadline, raising)
        .await
        .unwrap_or_else(|_| Err(late()))
}

/// Whose raise it is, and over which clusters' it may go.
struct Raiser<'a> {
    token: &'a FencingToken,
    lineage: &'a Lineage,
    /// As the database is asked for them.
    closed: Vec<String>,
}

async fn looks(
    postgres: &Postgres,
    link: &mut Link,
    mine: &Raiser<'_>,
    deadline: Instant,
) -> Result<Raised, RaiseError> {
    let mut ended = 0;
    for _ in 0..LOOKS {
        let standing = read(link, &mine.token.role).await?;
        let previous = match decide(standing.as_ref(), mine.token, mine.lineage) {
            Decision::Stands => {
                return Ok(Raised {
                    previous: None,
                    ended,
                });
            }
            Decision::Refuse(refusal) => return Err(refusal.into()),
            Decision::Create if create(link, mine.token).await? => {
                return Ok(Raised {
                    previous: None,
                    ended,
                });
            }
            Decision::Create => continue,
            Decision::Raise(previous) => previous,
            Decision::Rebind(previous) => {
                close(link, mine).await?;
                previous
            }
        };
        write(link, ANNOUNCE, mine).await?;
        let (raised, more) = over_holdouts(postgres, link, mine, deadline).await?;
        ended += more;
        if raised {
            let previous = Some(previous);
            return Ok(Raised { previous, ended });
        }
    }
    Err(Trouble::Contended(format!(
        "{LOOKS} times another epoch was raised at the same moment"
    ))
    .into())
}

/// The first epoch of a role; whether nobody was faster.
async fn create(link: &mut Link, token: &FencingToken) -> Result<bool, tokio_postgres::Error> {
    let (cluster, epoch, holder) = columns(token);
    let made = link
        .execute(CREATE, &[&token.role.as_str(), &cluster, &epoch, &holder])
        .await?;
    Ok(made > 0)
}

/// Notes for ever that the clusters are over that this one goes on from.
async fn close(link: &mut Link, mine: &Raiser<'_>) -> Result<(), tokio_postgres::Error> {
    let by = mine.token.cluster_id.to_string();
    let closed = link.execute(CLOSE, &[&mine.closed, &by]).await?;
    if closed > 0 {
        tracing::warn!(cluster = %by, superseded = ?mine.closed, "a database goes over to another cluster");
    }
    Ok(())
}

/// Makes one statement of the raise; whether it changed the row.
async fn write(link: &mut Link, sql: &str, mine: &Raiser<'_>) -> Result<bool, tokio_postgres::Error> {
    let (cluster, epoch, holder) = columns(mine.token);
    let role = mine.token.role.as_str();
    let changed = link
        .execute(sql, &[&role, &cluster, &epoch, &holder, &mine.closed])
        .await?;
    Ok(changed > 0)
}

fn columns(token: &FencingToken) -> (String, i64, String) {
    // One that is too large was refused before.
    let epoch = number(token.epoch).unwrap_or(i64::MAX);
    (token.cluster_id.to_string(), epoch, holder_text(&token.holder))
}

/// The UPDATE itself, and meanwhile the end of who holds it up for too long: whether it changed the row, and how many were
/// ended.
async fn over_holdouts(
    postgres: &Postgres,
    link: &mut Link,
    mine: &Raiser<'_>,
    deadline: Instant,
) -> Result<(bool, usize), RaiseError> {
    let left = deadline.saturating_duration_since(Instant::now());
    // A tenth less than the caller waits: the server itself says that it could not, and stops trying.
    let wait = left - left / 10;
    link.batch(&format!(
        "SET lock_timeout = {0}; SET statement_timeout = {0}",
        wait.as_millis().max(1)
    ))
    .await?;
    let own = link.row("SELECT pg_backend_pid()", &[]).await?;
    let own: i32 = own.map_or(Ok(0), |row| row.try_get(0))?;
    let patience = postgres.config.patience.min(left / 2);
    let mut holdouts = Holdouts::default();
    let done = either(
        write(link, RAISE, mine),
        end_holdouts(postgres, own, patience, &mut holdouts),
    )
    .await;
    match done {
        Ok(raised) => Ok((raised, holdouts.ended.len())),
        Err(error) => Err(waited_for_nothing(&error, wait, holdouts).into()),
    }
}

/// The first; the second never ends by itself.
async fn either<T>(first: impl Future<Output = T>, second: impl Future<Output = Infallible>) -> T {
    tokio::select! {
        biased;
        done = first => done,
        never = second => match never {},
    }
}

/// A raise that one of its time-outs ended was held up: by whom, as far as that was seen.
fn waited_for_nothing(error: &tokio_postgres::Error, wait: Duration, holdouts: Holdouts) -> Trouble {
    let held_up = [SqlState::LOCK_NOT_AVAILABLE, SqlState::QUERY_CANCELED].map(Some);
    if !held_up.contains(&error.code().cloned()) {
        return trouble(error);
    }
    let ended = match holdouts.ended.len() {
        0 => String::new(),
        n => format!(", {n} connections were ended"),
    };
    let why = holdouts.left.unwrap_or_else(|| said(error));
    Trouble::Contended(format!(
        "open transactions held the raise up for {wait:?}{ended}: {why}"
    ))
}

/// After `patience`: ends every connection that the waiting one waits for, as they come. Looks from a connection of its own.
async fn end_holdouts(
    postgres: &Postgres,
    waiting: i32,
    patience: Duration,
    holdouts: &mut Holdouts,
) -> Infallible {
    sleep(patience).await;
    loop {
        match postgres.connect().await {
            Ok(mut link) => {
                let Err(error) = end_all(&mut link, waiting, holdouts).await;
                holdouts.left = Some(format!("they cannot be looked for: {}", trouble(&error)));
            }
            Err(trouble) => holdouts.left = Some(format!("they cannot be looked for: {trouble}")),
        }
        sleep(LOOK_RETRY).await;
    }
}

async fn end_all(
    link: &mut Link,
    waiting: i32,
    holdouts: &mut Holdouts,
) -> Result<Infallible, tokio_postgres::Error> {
    loop {
        for row in link.query(HOLDERS, &[&waiting]).await? {
            let (pid, user): (i32, String) = (row.try_get(0)?, row.try_get(1)?);
            end_one(link, pid, &user, holdouts).await;
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// Ends one connection; what was in its transaction never happened.
async fn end_one(link: &mut Link, pid: i32, user: &str, holdouts: &mut Holdouts) {
    if pid == 0 {
        let why =
            "a prepared transaction holds it: see pg_prepared_xacts, and COMMIT or ROLLBACK PREPARED it";
        holdouts.left = Some(why.to_owned());
        return;
    }
    // Noted before: its transaction may be over, and the raise done, before the answer is here.
    if holdouts.ended.insert(pid) {
        tracing::warn!(
            pid,
            user,
            "ending a connection that holds up the raise of an epoch"
        );
    }
    if let Err(error) = link.row("SELECT pg_terminate_backend($1)", &[&pid]).await {
        holdouts.ended.remove(&pid);
        let why = said(&error);
        holdouts.left = Some(format!(
            "process {pid} of {user} holds it and cannot be ended: {why}"
        ));
    }
}
