//! What a condition means, and what is none.

use types::model::VersionRecord;

use super::{fields::one, *};

fn refused(text: &str) -> String {
    Condition::of(VersionRecord::FIELDS, text).unwrap_err()
}

#[test]
fn what_cannot_be_understood_is_refused_with_what_can() {
    for text in ["", "state", "state~READY", "!", "!READY"] {
        assert!(refused(text).contains("write FIELD=VALUE"), "{text}");
    }
    for text in ["colour=red", "=1", "metadata=me", "state.x=READY", "metadata.=me"] {
        let why = refused(text);
        assert!(
            why.contains("version, state, ") && why.contains("metadata.KEY"),
            "{why}"
        );
    }
    assert!(refused("state=ready").contains("PENDING_UPLOAD, VERIFYING, READY"));
    assert!(refused("framework>bert").contains("= or !="));
    assert!(refused("version=one").contains("a whole number"));
    assert!(refused("size>=many").contains("64MiB"));
    assert!(refused("metrics.loss>0.0000001").contains("six digits"));
    assert!(refused("metrics>1").contains("metrics.KEY"));
    assert!(refused("created_at<yesterday").contains("2026-11-21T07:28:34Z"));
    let long = format!("framework={}", "x".repeat(LENGTH_MAX));
    assert!(refused(&long).contains("512 bytes"));
    let many = vec!["version=1".to_owned(); CONDITIONS_MAX + 1];
    assert!(Conditions::of::<VersionRecord>(&many).is_err());
}

#[test]
fn conditions_compare_by_the_kind_of_the_field() {
    let check = |text: &str, found: &Found<'_>, expected: bool| {
        let condition = Condition::of(VersionRecord::FIELDS, text).unwrap();
        assert_eq!(condition.takes(found), expected, "{text}");
    };
    let number = Found::Number;
    check("version>=2", &number(2), true);
    check("version>2", &number(2), false);
    check("version<10", &number(9), true);
    check("version!=2", &number(2), false);
    check("size<=1KiB", &number(1024), true);
    check("size<1KiB", &number(1024), false);
    check("created_at>1970-01-01T00:00:01Z", &number(1001), true);
    check("created_at<=1970-01-01T00:00:01.001Z", &number(1001), true);
    check("created_at>=1970-01-02", &number(86_400_000), true);
    check("created_at>=1970-01-02", &number(86_399_999), false);
    let none = || Found::Texts(Vec::new());
    let two = || Found::Texts(vec!["eu".into(), "us".into()]);
    check("region=us", &two(), true);
    check("region!=us", &two(), false);
    check("region=ap", &two(), false);
    check("region!=ap", &two(), true);
    check("metadata.owner=me", &none(), false);
    check("metadata.owner!=me", &none(), true);
    check("metadata.owner=*", &none(), false);
    let measured = |text: &str| Found::Number(in_order(text.parse().unwrap()));
    check("metrics.accuracy>=0.9", &measured("0.9"), true);
    check("metrics.accuracy>=0.9", &measured("0.899999"), false);
    check("metrics.loss<0", &measured("-0.000001"), true);
    check("metrics.loss>-1", &measured("-2"), false);
    check("metrics.loss!=1", &none(), false);
    check("metrics.loss<1", &none(), false);
    // A key and a value may hold what looks like more of the condition.
    check("metadata.a.b=c=d", &one("c=d"), true);
}

#[test]
fn every_state_can_be_asked_for() {
    use types::model::VersionState::{Deleted, Deprecated, PendingUpload, Ready, Verifying};
    let states = [PendingUpload, Verifying, Ready, Deprecated, Deleted].map(|s| s.to_string());
    assert_eq!(fields::STATES, states);
}
