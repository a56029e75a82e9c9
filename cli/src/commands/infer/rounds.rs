//! Who is asked in which order, and who is asked again: an answer from any region is one.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::sleep;
use types::{ModelName, reason::Reason, region::NodeStatus, units::format_duration};

use super::{
    ask::{Asked, ask},
    places::Place,
};
use crate::{args::InferArgs, error::Failure, exit::Exit, output::note};

/// The wait before another round where the agent does not say how long.
const WAIT: Duration = Duration::from_secs(1);
/// The shortest one, whatever it says.
const WAIT_MIN: Duration = Duration::from_millis(100);

/// A region that is well takes a connection and shows that it lives in a fraction of this. One that is frozen, or whose packets
/// are dropped, must leave time for the next.
const LIFE_MAX: Duration = Duration::from_secs(2);

/// How long a region may take to show that it lives, where another could be asked in its place. Its answer may take all of the
/// time that is left: a long one is no silence.
pub(super) fn life_limit(left: Duration, is_last: bool) -> Option<Duration> {
    (!is_last).then(|| LIFE_MAX.min(left / 2))
}

/// The first one that answers decides. While one says that it takes a moment, all are asked again but those that were
/// silent; all share one deadline.
pub(super) async fn first_answer(
    args: &InferArgs,
    input: Option<&Value>,
    places: &[Place],
    limit: Duration,
) -> Result<Value, Failure> {
    let deadline = Instant::now() + limit;
    let mut places: Vec<&Place> = places.iter().collect();
    let mut before: Option<Failure> = None;
    loop {
        let mut heard = Heard::default();
        if let Some(document) = Box::pin(round(args, input, &places, deadline, &mut heard)).await? {
            return Ok(document);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let wait = heard.wait().filter(|wait| *wait < left);
        places.retain(|place| !heard.silent.iter().any(|s| s.place.base == place.base));
        let is_told = before.is_some();
        let failure = heard.explain(args, before);
        let Some(wait) = wait else {
            return Err(failure);
        };
        if !is_told {
            let limit = format_duration(limit);
            note(&format!(
                "{}; asked again, for {limit} in all (--timeout)",
                failure.message
            ));
        }
        before = Some(failure);
        sleep(wait).await;
    }
}

/// Asks each once. What only says how it is in one region is heard, and the next one asked.
async fn round<'a>(
    args: &InferArgs,
    input: Option<&Value>,
    places: &[&'a Place],
    deadline: Instant,
    heard: &mut Heard<'a>,
) -> Result<Option<Value>, Failure> {
    for (at, place) in places.iter().copied().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        if !heard.leads_to(place) {
            continue;
        }
        let is_last = !places.iter().skip(at + 1).any(|next| heard.leads_to(next));
        match Box::pin(ask(args, input, &place.base, left, life_limit(left, is_last))).await {
            Ok(mut document) => {
                // Something else than an agent may listen there, and answer with anything.
                if let Some(fields) = document.as_object_mut() {
                    fields.insert("region".to_owned(), json!(place.region));
                }
                return Ok(Some(document));
            }
            Err(Asked::NoConnection(how)) => heard.unreached.push(Unanswered { place, how }),
            Err(Asked::Silence(how)) => heard.silent.push(Unanswered { place, how }),
            Err(Asked::Refused(failure, wait)) if is_of_the_region(failure.reason) => {
                heard.refusals.push(Refused { place, failure, wait });
            }
            Err(Asked::Refused(failure, _)) => return Err(named(args, place, failure)),
        }
    }
    Ok(None)
}

/// Whether another region may answer what this one refuses so.
fn is_of_the_region(reason: Option<Reason>) -> bool {
    matches!(
        reason,
        Some(
            Reason::NotServing
                | Reason::Overloaded
                | Reason::ModelInvalid
                | Reason::ModelNotLoaded
                | Reason::ModelNotFound
                | Reason::Unreachable
        )
    )
}

/// What a round brought in place of an answer.
#[derive(Debug, Default)]
struct Heard<'a> {
    refusals: Vec<Refused<'a>>,
    silent: Vec<Unanswered<'a>>,
    unreached: Vec<Unanswered<'a>>,
}

/// A region without an answer, and how that was.
#[derive(Debug)]
struct Unanswered<'a> {
    place: &'a Place,
    how: String,
}

