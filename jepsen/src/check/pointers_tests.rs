//! Records of one pointer: each bad one breaks one promise.

use serde_json::{Value, json};

use super::{Judged, check, read};

const KEY: &str = "regent/pointers/primaries.global";

fn fence(counter: u32, region: &str) -> Value {
    let holder =
        json!({ "region": region, "node": "a1", "incarnation": "01a1fd01-abc9-7253-ade6-6eba2a01485b" });
    json!({ "role": "primaries/global", "epoch": format!("g1.e{counter}"), "holder": holder, "sequence": 1 })
}

fn line(status: u16, sent: Value, current: Value) -> Value {
    json!({
        "seq": 7, "unix_micros": 1, "method": "PUT", "key": KEY, "status": status, "sent": sent,
        "current": { "etag": "x", "fence": current },
    })
}

/// An accepted write over what stood there.
fn took(sent: (u32, &str), current: (u32, &str)) -> Value {
    line(200, fence(sent.0, sent.1), fence(current.0, current.1))
}

fn refused(sent: (u32, &str), current: (u32, &str)) -> Value {
    line(412, fence(sent.0, sent.1), fence(current.0, current.1))
}

fn judge(lines: &[Value]) -> Judged {
    let text: Vec<String> = lines.iter().map(Value::to_string).collect();
    check("pointer/r1", KEY, &read(&text.join("\n")).unwrap())
}

#[test]
fn claims_that_grow_and_stale_writes_that_are_refused_are_as_they_should_be() {
    let judged = judge(&[
        line(200, fence(2, "r1"), Value::Null),
        took((2, "r1"), (2, "r1")),
        took((4, "r2"), (2, "r1")),
        refused((2, "r1"), (4, "r2")),
        refused((2, "r1"), (4, "r2")),
        // It lost a race against itself: no stale write.
        refused((4, "r2"), (4, "r2")),
    ]);
    assert_eq!(judged.anomalies, Vec::<String>::new());
    assert_eq!(judged.stale_refused, 2);
}

fn check_found(lines: &[Value], named: &[&str]) {
    let judged = judge(lines);
    assert_eq!(judged.anomalies.len(), 1, "{judged:?}");
    for words in named {
        assert!(judged.anomalies[0].contains(words), "{words}: {judged:?}");
    }
}

#[test]
fn a_stale_write_that_was_accepted_is_found() {
    check_found(&[took((2, "r1"), (4, "r2"))], &["g1.e2", "g1.e4", "pointer/r1"]);
}

#[test]
fn an_epoch_that_fell_is_found_though_the_record_does_not_say_what_stood_there() {
    let torn = line(200, fence(2, "r1"), Value::Null);
    check_found(&[took((4, "r2"), (2, "r1")), torn], &["g1.e2", "g1.e4"]);
}

#[test]
fn two_holders_of_one_epoch_are_found() {
    check_found(
        &[took((2, "r1"), (2, "r1")), took((2, "r2"), (2, "r1"))],
        &["r1", "r2", "g1.e2"],
    );
}

#[test]
fn a_pointer_that_was_deleted_is_found() {
    let mut gone = line(204, Value::Null, fence(4, "r2"));
    gone["method"] = "DELETE".into();
    check_found(&[gone], &["DELETE", "g1.e4"]);
}

#[test]
fn other_keys_are_nobodys_business() {
    let mut other = took((2, "r1"), (4, "r2"));
    other["key"] = "regent/pointers/primaries.orders".into();
    assert_eq!(judge(&[other]), Judged::default());
}
