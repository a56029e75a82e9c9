//! How fast the coordinators' elections are, how far they are from each other, and which of them should lead.

use std::{collections::BTreeMap, time::Duration};

use client::{
    Client,
    calls::{ChangeOptions, LeadershipTransfer},
};
use proto::v1::{ElectionSetting, ElectionTiming as WireTiming, GetStatusResponse, RoundTrip, Settings};
use serde_json::{Value, json};
use types::{NodeId, Reason, Revision, election::ElectionTiming, units::format_duration};

use super::super::{changer, reader, tell, tell_change};
use crate::{
    args::{PreferArgs, ReadArgs, Shared, TimingCommand, TimingSetArgs, TransferLeaderArgs},
    context,
    error::Failure,
    exit::Exit,
    output::{answer, or_dash, table},
};

/// `regent cluster timing …`.
pub(super) async fn timing(command: TimingCommand, shared: &Shared) -> Result<(), Failure> {
    match command {
        TimingCommand::Get(read) => get(&read, shared).await,
        TimingCommand::Set(args) => set(&args, shared).await,
    }
}

async fn get(read: &ReadArgs, shared: &Shared) -> Result<(), Failure> {
    let client = reader(shared, read)?;
    let (settings, _) = client.settings().await?;
    tell(&client, shared.output, settings_document(&settings), || {
        settings_text(&settings)
    })
}

async fn set(args: &TimingSetArgs, shared: &Shared) -> Result<(), Failure> {
    let fixed = fixed(args)?;
    let client = changer(shared, &args.change, at(args.etag))?;
    let settings = client.set_election_timing(fixed.as_ref()).await?;
    show(&client, shared, &settings)
}

/// `regent cluster prefer`.
pub(super) async fn prefer(args: &PreferArgs, shared: &Shared) -> Result<(), Failure> {
    let client = changer(shared, &args.change, at(args.etag))?;
    let settings = client.set_leader_preference(&args.regions).await?;
    show(&client, shared, &settings)
}

/// `regent cluster transfer-leader`.
pub(super) async fn transfer(args: &TransferLeaderArgs, shared: &Shared) -> Result<(), Failure> {
    let client = context::client(shared)?;
    let asked = client
        .transfer_leadership(args.to.as_ref(), args.validate_only)
        .await;
    let done = asked.map_err(|refusal| match refusal.reason {
        Reason::OutcomeUnknown => Failure::from(refusal).remedy(WHO_LEADS),
        _ => refusal.into(),
    })?;
    check_leads(&done, args.to.as_ref())?;
    // What was done is told, whether this is known (`null`: it is not) or not.
    let settings = client.with_deadline(SETTINGS_WITHIN).settings().await.ok();
    let preferred = settings.map(|(settings, _)| settings.preferred_regions);
    let document = json!({
        "from": known(&done.from),
        "leader": done.leader,
        "validated_only": args.validate_only,
        "preferred_regions": preferred,
    });
    answer(shared.output, &document, || {
        let told = match args.validate_only {
            true => String::new(),
            false => preference_text(&done.leader, preferred.as_deref()),
        };
        transfer_text(&done, args.validate_only) + &told
    })
}

/// That leadership may not stay where it went. Which region the leader is in, nobody said.
pub(super) fn preference_text(leader: &str, preferred: Option<&[String]>) -> String {
    match preferred {
        Some([]) => String::new(),
        Some(preferred) => format!(
            "\nleader preferred in: {}; a voter of a region that is wanted more than that of {leader} takes leadership once it has been up and \
             caught up for 10 s (`regent cluster prefer` changes it)",
            preferred.join(", ")
        ),
        None => {
            "\nwhich regions are preferred for the leader is not known: nobody answered in time".to_owned()
        }
    }
}

/// How long the settings are waited for after a transfer, whose answer stands without them.
const SETTINGS_WITHIN: Duration = Duration::from_secs(2);

/// What helps where nobody heard how a transfer ended.
const WHO_LEADS: &str = "`regent cluster status` shows who leads: leadership may have been handed over";

/// None from a coordinator that hands over and does not say that it led.
fn known(from: &str) -> Option<&str> {
    (!from.is_empty()).then_some(from)
}

/// That whoever was named leads, or would: what follows is about that one. Where nobody was named, that somebody handed over.
pub(super) fn check_leads(done: &LeadershipTransfer, to: Option<&NodeId>) -> Result<(), Failure> {
    let LeadershipTransfer {
        from,
        leader,
        elected_again,
    } = done;
    let before = known(from).map_or_else(String::new, |from| format!("; before, {from} did"));
    let text = match to {
        Some(to) if to.as_str() == leader => return Ok(()),
        Some(to) => format!("{leader} leads now, and not {to}{before}"),
        None if *elected_again => format!("{leader} was elected again meanwhile, and leads"),
        None => return Ok(()),
    };
    let failure = Failure::new(Exit::Precondition, text)
        .because(Reason::IllegalTransition)
        .remedy("whoever wins the election leads: ask again to have it handed over from there")
        .with("leader", leader);
    let operands = [("to", to.map(NodeId::as_str)), ("from", known(from))];
    let told = operands
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)));
    Err(told.fold(failure, |failure, (key, value)| failure.with(key, value)))
}

