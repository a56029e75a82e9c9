//! Histories in the form of Jepsen, so that others' checkers can judge them: Knossos a register (a file each), Elle all lists (one file).
//!
//! Format: <https://github.com/jepsen-io/jepsen/blob/main/doc/tutorial/02-db.md> and
//! <https://github.com/jepsen-io/elle>, one map a line: `:index`, `:type` (`:invoke`, `:ok`, `:fail`, `:info`), `:f`, `:value`, `:process`,
//! `:time` in nanoseconds. Pure.

use std::{collections::BTreeMap, fmt::Write as _};

use crate::{
    check::{linear, registers},
    history::{Action, Answer, Op, What},
};

/// The files of a history, by name: of each register `register-N.edn` for Knossos' `cas-register`, and `lists.edn` for Elle's `list-append`.
pub(crate) fn files(ops: &[Op<'_>]) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for (name, lines) in registers_of(ops) {
        files.insert(format!("{name}.edn"), text(lines));
    }
    let lists = lists_of(ops);
    if !lists.is_empty() {
        files.insert("lists.edn".to_owned(), text(lists));
    }
    files
}

/// One line before it has its number.
struct Line {
    at: u64,
    process: u32,
    kind: &'static str,
    what: String,
}

fn text(mut lines: Vec<Line>) -> String {
    // An operation that ended in the microsecond in which another began may have overlapped it.
    lines.sort_by_key(|line| (line.at, line.kind != "invoke"));
    let mut text = String::new();
    for (index, line) in lines.iter().enumerate() {
        let Line {
            at,
            process,
            kind,
            what,
        } = line;
        // Writing to a String does not fail.
        let _ = writeln!(
            text,
            "{{:index {index}, :type :{kind}, {what}, :process {process}, :time {}}}",
            u128::from(*at) * 1_000
        );
    }
    text
}

fn registers_of<'a>(ops: &[Op<'a>]) -> BTreeMap<&'a str, Vec<Line>> {
    let mut all: BTreeMap<&str, Vec<Line>> = BTreeMap::new();
    for op in ops {
        let (Action::Get { register } | Action::Set { register, .. } | Action::Swap { register, .. }) =
            op.action
        else {
            continue;
        };
        let Some(meant) = registers::meant(op) else {
            continue;
        };
        let value = |value: linear::Value| value.map_or_else(|| "nil".to_owned(), |value| value.to_string());
        let (asked, answered, kind) = match meant {
            linear::Op::Read(seen) => (
                ":f :read, :value nil".to_owned(),
                format!(":f :read, :value {}", value(seen)),
                "ok",
            ),
            linear::Op::Write(to) => (
                format!(":f :write, :value {to}"),
                format!(":f :write, :value {to}"),
                "ok",
            ),
            linear::Op::Swap(from, to) => {
                let what = format!(":f :cas, :value [{} {to}]", value(from));
                (what.clone(), what, "ok")
            }
            linear::Op::Refused(from) => {
                // What it would have written is written nowhere.
                let what = format!(":f :cas, :value [{} -1]", value(from));
                (what.clone(), what, "fail")
            }
        };
        let kind = if matches!(op.end, What::Info { .. }) {
            "info"
        } else {
            kind
        };
        all.entry(register)
            .or_default()
            .extend(both(op, asked, answered, kind));
    }
    all
}

