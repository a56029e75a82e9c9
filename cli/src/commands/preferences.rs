//! `regent preferences …`: what somebody wants of tools.

use serde_json::json;
use types::{NodeId, Principal, preferences::PreferencesRecord};

use super::{changer_at, reader, tell, tell_change};
use crate::{
    args::{PreferencesCommand, PreferencesGetArgs, PreferencesSetArgs, Shared},
    error::Failure,
    output::table,
};

/// Runs one.
pub(crate) async fn run(command: PreferencesCommand, shared: Shared) -> Result<(), Failure> {
    match command {
        PreferencesCommand::Get(args) => get(&args, &shared).await,
        PreferencesCommand::Set(args) => set(&args, &shared).await,
    }
}

fn principal(user: Option<&NodeId>) -> Option<Principal> {
    user.cloned().map(|name| Principal::User { name })
}

async fn get(args: &PreferencesGetArgs, shared: &Shared) -> Result<(), Failure> {
    let client = reader(shared, &args.read)?;
    let found = client
        .get_preferences(principal(args.user.as_ref()).as_ref())
        .await?;
    tell(&client, shared.output, json!({ "preferences": found }), || {
        value_table(&found)
    })
}

async fn set(args: &PreferencesSetArgs, shared: &Shared) -> Result<(), Failure> {
    let client = changer_at(shared, &args.change, args.etag)?;
    let owner = principal(args.user.as_ref());
    let values = args.set.iter().cloned().collect();
    let set = client
        .set_preferences(owner.as_ref(), values, args.remove.clone())
        .await?;
    tell_change(&client, shared.output, json!({ "preferences": set }), || {
        value_table(&set)
    })
}

fn value_table(preferences: &PreferencesRecord) -> String {
    let headings = ["KEY", "VALUE", "ETAG"];
    let etag = preferences.modified.0.to_string();
    let row = |(key, value): (&String, &String)| [key.clone(), value.clone(), etag.clone()];
    table(headings, preferences.values.iter().map(row))
}
