//! `regent infer`: one question to a model, over the same HTTP that programs use.

mod ask;
mod places;
mod rounds;

#[cfg(test)]
mod tests;

use std::{io::Read as _, path::Path};

use serde_json::Value;

use crate::{
    args::{InferArgs, Shared},
    context,
    error::Failure,
    output::answer,
};

/// Numbers of an embedding that people get to see.
const SHOWN: usize = 8;

/// Asks, prints the answer.
pub(crate) async fn run(args: InferArgs, shared: Shared) -> Result<(), Failure> {
    // Where to ask is a hint, and inference goes on without a quorum: so must the way to it (I10).
    let client = context::client(&shared)?.with_stale_reads();
    let wanted = args.region.as_ref();
    let places = places::places(&client, wanted).await.map_err(or_over_http)?;
    let input = args.what.input.as_deref().map(read_json).transpose()?;
    let document = Box::pin(rounds::first_answer(
        &args,
        input.as_ref(),
        &places,
        shared.timeout,
    ))
    .await?;
    answer(shared.output, &document, || human(&args, &document))
}

/// Where no coordinator says where the agents are: that they answer all the same.
fn or_over_http(failure: Failure) -> Failure {
    let heard = failure.operands.get("heard").map(String::as_str);
    if heard.is_none_or(|heard| heard == "distrust") {
        return failure;
    }
    let remedy = format!(
        "{}. `infer` asks coordinators only where the agents are; those answer over HTTP all the same: `regent dev` prints their \
         endpoints, as does `regent node list --stale --output json` while a coordinator answers (endpoints.inference)",
        failure.remedy
    );
    failure.remedy(remedy)
}

fn read_json(file: &Path) -> Result<Value, Failure> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().lock().read_to_string(&mut text).map(drop)
    } else {
        std::fs::read_to_string(file).map(|all| text = all)
    };
    read.map_err(|e| Failure::file("read", file, e))?;
    serde_json::from_str(&text).map_err(|e| Failure::usage(format!("{}: no JSON: {e}", file.display())))
}

/// The answer for people, and below it who gave it: which version, and where.
fn human(args: &InferArgs, document: &Value) -> String {
    let field = |name| document.get(name).and_then(Value::as_str).unwrap_or("?");
    let by = format!("{}@{} in {}", args.model, field("model_version"), field("region"));
    if args.what.prompt.is_some()
        && let Some(text) = document.pointer("/choices/0/text").and_then(Value::as_str)
    {
        return format!("{text}\n\n{by}");
    }
    if let Some(embedding) = document.pointer("/data/0/embedding").and_then(Value::as_array) {
        let first: Vec<String> = embedding.iter().take(SHOWN).map(Value::to_string).collect();
        return format!("{} numbers: {} …\n\n{by}", embedding.len(), first.join(" "));
    }
    // It holds both.
    format!("{document:#}")
}
