//! Making a database a door: installing the fence, looking for what would keep it from holding, and trying it (L16, L17).
//!
//! Absent on purpose: repair of what people set up. Invariant: a door is called fit only if the database itself refused a
//! write under an older epoch, and a raise had to wait for one that was let through.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio_postgres::error::SqlState;
use types::{Epoch, RoleName};

use super::{
    FENCE_USER, Postgres, Trouble,
    connect::{Link, said, trouble},
    token::epoch,
};

/// What is installed; each part is one file.
const PARTS: [&str; 4] = [
    include_str!("sql/1-fence.sql"),
    include_str!("sql/2-guard.sql"),
    include_str!("sql/3-attach.sql"),
    include_str!("sql/4-check.sql"),
];
/// The version that the parts end with. A change of theirs is a new one; it has to work over every older one.
const VERSION: i32 = 2;
/// One installer at a time, in one database.
const LOCK: &str = "SELECT pg_advisory_xact_lock(7235419866217481075)";
/// The oldest server whose triggers can be replaced and whose functions can have bodies that are checked.
const OLDEST: i32 = 140_000;

/// Which run of which database answered. A standby that was promoted is another: it may lack the last raise.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Incarnation {
    /// Made by `initdb`, kept by copies.
    pub system: i64,
    /// Grows with every promotion of a standby.
    pub timeline: i32,
}

/// What was seen of a door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Which database it is.
    pub incarnation: Incarnation,
    /// Why it is no fencing door; empty if it is one.
    pub unfit: Vec<String>,
    /// What people should know.
    pub remarks: Vec<String>,
    /// Tables that are guarded.
    pub tables: usize,
    /// The epoch of every fence. One that sinks was restored from an older state.
    pub epochs: BTreeMap<String, Epoch>,
}

/// See [`Postgres::attach`].
pub(super) async fn attach(
    postgres: &Postgres,
    roles: &[RoleName],
    limit: Duration,
) -> Result<Attached, Trouble> {
    let mut link = postgres.connect().await?;
    // Whoever installs at the same moment is waited for.
    let patient = format!(
        "SET statement_timeout = {0}; SET lock_timeout = {0}",
        limit.as_millis().max(1)
    );
    link.batch(&patient).await.map_err(|e| trouble(&e))?;
    let incarnation = greet(&mut link).await?;
    install(&mut link).await?;
    let mut attached = Attached {
        incarnation,
        unfit: Vec::new(),
        remarks: Vec::new(),
        tables: 0,
        epochs: BTreeMap::new(),
    };
    look(&mut link, &mut attached).await.map_err(|e| trouble(&e))?;
    guarded(&mut link, roles, &mut attached)
        .await
        .map_err(|e| trouble(&e))?;
    let mut other = postgres.connect().await?;
    // What is no door already may keep us from looking further.
    match read_and_try(&mut link, &mut other, &mut attached).await {
        Err(error) if attached.unfit.is_empty() => return Err(trouble(&error)),
        Ok(()) | Err(_) => {}
    }
    other.close().await;
    link.close().await;
    Ok(attached)
}

/// Who answers, and as whom we are there.
async fn greet(link: &mut Link) -> Result<Incarnation, Trouble> {
    let sql = "SELECT current_user::text, current_setting('server_version_num')::integer, pg_is_in_recovery(), \
         s.system_identifier, c.timeline_id FROM pg_control_system() s, pg_control_checkpoint() c";
    let row = link.row(sql, &[]).await.map_err(|e| trouble(&e))?;
    let row = row.ok_or_else(|| Trouble::Unusable("the server says nothing of itself".to_owned()))?;
    let read = || -> Result<(String, i32, bool, Incarnation), tokio_postgres::Error> {
        let incarnation = Incarnation {
            system: row.try_get(3)?,
            timeline: row.try_get(4)?,
        };
        Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, incarnation))
    };
    let (user, version, standby, incarnation) = read().map_err(|e| trouble(&e))?;
    if standby {
        return Err(Trouble::Unreachable("it is a standby, which takes no writes: name the primary, or several hosts with target_session_attrs=read-write".to_owned()));
    }
    if version < OLDEST {
        return Err(Trouble::Unusable(format!(
            "the server's version is {}, and the fence needs PostgreSQL 14 or later",
            version / 10_000
        )));
    }
    if user != FENCE_USER {
        return Err(Trouble::Unusable(format!(
            "the server takes us for {user}, not for {FENCE_USER}"
        )));
    }
    Ok(incarnation)
}

/// Brings what is installed to this build's version; what is newer stays.
async fn install(link: &mut Link) -> Result<(), Trouble> {
    let found = link
        .row("SELECT to_regclass('regent.version') IS NOT NULL", &[])
        .await;
    let installed = found.map_err(|e| trouble(&e))?.is_some_and(|row| row.get(0));
    if installed {
        let row = link
            .row("SELECT version FROM regent.version", &[])
            .await
            .map_err(|e| trouble(&e))?;
        if row.is_some_and(|row| row.get::<_, i32>(0) >= VERSION) {
            return Ok(());
        }
    }
    let script = format!("BEGIN; {LOCK}; {} COMMIT", PARTS.join("\n"));
    match link.batch(&script).await {
        Ok(()) => {
            tracing::info!(version = VERSION, "the fence is installed in the database");
            Ok(())
        }
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            Err(Trouble::Unusable(format!(
                "the fence cannot be installed: {}; a superuser says GRANT CREATE ON DATABASE this_database TO {FENCE_USER}",
                said(&error)
            )))
        }
        Err(error) => Err(trouble(&error)),
    }
}

