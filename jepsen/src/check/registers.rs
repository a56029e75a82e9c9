//! Registers (the aliases of a model): each is linearizable, and its etag stands for one value.
//!
//! A refusal for the etag says that something else was there than what the client had read; one that names another rule says nothing of
//! the register.

use std::collections::BTreeMap;

use types::Reason;

use super::linear::{self, Call, Found};
use crate::history::{Action, Answer, Op, What};

/// How the registry refuses a compare-and-set.
const ELSE: &str = Reason::EtagMismatch.as_str();

/// Every broken promise. An error is a register of which the search could not tell.
pub(crate) fn check(ops: &[Op<'_>]) -> anyhow::Result<Vec<String>> {
    let mut registers: BTreeMap<&str, Register> = BTreeMap::new();
    for op in ops {
        if let Action::Get { register } | Action::Set { register, .. } | Action::Swap { register, .. } =
            op.action
        {
            registers.entry(register).or_default().take(op);
        }
    }
    let mut anomalies = Vec::new();
    for (name, register) in registers {
        anomalies.extend(
            register
                .problems
                .iter()
                .map(|problem| format!("{name}: {problem}")),
        );
        match linear::check(&register.calls) {
            Found::Linearizable => {}
            Found::Impossible { call, held } => anomalies.push(told(name, register.calls.get(call), &held)),
            Found::GivenUp(steps) => anyhow::bail!(
                "{name}: whether its {} operations are linearizable was not found out in {steps} steps",
                register.calls.len()
            ),
        }
    }
    Ok(anomalies)
}

fn told(name: &str, call: Option<&Call>, held: &[linear::Value]) -> String {
    let value = |value: &linear::Value| value.map_or_else(|| "nothing".to_owned(), |value| value.to_string());
    let held: Vec<_> = held.iter().map(value).collect();
    let (began, what) = call.map_or((0, String::new()), |call| {
        let what = match call.op {
            linear::Op::Read(seen) => format!("read {}", value(&seen)),
            linear::Op::Write(to) => format!("wrote {to}"),
            linear::Op::Swap(from, to) => format!("wrote {to} in place of {}", value(&from)),
            linear::Op::Refused(from) => format!(
                "was refused because something else than {} was there",
                value(&from)
            ),
        };
        (call.began, what)
    });
    format!(
        "{name} is not linearizable: no order of its operations has one that began at {began} us and {what}; the longest end with {} there",
        held.join(" or ")
    )
}

/// What the end of an operation says of its register; none: nothing.
pub(crate) fn meant(op: &Op<'_>) -> Option<linear::Op> {
    use linear::Op::{Read, Refused, Swap, Write};
    let now = match op.end {
        What::Ok {
            answer: Answer::Held { value, .. },
        } => Some(*value),
        _ => None,
    };
    let is_unknown = matches!(op.end, What::Info { .. });
    match (op.action, now) {
        (Action::Get { .. }, Some(now)) => Some(Read(now)),
        (Action::Set { value, .. }, now) if is_unknown || now == Some(Some(*value)) => Some(Write(*value)),
        (Action::Swap { from, value, .. }, now) if is_unknown || now == Some(Some(*value)) => {
            Some(Swap(Some(*from), *value))
        }
        // The alias was where it was wanted: nothing has changed.
        (Action::Set { .. } | Action::Swap { .. }, Some(now)) => Some(Read(now)),
        (Action::Swap { from, .. }, None) => {
            let is_else = matches!(op.end, What::Fail { code, .. } if code == ELSE);
            is_else.then_some(Refused(Some(*from)))
        }
        _ => None,
    }
}

#[derive(Default)]
struct Register {
    calls: Vec<Call>,
    /// The etag of each value that was seen, and the other way round.
    etags: BTreeMap<u64, u64>,
    values: BTreeMap<u64, u64>,
    problems: Vec<String>,
}

impl Register {
    fn take(&mut self, op: &Op<'_>) {
        if let What::Ok {
            answer: Answer::Held {
                value: Some(value),
                etag,
            },
        } = op.end
        {
            self.pair(*value, *etag);
        }
        let ended = match op.end {
            What::Info { .. } => None,
            _ => Some(op.ended),
        };
        let began = op.began;
        self.calls.extend(meant(op).map(|op| Call { began, ended, op }));
        if let (Action::Swap { from, value, .. }, What::Ok { answer }) = (op.action, op.end)
            && let Answer::Held { value: now, .. } = answer
            && ![Some(*from), Some(*value)].contains(now)
        {
            let now = now.map_or_else(|| "nothing".to_owned(), |now| now.to_string());
            self.problems.push(format!(
                "a write of {value} in place of {from} was answered with {now} at {} us",
                op.ended
            ));
        }
    }

    fn pair(&mut self, value: u64, etag: u64) {
        let other = *self.etags.entry(value).or_insert(etag);
        if other != etag {
            self.problems
                .push(format!("{value} had the etags {other} and {etag}"));
        }
        let other = *self.values.entry(etag).or_insert(value);
        if other != value {
            self.problems
                .push(format!("etag {etag} stood for {other} and for {value}"));
        }
    }
}

#[cfg(test)]
#[path = "registers_tests.rs"]
mod tests;