pub(super) fn transfer_text(done: &LeadershipTransfer, validate_only: bool) -> String {
    let LeadershipTransfer { from, leader, .. } = done;
    match (known(from), validate_only) {
        (None, _) => format!("{leader} leads now"),
        (Some(from), _) if from == leader => format!("{leader} leads already"),
        (Some(from), true) => format!("{from} leads, and would hand over to {leader}; nothing was done"),
        (Some(from), false) => format!("{leader} leads now; before, {from} did"),
    }
}

/// Only from these settings on, where they are named.
fn at(etag: Option<u64>) -> ChangeOptions {
    ChangeOptions {
        etag: etag.map(Revision),
        ..ChangeOptions::default()
    }
}

fn show(client: &Client, shared: &Shared, settings: &Settings) -> Result<(), Failure> {
    tell_change(client, shared.output, settings_document(settings), || {
        settings_text(settings)
    })
}

/// What is to be fixed; none: it is to be derived. What cannot be right is not asked for.
fn fixed(args: &TimingSetArgs) -> Result<Option<ElectionTiming>, Failure> {
    let (Some(heartbeat), Some(election_min), Some(election_max)) =
        (args.heartbeat, args.election_min, args.election_max)
    else {
        return Ok(None);
    };
    let timing = ElectionTiming {
        heartbeat,
        election_min,
        election_max,
    };
    timing.validate().map_err(|problem| {
        Failure::new(Exit::Usage, problem)
            .remedy("`regent cluster status` shows the round trips; --derived has the leader choose")
    })?;
    Ok(Some(timing))
}

fn settings_document(settings: &Settings) -> Value {
    json!({
        "election": settings.election.as_ref().map(setting_document),
        "preferred_regions": settings.preferred_regions,
    })
}

fn setting_document(setting: &ElectionSetting) -> Value {
    let mut document = setting.timing.as_ref().map_or_else(|| json!({}), timing_document);
    document["derived"] = json!(setting.derived);
    document["reason"] = json!(setting.reason);
    document
}

/// The values alone.
pub(super) fn timing_document(timing: &WireTiming) -> Value {
    json!({
        "heartbeat": duration(timing.heartbeat_millis),
        "election_min": duration(timing.election_min_millis),
        "election_max": duration(timing.election_max_millis),
    })
}

/// As one coordinator knows it, with the round trips.
pub(super) fn document(status: &GetStatusResponse) -> Value {
    let pair = |r: &RoundTrip| json!({ "from": r.from_node, "to": r.to_node, "round_trip_micros": r.micros });
    json!({
        "timing": status.election_setting.as_ref().map(setting_document),
        "round_trips": status.round_trips.iter().map(pair).collect::<Vec<_>>(),
        "preferred_regions": status.preferred_regions,
    })
}

/// The same for people: the round trips node by node.
pub(super) fn text(status: &GetStatusResponse) -> String {
    let setting = setting_text(status.election_setting.as_ref(), &status.preferred_regions);
    if status.round_trips.is_empty() {
        return setting;
    }
    format!("{setting}\n\n{}", matrix(&status.round_trips))
}

fn settings_text(settings: &Settings) -> String {
    setting_text(settings.election.as_ref(), &settings.preferred_regions)
}

fn setting_text(setting: Option<&ElectionSetting>, preferred: &[String]) -> String {
    let timing = setting.and_then(|s| Some((s, s.timing.as_ref()?)));
    let text = match timing {
        Some((setting, timing)) => format!(
            "elections: heartbeat {}, timeout {} to {}; {}: {}",
            duration(timing.heartbeat_millis),
            duration(timing.election_min_millis),
            duration(timing.election_max_millis),
            if setting.derived { "derived" } else { "fixed" },
            setting.reason
        ),
        None => "elections: as each coordinator was started; the log says nothing yet".to_owned(),
    };
    format!("{text}\nleader preferred in: {}", or_dash(preferred.join(", ")))
}

fn matrix(round_trips: &[RoundTrip]) -> String {
    let mut rows: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
    for r in round_trips {
        for (a, b) in [(&r.from_node, &r.to_node), (&r.to_node, &r.from_node)] {
            rows.entry(a).or_default().insert(b, r.micros);
        }
    }
    let lines = rows.iter().map(|(node, others)| {
        let others = others
            .iter()
            .map(|(other, micros)| format!("{other} {}", distance(*micros)));
        [(*node).to_owned(), or_dash(others.collect::<Vec<_>>().join(", "))]
    });
    table(["NODE", "ROUND TRIPS"], lines)
}

/// Three digits are enough for people.
fn distance(micros: u64) -> String {
    if micros < 10_000 {
        return format!("{}.{}ms", micros / 1_000, micros / 100 % 10);
    }
    duration(micros.div_ceil(1_000))
}

fn duration(millis: u64) -> String {
    format_duration(Duration::from_millis(millis))
}