/// What the database itself finds (`regent.check()`).
async fn look(link: &mut Link, attached: &mut Attached) -> Result<(), tokio_postgres::Error> {
    for row in link
        .query("SELECT severity, relation, finding FROM regent.check()", &[])
        .await?
    {
        let (severity, relation, finding): (&str, &str, &str) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let text = format!("{relation}: {finding}");
        match severity {
            "warn" => attached.remarks.push(text),
            _ => attached.unfit.push(text),
        }
    }
    Ok(())
}

async fn read_and_try(
    link: &mut Link,
    other: &mut Link,
    attached: &mut Attached,
) -> Result<(), tokio_postgres::Error> {
    attached.epochs = epochs(link).await?;
    attached.unfit.extend(try_out(link, other).await?);
    Ok(())
}

/// Where every fence stands.
async fn epochs(link: &mut Link) -> Result<BTreeMap<String, Epoch>, tokio_postgres::Error> {
    let rows = link.query("SELECT role, epoch FROM regent.fence", &[]).await?;
    let pairs = rows
        .iter()
        .map(|row| Ok((row.try_get(0)?, epoch(row.try_get(1)?))));
    pairs.collect()
}

/// A role that guards nothing here was forgotten: by whoever set the database up, or by a restore of an older state.
async fn guarded(
    link: &mut Link,
    roles: &[RoleName],
    attached: &mut Attached,
) -> Result<(), tokio_postgres::Error> {
    let sql = "SELECT DISTINCT role, name FROM regent.guarded WHERE role <> 'regent/probe'";
    let rows = link.query(sql, &[]).await?;
    attached.tables = rows.len();
    let mut found = BTreeSet::new();
    for row in &rows {
        found.insert(row.try_get::<_, String>(0)?);
    }
    for role in roles.iter().filter(|role| !found.contains(role.as_str())) {
        let text = format!(
            "no table is guarded by {role}; a table's owner says SELECT regent.attach('schema.table', '{role}')"
        );
        attached.unfit.push(text);
    }
    Ok(())
}

/// Tries the guard in a transaction that is taken back: what is wrong with it, if anything is.
async fn try_out(link: &mut Link, other: &mut Link) -> Result<Option<String>, tokio_postgres::Error> {
    link.batch("BEGIN").await?;
    let tried = try_within(link, other).await;
    link.batch("ROLLBACK").await?;
    tried
}

async fn try_within(link: &mut Link, other: &mut Link) -> Result<Option<String>, tokio_postgres::Error> {
    // The probe's fence stands at epoch 2. The last one is let through, and stays in the transaction.
    for (epoch, expected) in [("1", "RG001"), ("3", "RG006"), ("", "RG002"), ("2", "")] {
        let found = try_token(link, epoch).await?;
        if found != expected {
            let said = |code: &str| match code {
                "" => "let through".to_owned(),
                code => format!("refused with {code}"),
            };
            let (found, expected) = (said(&found), said(expected));
            return Ok(Some(format!(
                "a write that showed epoch {epoch:?} to a fence at epoch 2 was {found}, and had to be {expected}"
            )));
        }
    }
    holds_up(other).await
}

/// The guard's answer to a write under this epoch; none if it was let through.
async fn try_token(link: &mut Link, epoch: &str) -> Result<String, tokio_postgres::Error> {
    let token = match epoch {
        "" => String::new(),
        epoch => format!("00000000-0000-0000-0000-000000000000 regent/probe {epoch} probe"),
    };
    link.batch(&format!("SAVEPOINT probe; SET LOCAL regent.token = '{token}'"))
        .await?;
    let Err(error) = link.execute("INSERT INTO regent.probe VALUES (1)", &[]).await else {
        return Ok(String::new());
    };
    let code = error.code().map(|code| code.code().to_owned());
    // What is not the guard's word, a time-out or a lost connection, says nothing of it.
    let Some(code) = code.filter(|code| code.starts_with("RG")) else {
        return Err(error);
    };
    link.batch("ROLLBACK TO SAVEPOINT probe").await?;
    Ok(code)
}

/// A write that was let through is not committed yet; nobody may raise the fence before it is.
async fn holds_up(other: &mut Link) -> Result<Option<String>, tokio_postgres::Error> {
    other.batch("SET lock_timeout = '50ms'").await?;
    let sql = "UPDATE regent.fence SET raised_at = raised_at WHERE role = 'regent/probe'";
    match other.execute(sql, &[]).await {
        Ok(_) => Ok(Some(
            "a fence could be raised while a transaction that it had let through was open".to_owned(),
        )),
        Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => Ok(None),
        Err(error) => Err(error),
    }
}
