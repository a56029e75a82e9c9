//! `regent cluster rebind …`: that this cluster goes on from another one, signed by the CA (L19).
//!
//! Absent on purpose: who follows, and by which rules (`policy::rebind`). Invariant: no signature is sent to the cluster that the CA's
//! certificate of the own context does not verify.

#[cfg(test)]
mod tests;

use std::{fs, path::Path};

use client::{
    CaKey, CaVerifier,
    calls::{ChangeOptions, Header},
    reach::cluster_of,
};
use proto::convert::rebinds;
use serde_json::{Value, json};
use types::{ClusterId, Rebind, SignedRebind};

use super::super::{changer, tell_change};
use crate::{
    args::{ChangeArgs, RebindCommand, Shared, WhichArgs},
    context,
    error::Failure,
    exit::Exit,
    output::{answer, table},
};

/// Runs one.
pub(super) async fn run(command: RebindCommand, shared: &Shared) -> Result<(), Failure> {
    match command {
        RebindCommand::List => list(shared).await,
        RebindCommand::Statement(which) => statement(&which, shared).await,
        RebindCommand::Sign(args) => {
            let key = load_key(&args.ca_key, &verifier(shared)?)?;
            let statement = choose(&standing(shared).await?, &args.which)?;
            let signed = key.sign(statement).map_err(Failure::other)?;
            keep(&signed, &args.change, shared).await
        }
        RebindCommand::Record(args) => {
            let signature =
                fs::read(&args.signature).map_err(|e| Failure::file("read", &args.signature, e))?;
            let signed = SignedRebind {
                statement: choose(&standing(shared).await?, &args.which)?,
                signature,
            };
            if !verifier(shared)?.verifies(&signed) {
                return Err(not_of_the_ca(&args.signature));
            }
            keep(&signed, &args.change, shared).await
        }
    }
}

/// A CA's key, which must be that of the CA that doors trust.
pub(super) fn load_key(file: &Path, ca: &CaVerifier) -> Result<CaKey, Failure> {
    CaKey::load(file, ca.clone()).map_err(Failure::from)
}

fn not_of_the_ca(file: &Path) -> Failure {
    let text = format!(
        "{} is no signature of this statement by the CA of this context",
        file.display()
    );
    Failure::usage(text).with("file", file.display()).remedy(
        "sign what `regent cluster rebind statement` prints, unchanged, with the key of the CA that signed the nodes' certificates: openssl dgst \
         -sha256 -sign ca.key -out rebind.sig rebind.txt",
    )
}

fn verifier(shared: &Shared) -> Result<CaVerifier, Failure> {
    Ok(CaVerifier::load(&context::load(shared)?.tls.ca_file)?)
}

/// What a coordinator says of its cluster.
struct Standing {
    cluster: ClusterId,
    generation: u32,
    rebinds: Vec<SignedRebind>,
}

async fn standing(shared: &Shared) -> Result<Standing, Failure> {
    let client = context::client(shared)?;
    let (_, Header { cluster_id, .. }) = client.settings().await?;
    let mut all = client.every_status(shared.timeout).await;
    // Each tells its own view: of those of this cluster the one that has applied most.
    all.retain(|(_, status)| cluster_of(status) == Some(cluster_id));
    let newest = all.into_iter().max_by_key(|(_, status)| status.applied_index);
    let (_, status) =
        newest.ok_or_else(|| Failure::new(Exit::Unavailable, "no coordinator says how it is"))?;
    Ok(Standing {
        cluster: cluster_id,
        generation: status.generation,
        rebinds: rebinds::understood(status.rebinds),
    })
}

async fn list(shared: &Shared) -> Result<(), Failure> {
    let standing = standing(shared).await?;
    let document = json!({
        "cluster_id": standing.cluster,
        "generation": standing.generation,
        "rebinds": documents(&standing.rebinds),
    });
    answer(shared.output, &document, || {
        text(standing.cluster, standing.generation, &standing.rebinds)
    })
}

/// For programs.
pub(super) fn documents(rebinds: &[SignedRebind]) -> Vec<Value> {
    let one = |rebind: &SignedRebind| {
        json!({
            "cluster_id": rebind.statement.cluster,
            "supersedes": rebind.statement.supersedes,
            "generation": rebind.statement.generation,
            "signed": rebind.is_signed(),
            "statement": rebind.statement.to_string(),
        })
    };
    rebinds.iter().map(one).collect()
}

fn text(cluster: ClusterId, generation: u32, rebinds: &[SignedRebind]) -> String {
    let head = format!("cluster     {cluster}\ngeneration  {generation}");
    if rebinds.is_empty() {
        return format!("{head}\n\nit goes on from no other cluster");
    }
    let rows = rebinds.iter().map(|rebind| {
        let said = rebind.statement;
        let signed = if rebind.is_signed() {
            "yes"
        } else {
            "no: doors of the old one stay"
        };
        [
            said.cluster.to_string(),
            said.supersedes.to_string(),
            said.generation.to_string(),
            signed.to_owned(),
        ]
    });
    format!(
        "{head}\n\n{}",
        table(["CLUSTER", "SUPERSEDES", "FROM GENERATION", "SIGNED"], rows)
    )
}

async fn statement(which: &WhichArgs, shared: &Shared) -> Result<(), Failure> {
    let statement = choose(&standing(shared).await?, which)?;
    let document = json!({ "statement": statement.to_string() });
    // The line feed at its end is part of what is signed, and comes with every answer.
    answer(shared.output, &document, || {
        statement.to_string().trim_end().to_owned()
    })
}

/// The statement that is meant: one that waits for a signature, or one of this cluster that nobody has asked for yet.
fn choose(standing: &Standing, which: &WhichArgs) -> Result<Rebind, Failure> {
    let statements = || standing.rebinds.iter();
    if let Some(supersedes) = which.supersedes {
        let new = Rebind {
            cluster: standing.cluster,
            supersedes,
            generation: standing.generation,
        };
        // The one of the cluster that ended it, where that is another one: this one follows from it.
        let known = statements().find(|r| r.statement.supersedes == supersedes && !r.is_signed());
        return Ok(known.map_or(new, |known| known.statement));
    }
    let mut open = statements().filter(|rebind| !rebind.is_signed());
    match (open.next(), open.next()) {
        (Some(rebind), None) => Ok(rebind.statement),
        (None, _) => Err(Failure::new(Exit::Precondition, "no statement of this cluster waits for a signature")
            .remedy("`regent cluster rebind list` shows them; --supersedes names another cluster that this one goes on from")),
        (Some(_), Some(_)) => Err(Failure::usage("several statements wait for a signature")
            .remedy("name one by --supersedes; `regent cluster rebind list` shows them")),
    }
}

async fn keep(signed: &SignedRebind, change: &ChangeArgs, shared: &Shared) -> Result<(), Failure> {
    let client = changer(shared, change, ChangeOptions::default())?;
    let kept = client.record_rebind(signed).await?;
    let document = json!({ "rebinds": documents(&kept) });
    tell_change(&client, shared.output, document, || {
        let said = signed.statement;
        text(said.cluster, said.generation, &kept)
    })
}
