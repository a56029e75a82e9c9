//! Members: who they are, how they join, who leads next.

use super::*;

#[test]
fn each_own_leadership_has_its_own_beginning() {
    let own = raft_id(&node("c0"));
    let metrics = |term: u64, state: ServerState, applied: Option<(u64, u64)>| RaftMetrics::<TypeConfig> {
        current_term: term,
        state,
        current_leader: (state == ServerState::Leader).then_some(own),
        last_applied: applied.map(|(term, index)| log_id(term, index)),
        ..RaftMetrics::new_initial(own)
    };
    let follows = next_leadership(
        &Leadership::default(),
        &metrics(3, ServerState::Follower, Some((2, 9))),
    );
    assert_eq!((follows.is_leader, follows.since), (false, None));
    let elected = next_leadership(&follows, &metrics(4, ServerState::Leader, Some((2, 9))));
    assert_eq!(
        (elected.is_leader, elected.since),
        (true, None),
        "no entry of its own term is applied yet"
    );
    let leads = next_leadership(&elected, &metrics(4, ServerState::Leader, Some((4, 10))));
    assert!(leads.since.is_some());
    let still = next_leadership(&leads, &metrics(4, ServerState::Leader, Some((4, 11))));
    assert_eq!(still.since, leads.since);
    // Lost and won again between two looks: another term, another beginning.
    let again = next_leadership(&still, &metrics(6, ServerState::Leader, Some((6, 12))));
    assert!(again.since > still.since);
    let lost = next_leadership(&again, &metrics(7, ServerState::Follower, Some((6, 12))));
    assert_eq!((lost.is_leader, lost.since, lost.term), (false, None, 7));
}

/// (name, votes, matched, silent for)
#[test]
fn leadership_is_handed_to_the_most_caught_up_voter_that_answers() {
    let chosen = |others: &[(&str, bool, u64, Option<u64>)]| {
        let member = |(name, voter, matched, silent_millis): &(&str, bool, u64, Option<u64>)| Member {
            raft_id: raft_id(&node(name)),
            peer: peer(name, 1),
            voter: *voter,
            leader: false,
            matched: Some(Revision(*matched)),
            silent_millis: *silent_millis,
            lag: None,
        };
        let others = others.iter().map(member).collect();
        let chosen = successor(others, Duration::from_millis(500));
        chosen.map(|m| m.peer.node.to_string()).unwrap_or_default()
    };
    assert_eq!(chosen(&[]), "");
    assert_eq!(chosen(&[("b", false, 9, Some(1))]), "");
    assert_eq!(chosen(&[("b", true, 8, Some(1)), ("c", true, 9, Some(1))]), "c");
    assert_eq!(
        chosen(&[("b", true, 8, Some(499)), ("c", true, 9, Some(500))]),
        "b"
    );
    assert_eq!(chosen(&[("b", true, 9, Some(1)), ("c", true, 9, None)]), "b");
    assert_eq!(chosen(&[("b", true, 8, None), ("c", true, 9, None)]), "c");
}

/// Two directories under one name must not count as one voter; one of an older version has no id to compare.
#[test]
fn a_member_is_its_disk_as_far_as_that_is_known() {
    let on = |disk: Option<u128>, port| Peer {
        disk: disk.map(DiskId::from_u128),
        ..peer("a", port)
    };
    let step = |known: Option<u128>, who: Peer| {
        let peers = BTreeMap::from([(raft_id(&node("a")), on(known, 1))]);
        let membership = Membership::new(vec![peers.keys().copied().collect()], peers).unwrap();
        next_step(&membership, &who)
    };
    for (known, shown, expected) in [
        (None, None, JoinStep::Done),
        (Some(1), Some(1), JoinStep::Done),
        (Some(1), None, JoinStep::Done),
        (None, Some(1), JoinStep::UpdateEndpoints),
    ] {
        assert_eq!(step(known, on(shown, 1)), Ok(expected), "{known:?} {shown:?}");
        assert_eq!(
            step(known, on(shown, 2)),
            Ok(JoinStep::UpdateEndpoints),
            "{known:?} {shown:?}"
        );
    }
    assert_eq!(on(None, 2).after(&on(Some(1), 1)), on(Some(1), 2));
    for port in [1, 2] {
        let refused = step(Some(1), on(Some(2), port));
        assert!(matches!(refused, Err(JoinError::OtherDisk { .. })), "{refused:?}");
    }
}

#[test]
fn a_joining_node_takes_one_step_at_a_time() {
    let ids: Vec<u64> = ["a", "b"].map(|n| raft_id(&node(n))).into();
    let membership = |voters: &[u64]| {
        let peers = BTreeMap::from([(ids[0], peer("a", 1)), (ids[1], peer("b", 2))]);
        Membership::new(vec![BTreeSet::from_iter(voters.iter().copied())], peers).unwrap()
    };
    let check = |voters: &[u64], who: Peer| next_step(&membership(voters), &who).unwrap();
    assert_eq!(check(&ids[..1], peer("c", 3)), JoinStep::AddLearner);
    assert_eq!(check(&ids[..1], peer("b", 2)), JoinStep::Promote);
    assert_eq!(check(&ids[..1], peer("b", 3)), JoinStep::UpdateEndpoints);
    assert_eq!(check(&ids, peer("b", 3)), JoinStep::UpdateEndpoints);
    assert_eq!(check(&ids, peer("b", 2)), JoinStep::Done);
    // A name that gives the id of another member.
    let taken = BTreeMap::from([(raft_id(&node("c")), peer("a", 1))]);
    let taken = Membership::new(vec![taken.keys().copied().collect()], taken).unwrap();
    let refused = next_step(&taken, &peer("c", 3)).unwrap_err().to_string();
    assert!(
        refused.contains("node c and member a have the same raft id"),
        "{refused}"
    );
}

#[test]
fn raft_ids_follow_from_names_alone() {
    // SHA-256 of "a" begins ca978112ca1bbdca; the top bit is cleared.
    assert_eq!(raft_id(&node("a")), 0x4a97_8112_ca1b_bdca);
}
