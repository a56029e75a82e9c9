//! Readers of pointers (I5).

use artifact_store::pointer::{PointerChange, write_pointer};
use types::{Digest, Reason};

use crate::{
    coordinator::global,
    records::{east, role, stores_attached, token},
    world::World,
};

#[tokio::test]
async fn a_pointer_is_used_only_while_its_epoch_is_not_below_the_committed_one() {
    let world = World::new().await;
    let agent = world.agent().await;
    stores_attached(&world).await;
    let region = "east".parse().unwrap();
    let pointers = agent.pointers().clone();
    let read = async || pointers.read(&global(), &region).await;
    let write = async |counter| {
        let target = PointerChange::Target(Digest::of(b"x"));
        write_pointer(
            world.stores.of("east").as_ref(),
            &token(counter, &east()),
            &target,
        )
        .await
        .unwrap();
    };
    let committed = async |counter| {
        world.coordinator.commit(vec![role(counter, Some(east()), None)]);
        let seen = world.coordinator.lock().view.revision;
        agent.board().wait_for(|b| b.revision >= seen).await.unwrap();
    };
    committed(2).await;
    // Nobody wrote it yet.
    assert_eq!(read().await.unwrap(), None);
    write(1).await;
    let refusal = read().await.unwrap_err();
    assert_eq!(refusal.reason, Reason::StaleEpoch);
    assert_eq!(refusal.operand("shown"), Some("g1.e1"));
    assert_eq!(refusal.operand("current"), Some("g1.e2"));
    write(2).await;
    assert_eq!(read().await.unwrap().unwrap().target, Some(Digest::of(b"x")));
    // A target that claims before its promotion is ahead of the committed epoch.
    write(4).await;
    assert!(read().await.unwrap().is_some());

    for (role, region, reason) in [
        ("primaries/other", "east", Reason::RoleNotFound),
        ("primaries/global", "north", Reason::RegionNotFound),
    ] {
        let refused = pointers
            .read(&role.parse().unwrap(), &region.parse().unwrap())
            .await;
        assert_eq!(refused.unwrap_err().reason, reason);
    }
    agent.shutdown().await.unwrap();
}
