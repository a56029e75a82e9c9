//! Whatever the size of the pieces, the list is the same.

use state::{Command, Entry};
use types::{ClusterId, RequestId, Revision, UnixMillis, model::Placement, role::TimingPolicy};

use super::*;

fn state() -> ControlState {
    let mut state = ControlState::new();
    let region = |n: u32| RegionId::new(format!("r{n}")).unwrap();
    let mut commands = vec![Command::InitCluster {
        cluster_id: ClusterId::from_u128(5),
        generation: 1,
        timing: TimingPolicy::fast(),
    }];
    // In an order of joining that is not that of names.
    commands.extend(
        (0..3)
            .rev()
            .map(|n| Command::RegisterRegion { region: region(n) }),
    );
    commands.extend((0..7).map(|n| Command::CreateModel {
        name: format!("m{n}").parse().unwrap(),
        description: String::new(),
        tags: [].into(),
        placement: Placement::Everywhere,
    }));
    commands.extend((0..4).map(|n| Command::CreateRole {
        role: format!("primaries/x{n}").parse().unwrap(),
        candidates: Vec::new(),
        mode: types::role::FailoverMode::Automatic,
        timing: None,
    }));
    for (at, command) in (1..).zip(commands) {
        let entry = Entry {
            proposed_at: UnixMillis(1_000),
            request_id: RequestId::v7_from_parts(1_000, u128::from(at)),
            actor: "spiffe://regent.local/user/admin".parse().unwrap(),
            command,
            expects: state::Expects::default(),
        };
        state.apply(Revision(at), &entry).outcome.unwrap();
    }
    state
}

#[test]
fn pieces_of_any_size_give_every_record_once_and_in_the_same_order() {
    let state = state();
    let in_pieces = |limit: usize| {
        let (mut all, mut place, mut pieces) = (Vec::new(), Some(Place::default()), 0);
        while let Some(from) = place {
            let (piece, next) = fill_from(&state, from, limit, &WatchFilter::default());
            assert!(piece.len() <= limit);
            (place, pieces) = (next, pieces + 1);
            all.extend(piece);
        }
        (all, pieces)
    };
    let (whole, pieces) = in_pieces(1_000);
    // The timing, three regions, seven models, five roles.
    assert_eq!((whole.len(), pieces), (1 + 3 + 7 + 5, 1));
    for limit in 1..=whole.len() {
        let (all, pieces) = in_pieces(limit);
        assert!(all == whole, "pieces of {limit}");
        assert!(
            (whole.len() / limit..=whole.len() / limit + 1).contains(&pieces),
            "{pieces} of {limit}"
        );
    }
}