#[derive(Debug)]
struct Refused<'a> {
    place: &'a Place,
    failure: Failure,
    wait: Option<Duration>,
}

impl Refused<'_> {
    fn is_a_moment(&self) -> bool {
        matches!(self.failure.reason, Some(Reason::NotServing | Reason::Overloaded))
    }
}

impl Heard<'_> {
    /// Who went away may hang: one who said no is worth more than waiting for that.
    fn leads_to(&self, place: &Place) -> bool {
        self.refusals.is_empty() || place.status == NodeStatus::Up
    }

    /// After how long another round may bring more; none where it would bring the same.
    fn wait(&self) -> Option<Duration> {
        let moments = self.refusals.iter().filter(|r| r.is_a_moment());
        moments.map(|r| r.wait.unwrap_or(WAIT).max(WAIT_MIN)).min()
    }

    /// The refusal that leaves most hope, be it of an earlier round, and how everybody else was.
    fn explain(mut self, args: &InferArgs, before: Option<Failure>) -> Failure {
        if self.refusals.is_empty() {
            let each = self.each();
            return before.map_or_else(|| no_answer(args, &each), |refusal| since(refusal, &each));
        }
        let hopeful = self.refusals.iter().position(Refused::is_a_moment).unwrap_or(0);
        let Refused { place, failure, .. } = self.refusals.remove(hopeful);
        let remedy = match failure.remedy.as_str() {
            "" => remedy(failure.reason, &args.model),
            known => known.to_owned(),
        };
        let others = self.each().join(", ");
        let mut failure = named(args, place, failure).remedy(remedy);
        if !others.is_empty() {
            failure.message = format!("{}; asked too: {others}", failure.message);
            failure = failure.with("asked_too", others);
        }
        failure
    }

    /// Every region that was asked, and how it was.
    fn each(&self) -> Vec<String> {
        let refused = self.refusals.iter().map(|r| {
            let reason = r.failure.reason.map(|reason| format!(" ({reason})"));
            format!("{}{}", r.place.region, reason.unwrap_or_default())
        });
        let unanswered = self.silent.iter().chain(&self.unreached);
        refused.chain(unanswered.map(Unanswered::tell)).collect()
    }
}

impl Unanswered<'_> {
    fn tell(&self) -> String {
        let Place { region, status, .. } = self.place;
        match status {
            NodeStatus::Up => format!("{region} ({})", self.how),
            NodeStatus::Down | NodeStatus::Removed => {
                format!("{region} ({status} to the registry, {})", self.how)
            }
        }
    }
}

/// What helps where a region does not serve a model.
fn remedy(reason: Option<Reason>, model: &ModelName) -> String {
    match reason {
        Some(Reason::ModelInvalid) => format!(
            "ask for another version with --model-version, or point `champion` at one that loads: `regent node list` shows which do not, `regent model versions {model}` which there are, `regent model alias` moves it"
        ),
        Some(Reason::ModelNotLoaded) => format!(
            "agents load what aliases point at: `regent model get {model}` shows them, `regent model alias` adds one"
        ),
        Some(Reason::NotServing | Reason::Unreachable) => format!(
            "`regent replication status --model {model}` shows how far its copies are; --timeout gives it more time"
        ),
        _ => String::new(),
    }
}

fn named(args: &InferArgs, place: &Place, failure: Failure) -> Failure {
    let failure = failure.while_doing(format!("{} in {}", args.model, place.region));
    failure.with("model", &args.model).with("region", &place.region)
}

/// A refusal, where what was asked after it brought no answer at all.
fn since(mut refusal: Failure, each: &[String]) -> Failure {
    if !each.is_empty() {
        refusal.message = format!("{}; asked again: {}", refusal.message, each.join(", "));
    }
    refusal
}

fn no_answer(args: &InferArgs, each: &[String]) -> Failure {
    let asked = each.join(", ");
    let message = match each {
        [] => format!("{}: no time was left to ask", args.model),
        _ => format!("{}: no answer from {asked}", args.model),
    };
    Failure::new(Exit::Unavailable, message)
        .with("model", &args.model)
        .with("asked", asked)
        .remedy(match args.region {
            None => "`regent region list` says which regions are healthy: --region asks one of them, with all of the time; --timeout gives more",
            Some(_) => "`regent region list` says which regions are healthy: name one of them, or leave --region out to ask each; --timeout gives more time",
        })
}
