//! How long a read of a pointer may take, and whose pointer it gives out.

use std::{sync::Arc, time::Duration};

use artifact_store::{
    ArtifactStore, Gate, MemStore,
    pointer::{PointerChange, write_pointer},
};
use async_trait::async_trait;
use tokio::sync::watch;
use types::{Holder, Reason, RegionId, RoleName, reason::Refusal, region::StoreBinding};

use super::{
    door::{Bench, bench, east, west},
    records::*,
};
use crate::{
    confirmations::Confirmations,
    pointers::Pointers,
    stores::{OpenStore, Stores},
    view::View,
};

/// Opens the one store there is, or waits at the gate for ever.
struct Opener(Arc<MemStore>, Option<Arc<Gate>>);

#[async_trait]
impl OpenStore for Opener {
    async fn open(&self, _: &RegionId, _: &StoreBinding) -> Result<Arc<dyn ArtifactStore>, String> {
        if let Some(gate) = &self.1 {
            gate.pass().await;
        }
        Ok(Arc::clone(&self.0) as _)
    }
}

/// An agent that was told of this role, and the store of `west` with a pointer that `writer` wrote under epoch 5.
struct World {
    bench: Bench,
    view: watch::Sender<Arc<View>>,
    store: Arc<MemStore>,
}

impl World {
    async fn new(told: u32, holder: Option<Holder>, writer: &Holder) -> Self {
        let world = Self {
            bench: bench(),
            view: watch::Sender::new(Arc::default()),
            store: Arc::new(MemStore::new("west")),
        };
        world.bench.learn(told, holder.clone()).await;
        world.tell(told, holder);
        write_pointer(world.store.as_ref(), &token(5, writer), &PointerChange::Keep)
            .await
            .unwrap();
        world
    }

    /// The view says this of the role from now on.
    fn tell(&self, counter: u32, holder: Option<Holder>) {
        let mut view = View {
            cluster_id: Some(CLUSTER),
            ..View::default()
        };
        view.regions.insert(region("west"), region_record("west"));
        view.roles
            .insert(RoleName::global(), Arc::new(role(counter, holder, None)));
        self.view.send_replace(Arc::new(view));
    }

    fn pointers(&self, gate: Option<Arc<Gate>>) -> Pointers {
        let stores = Stores::new(Arc::new(Opener(Arc::clone(&self.store), gate)));
        let confirmations = Confirmations::new(self.bench.door.clone());
        Pointers::new(self.view.subscribe(), stores, confirmations)
    }

    async fn read(&self, pointers: &Pointers) -> Result<Holder, Refusal> {
        let (role, region) = (RoleName::global(), region("west"));
        // Only a read without an end takes so long.
        let read = tokio::time::timeout(Duration::from_secs(20), pointers.read(&role, &region)).await;
        read.unwrap().map(|body| body.unwrap().holder)
    }
}

#[tokio::test]
async fn a_read_ends_whatever_it_waits_for() {
    let limit = Duration::from_millis(20);
    let world = World::new(5, Some(west()), &west()).await;
    world.bench.coordinators.commit(5, Some(west()));
    let pointers = world.pointers(Some(Gate::new())).within(limit);
    let refusal = world.read(&pointers).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::Unreachable, "{refusal}");
    assert!(refusal.message.contains("20ms"), "{refusal}");

    *world.bench.coordinators.gate.lock().unwrap() = Some(Gate::new());
    let pointers = world.pointers(None).within(limit);
    let refusal = world.read(&pointers).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::NoQuorum, "{refusal}");
    assert_eq!(refusal.operand("shown"), Some("g1.e5"));
    // The answer is not held back any more.
    assert_eq!(world.read(&world.pointers(None)).await, Ok(west()));
}

/// `told` to the agent, then `confirmed`, of a pointer that `writer` wrote under epoch 5.
async fn check(
    told: (u32, Option<Holder>),
    confirmed: (u32, Option<Holder>),
    writer: Holder,
    expected: Result<(), Reason>,
) {
    let case = format!("told {told:?}, confirmed {confirmed:?}, written by {writer}");
    let world = World::new(told.0, told.1, &writer).await;
    world.bench.coordinators.commit(confirmed.0, confirmed.1);
    let read = world.read(&world.pointers(None)).await;
    if let Err(refusal) = &read
        && refusal.reason == Reason::WrongHolder
    {
        assert_eq!(refusal.operand("shown"), Some("g1.e5"));
        assert_eq!(refusal.operand("shown_holder"), Some(writer.to_string().as_str()));
        assert!(refusal.message.contains("switch the role over"), "{refusal}");
    }
    assert_eq!(read.map(drop).map_err(|r| r.reason), expected, "{case}");
}

#[tokio::test]
async fn a_pointer_of_the_committed_epoch_is_its_holders() {
    let (we, ea) = (|| Some(west()), || Some(east()));
    let forged = Err(Reason::WrongHolder);
    check((5, we()), (5, we()), west(), Ok(())).await;
    check((5, we()), (5, we()), east(), forged).await;
    check((5, we()), (5, we()), holder("west/a1", 2), forged).await;
    // The view is older: the coordinators say whose the epoch is, by now.
    check((3, ea()), (5, we()), west(), Ok(())).await;
    check((3, ea()), (5, we()), east(), forged).await;
    // Nobody holds a fenced epoch, so nobody writes under it.
    check((4, ea()), (5, None), east(), forged).await;
    // A claim before its promotion is ahead of what is committed: nothing is known of its holder.
    check((4, None), (4, None), east(), Ok(())).await;
    // Over is over, whoever wrote it.
    check((6, ea()), (6, ea()), west(), Err(Reason::StaleEpoch)).await;
}

/// The coordinator that answers may have read before the role moved; the watch was faster.
#[tokio::test]
async fn what_this_node_is_told_while_it_asks_counts() {
    let world = World::new(5, Some(west()), &west()).await;
    world.bench.coordinators.commit(5, Some(west()));
    let gate = Gate::new();
    *world.bench.coordinators.gate.lock().unwrap() = Some(Arc::clone(&gate));
    let pointers = world.pointers(None);
    let told = async {
        gate.arrived().await;
        world.tell(6, Some(east()));
        gate.release();
    };
    let (read, ()) = tokio::join!(world.read(&pointers), told);
    let refusal = read.unwrap_err();
    assert_eq!(refusal.reason, Reason::StaleEpoch, "{refusal}");
    assert_eq!(
        (refusal.operand("shown"), refusal.operand("current")),
        (Some("g1.e5"), Some("g1.e6"))
    );
}
