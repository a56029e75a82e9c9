//! Who counts as stuck.

use super::*;

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

/// Two members that have not changed; `b` may be silent.
fn standings(b_answers: bool) -> BTreeMap<NodeId, Standing> {
    let standing = |answers: bool| Standing {
        voter: true,
        may_lead: true,
        fit: true,
        timing: answers.then(RaftTiming::default),
        stuck: None,
        matched: 1,
    };
    [(node("b"), standing(b_answers)), (node("c"), standing(true))].into()
}

fn stuck(memory: &mut Memory, mut standings: BTreeMap<NodeId, Standing>, now: Instant) -> Vec<String> {
    memory.mark_stuck(&mut standings, now);
    let stuck = standings.into_iter().filter(|(_, m)| m.stuck.is_some());
    stuck.map(|(node, _)| node.to_string()).collect()
}

#[test]
fn only_who_was_told_without_a_break_is_stuck() {
    let begun = Instant::now();
    let later = begun + TURN;
    let told = || {
        let told = ["b", "c"].map(|name| {
            let (since, last) = (begun, begun);
            (node(name), Told { since, last })
        });
        let told = told.into();
        Memory {
            since: Some(begun),
            calm: Some(begun),
            told,
            revision: 7,
        }
    };
    let mut memory = told();
    assert!(stuck(&mut memory, standings(true), later - Duration::from_millis(1)).is_empty());
    assert_eq!(stuck(&mut memory, standings(true), later), ["b", "c"]);
    // It died after it was told, and is back.
    assert_eq!(stuck(&mut memory, standings(false), later), ["c"]);
    assert_eq!(stuck(&mut memory, standings(true), later), ["c"]);
    // The same leadership and setting, another setting, another leadership.
    memory.lead(Some(begun));
    memory.go_by(7);
    assert_eq!(stuck(&mut memory, standings(true), later), ["c"]);
    memory.go_by(8);
    assert!(stuck(&mut memory, standings(true), later).is_empty());
    let mut memory = told();
    memory.lead(Some(later));
    assert!(stuck(&mut memory, standings(true), later).is_empty());
    assert_eq!(memory.calm, None);
}

#[test]
fn who_was_told_again_waits_from_then() {
    let begun = Instant::now();
    let mut memory = Memory::default();
    for name in ["b", "c"] {
        memory.tell(&node(name), begun);
    }
    let later = begun + TURN;
    memory.tell(&node("b"), later);
    let mut standings = standings(true);
    memory.mark_stuck(&mut standings, later);
    assert_eq!(standings[&node("b")].stuck, Some(Duration::ZERO));
    assert_eq!(standings[&node("c")].stuck, Some(TURN));
}
