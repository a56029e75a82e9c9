//! Whose word about the time counts.

use super::*;

/// A node asks the leader of term 5, is elected in term 6 and hears the voters; then the answer of that leader comes.
#[test]
fn an_answer_that_comes_late_does_not_replace_what_a_later_leadership_heard() {
    let reckoning = Reckoning::default();
    let said = |term, millis| {
        let (time, at) = (UnixMillis(millis), Instant::now());
        reckoning.set(Base { term, time, at });
    };
    let known = |term| reckoning.base(term).map(|base| base.time);
    said(6, 60);
    said(5, 50);
    assert_eq!((known(6), known(5)), (Some(UnixMillis(60)), None));
    said(6, 61);
    assert_eq!(known(6), Some(UnixMillis(61)));
    said(7, 70);
    assert_eq!((known(7), known(6)), (Some(UnixMillis(70)), None));
}