fn lists_of(ops: &[Op<'_>]) -> Vec<Line> {
    let mut lines = Vec::new();
    for op in ops {
        let (asked, answered) = match (op.action, op.end) {
            (Action::Append { list, element }, _) => {
                let what = format!(":f :txn, :value [[:append {list:?} {element}]]");
                (what.clone(), what)
            }
            (Action::Read { list }, end) => {
                let asked = format!(":f :txn, :value [[:r {list:?} nil]]");
                let answered = match end {
                    What::Ok {
                        answer: Answer::Listed { elements },
                    } => {
                        let elements: Vec<_> =
                            elements.iter().map(|(_, element)| element.to_string()).collect();
                        format!(":f :txn, :value [[:r {list:?} [{}]]]", elements.join(" "))
                    }
                    _ => asked.clone(),
                };
                (asked, answered)
            }
            _ => continue,
        };
        let kind = match op.end {
            What::Ok { .. } => "ok",
            What::Fail { .. } => "fail",
            What::Info { .. }
            | What::Invoke { .. }
            | What::Told { .. }
            | What::Nemesis { .. }
            | What::Seen { .. } => "info",
        };
        lines.extend(both(op, asked, answered, kind));
    }
    lines
}

fn both(op: &Op<'_>, asked: String, answered: String, kind: &'static str) -> [Line; 2] {
    let line = |at, kind, what| Line {
        at,
        process: op.process,
        kind,
        what,
    };
    [line(op.began, "invoke", asked), line(op.ended, kind, answered)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_register_is_written_as_knossos_reads_it() {
        let register = "register-0".to_owned();
        let set = Action::Set {
            register: register.clone(),
            value: 7,
        };
        let swap = Action::Swap {
            register: register.clone(),
            from: 7,
            value: 8,
        };
        let get = Action::Get { register };
        let held = |value| What::Ok {
            answer: Answer::Held { value, etag: 1 },
        };
        let refused = What::Fail {
            code: "ETAG_MISMATCH".to_owned(),
            reason: String::new(),
            current: None,
        };
        let unknown = What::Info {
            reason: String::new(),
        };
        let op = |process, began, ended, action, end| Op {
            process,
            began,
            ended,
            action,
            end,
        };
        let (seven, none) = (held(Some(7)), held(None));
        let ops = [
            op(1, 0, 3, &get, &none),
            op(0, 1, 2, &set, &seven),
            op(2, 4, 5, &swap, &refused),
            op(3, 6, 9, &swap, &unknown),
            // Says nothing of the register.
            op(4, 7, 8, &get, &unknown),
        ];
        let expected = "\
{:index 0, :type :invoke, :f :read, :value nil, :process 1, :time 0}
{:index 1, :type :invoke, :f :write, :value 7, :process 0, :time 1000}
{:index 2, :type :ok, :f :write, :value 7, :process 0, :time 2000}
{:index 3, :type :ok, :f :read, :value nil, :process 1, :time 3000}
{:index 4, :type :invoke, :f :cas, :value [7 -1], :process 2, :time 4000}
{:index 5, :type :fail, :f :cas, :value [7 -1], :process 2, :time 5000}
{:index 6, :type :invoke, :f :cas, :value [7 8], :process 3, :time 6000}
{:index 7, :type :info, :f :cas, :value [7 8], :process 3, :time 9000}
";
        let files = files(&ops);
        assert_eq!(files.keys().collect::<Vec<_>>(), ["register-0.edn"]);
        assert_eq!(files["register-0.edn"], expected);
    }

    #[test]
    fn lists_are_written_as_elle_reads_them() {
        let list = "l".to_owned();
        let append = Action::Append {
            list: list.clone(),
            element: 5,
        };
        let read = Action::Read { list };
        let placed = What::Ok {
            answer: Answer::Placed { place: 1 },
        };
        let listed = What::Ok {
            answer: Answer::Listed {
                elements: vec![(1, 5), (2, 6)],
            },
        };
        let op = |began, ended, action, end| Op {
            process: 0,
            began,
            ended,
            action,
            end,
        };
        let expected = "\
{:index 0, :type :invoke, :f :txn, :value [[:append \"l\" 5]], :process 0, :time 0}
{:index 1, :type :ok, :f :txn, :value [[:append \"l\" 5]], :process 0, :time 1000}
{:index 2, :type :invoke, :f :txn, :value [[:r \"l\" nil]], :process 0, :time 2000}
{:index 3, :type :ok, :f :txn, :value [[:r \"l\" [5 6]]], :process 0, :time 3000}
";
        let files = files(&[op(0, 1, &append, &placed), op(2, 3, &read, &listed)]);
        assert_eq!(files["lists.edn"], expected);
    }
}
