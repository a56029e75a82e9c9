//! A service of one's own that writes to PostgreSQL while its agent holds a role: it starts the agent of a config, waits until
//! that one holds the role, and adds a line to a guarded table every second, each time under the token of that moment.
//!
//! `cargo run -p node-agent --example guarded_writes -- agent.toml primaries/orders postgres://app@127.0.0.1/shop`
//! with `CREATE TABLE public.beats (at timestamptz, holder text)` guarded by the role (docs/protocol/postgres.md).

use std::{error::Error, path::Path, process::ExitCode, time::Duration};

use adapters::postgres::{Refused, refused, show};
use client::guard::BootInstant;
use node_agent::{Agent, AgentConfig, roles::Roles};
use tokio_postgres::{Client, NoTls};
use types::RoleName;

type Failed = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [config, role, url] = arguments.as_slice() else {
        eprintln!("usage: guarded_writes CONFIG ROLE URL");
        return ExitCode::from(2);
    };
    match serve(Path::new(config), role, url).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("guarded_writes: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(config: &Path, role: &str, url: &str) -> Result<(), Failed> {
    let role: RoleName = role.parse()?;
    let agent = Agent::builder(AgentConfig::load(config)?).start().await?;
    let roles = agent.roles().clone();
    let (mut database, connection) = tokio_postgres::connect(url, NoTls).await?;
    let stopped = async {
        tokio::select! {
            ended = connection => eprintln!("the database went away: {ended:?}"),
            () = beat(&roles, &role, &mut database) => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    };
    agent.run_until(stopped).await?;
    Ok(())
}

/// A line a second, for as long as the role is held.
async fn beat(roles: &Roles, role: &RoleName, database: &mut Client) {
    loop {
        match write(roles, role, database).await {
            Ok(()) => eprintln!("written"),
            Err(error) => eprintln!("not written: {error}"),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn write(roles: &Roles, role: &RoleName, database: &mut Client) -> Result<(), Failed> {
    // Asked for anew each time: it is good for as long as the lease, and not a moment longer.
    let (token, until) = roles.token(role)?;
    let work = async {
        let transaction = database.transaction().await?;
        show(&transaction, &token).await?;
        let holder = token.holder.to_string();
        let sql = "INSERT INTO public.beats (at, holder) VALUES (now(), $1)";
        transaction.execute(sql, &[&holder]).await?;
        transaction.commit().await
    };
    // Work that is not over by then is given up (L5); whether it was written, the database judges by the epoch.
    let done = tokio::time::timeout(until.since(BootInstant::now()), work).await?;
    done.map_err(|error| match error.code().and_then(|code| refused(code.code())) {
        Some(Refused::StaleEpoch | Refused::OtherHolder) => {
            "another holds the role: no more writes here".into()
        }
        Some(Refused::NotRaised) => "the database is not claimed yet; try again".into(),
        Some(_) | None => Failed::from(error),
    })
}
