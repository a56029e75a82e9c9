//! Whose word counts, and for how long.

use std::time::Duration;

use openraft::{impls::leader_id_std::LeaderId, vote::RaftVote as _};
use tokio::time::Instant;

use super::Hearing;
use crate::raft::types::Vote;

const A: u64 = 1;
const B: u64 = 2;

fn vote(term: u64, leader: u64, committed: bool) -> Vote {
    let leader = LeaderId {
        term,
        voted_for: leader,
    };
    Vote::from_leader_id(leader, committed)
}

#[test]
fn only_the_word_of_the_leader_of_this_term_counts() {
    let start = Instant::now();
    let after = |seconds| start + Duration::from_secs(seconds);
    let hearing = Hearing::default();
    let silence = |term, leader, at| hearing.silence(term, leader, after(at)).map(|s| s.as_secs());
    assert_eq!(silence(3, A, 0), None, "nobody has spoken");
    hearing.note(&vote(3, A, true), after(1));
    assert_eq!(silence(3, A, 1), Some(0));
    assert_eq!(silence(3, A, 5), Some(4));
    assert_eq!(silence(3, B, 5), None, "another one leads");
    assert_eq!(
        silence(4, A, 5),
        None,
        "the same one leads again, and has said nothing yet"
    );
    // A candidate is no leader.
    hearing.note(&vote(4, B, false), after(6));
    assert_eq!(silence(4, B, 7), None);
    assert_eq!(silence(3, A, 7), Some(6));
    hearing.note(&vote(4, B, true), after(8));
    // What a deposed leader still says is no news of the one that leads.
    hearing.note(&vote(3, A, true), after(9));
    assert_eq!(silence(4, B, 10), Some(2));
    assert_eq!(silence(3, A, 10), None);
}
