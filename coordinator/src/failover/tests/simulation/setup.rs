//! The cluster before anything happens, and the names in it.

use std::time::Duration;

use state::{Command, ControlState, Entry, Expects, features::SUPPORTED};
use types::{
    ClusterId, Holder, NodeIncarnation, Principal, RequestId, Revision, UnixMillis,
    model::Placement,
    region::{Endpoints, Health, NodeKind},
    role::TimingPolicy,
};

use super::time::{At, SECOND};

/// What the honest wall clocks say when the world begins.
pub(super) const WALL: UnixMillis = UnixMillis(1_700_000_000_000);
/// How long a history is.
pub(super) const END: At = 11 * SECOND;
/// The revision of the state that every coordinator begins with.
pub(super) const REVISION: u64 = 1_000;
pub(super) const CLUSTER: ClusterId = ClusterId::from_u128(1);

/// Short, so that a history has room for many changes.
pub(super) fn timing(lease_ttl: Duration) -> TimingPolicy {
    TimingPolicy {
        lease_ttl,
        renew_interval: lease_ttl * 3 / 10,
        drain_margin: lease_ttl / 10,
        heartbeat_interval: Duration::from_millis(250),
        promotion_absence: Duration::from_millis(1_300),
        ..TimingPolicy::fast()
    }
}

pub(super) const TTL: Duration = Duration::from_millis(1_000);
/// What people make of it.
pub(super) const TTLS: [Duration; 3] = [Duration::from_millis(700), TTL, Duration::from_millis(2_200)];

/// Region and name of each agent: one in each region, and of five regions two have a second.
pub(super) fn places(regions: usize) -> Vec<(usize, String)> {
    let mut places: Vec<_> = (0..regions).map(|r| (r, format!("a{r}"))).collect();
    if regions > 3 {
        places.extend([(0, "b0".to_owned()), (2, "b2".to_owned())]);
    }
    places
}

/// A run of the agent at a place.
pub(super) fn holder(regions: usize, place: usize, run: u128) -> Holder {
    let (region, node) = &places(regions)[place];
    Holder {
        region: format!("r{region}").parse().expect("a name"),
        node: node.parse().expect("a name"),
        incarnation: NodeIncarnation::from_u128(1_000 * (place as u128 + 1) + run),
    }
}

pub(super) fn coordinator(c: usize) -> Principal {
    format!("spiffe://regent.local/region/r{c}/coordinator/c{c}")
        .parse()
        .expect("a principal")
}
pub(super) fn person() -> Principal {
    "spiffe://regent.local/user/admin".parse().expect("a principal")
}
pub(super) fn agent(holder: &Holder) -> Principal {
    Principal::Agent {
        region: holder.region.clone(),
        node: holder.node.clone(),
    }
}

pub(super) fn register(holder: &Holder) -> Command {
    Command::RegisterNode {
        node: holder.node.clone(),
        region: holder.region.clone(),
        kind: NodeKind::Agent,
        incarnation: holder.incarnation,
        endpoints: Endpoints::default(),
        zone: None,
    }
}

/// Healthy regions with their agents; nobody holds the role.
pub(super) fn state(regions: usize) -> ControlState {
    let mut commands = vec![
        Command::InitCluster {
            cluster_id: CLUSTER,
            generation: 1,
            timing: timing(TTL),
        },
        Command::SetFeatureLevel { level: SUPPORTED },
    ];
    for r in 0..regions {
        let region: types::RegionId = format!("r{r}").parse().expect("a name");
        commands.push(Command::RegisterRegion {
            region: region.clone(),
        });
        commands.push(Command::SetRegionHealth {
            region,
            from: Health::Recovering,
            to: Health::Healthy,
            evidence: String::new(),
        });
    }
    let places = 0..places(regions).len();
    commands.extend(places.map(|place| register(&holder(regions, place, 1))));
    commands.push(Command::CreateModel {
        name: "guarded.model".parse().expect("a name"),
        description: String::new(),
        tags: Default::default(),
        placement: Placement::default(),
    });
    let mut state = ControlState::new();
    for (revision, command) in (REVISION - commands.len() as u64..).zip(commands) {
        let entry = Entry {
            proposed_at: WALL,
            request_id: RequestId::v7_from_parts(WALL.0, u128::from(revision)),
            actor: match &command {
                Command::CreateModel { .. } => person(),
                _ => coordinator(0),
            },
            command,
            expects: Expects::default(),
        };
        let applied = state.apply(Revision(revision), &entry);
        applied
            .outcome
            .unwrap_or_else(|rejection| panic!("{rejection}: {entry:?}"));
    }
    state
}
