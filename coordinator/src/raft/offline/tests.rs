//! Files and directories of coordinators that do not run.

use std::{collections::BTreeSet, fs, time::Duration};

use state::{Command, features::SUPPORTED};
use tempfile::TempDir;
use tokio::time::Instant;
use types::{
    Epoch, FencingToken, Holder, ModelName, Rebind, RequestId, RoleName, UnixMillis,
    time::{Clock as _, SystemClock},
};

use super::*;
use crate::raft::{
    RaftNode, SavedPart,
    tests::alone::{alone, leading, try_alone},
};

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(40)
}

async fn propose(node: &RaftNode, command: Command) {
    let actor = "spiffe://regent.local/user/admin".parse().unwrap();
    let id = node.own_request_id(soon()).await;
    let done = node.propose(actor, id, command, soon()).await.unwrap();
    done.outcome.unwrap();
}

/// A cluster of one with some models in it.
async fn with_models(dir: &Path, count: usize) -> RaftNode {
    let node = leading(dir).await;
    propose(&node, Command::SetFeatureLevel { level: SUPPORTED }).await;
    for n in 0..count {
        propose(&node, model(&format!("m{n}"))).await;
    }
    node
}

fn model(name: &str) -> Command {
    Command::CreateModel {
        name: name.parse().unwrap(),
        description: String::new(),
        tags: Default::default(),
        placement: Default::default(),
    }
}

/// What is taken away, as one file.
async fn save(node: &RaftNode, to: &Path) -> crate::raft::Saved {
    let mut parts = node.save_snapshot().unwrap();
    let Some(Ok(SavedPart::Begins(saved))) = parts.recv().await else {
        panic!("it begins with what it is");
    };
    let mut bytes = Vec::new();
    while let Some(part) = parts.recv().await {
        match part.unwrap() {
            SavedPart::Chunk(chunk) => bytes.extend_from_slice(&chunk),
            SavedPart::Begins(_) => panic!("it begins once"),
        }
    }
    assert_eq!(bytes.len() as u64, saved.size);
    fs::write(to, bytes).unwrap();
    *saved
}

fn founder(node: &str) -> NewCluster {
    NewCluster {
        node: node.parse().unwrap(),
        region: "r0".parse().unwrap(),
        api_endpoint: "https://127.0.0.1:1".to_owned(),
        raft_endpoint: "https://127.0.0.1:2".to_owned(),
        generation: None,
        outstanding_ttl: Duration::ZERO,
        supersedes: Vec::new(),
        ca_key: None,
        at: SystemClock.now(),
        reason: "restored".to_owned(),
    }
}

#[tokio::test]
async fn a_saved_snapshot_says_what_is_in_it_and_leaves_the_nodes_own_alone() {
    let dir = TempDir::new().unwrap();
    let node = with_models(&dir.path().join("data"), 3).await;
    let file = dir.path().join("saved");
    let saved = save(&node, &file).await;
    let found = inspect(&file).unwrap();
    assert_eq!(
        (found.revision, found.term, found.size, found.generation),
        (saved.revision, saved.term, saved.size, saved.generation)
    );
    assert_eq!(found.cluster_id, node.cluster_id());
    assert_eq!(found.state_hash, node.read(|s| s.state_hash()));
    assert_eq!((found.counts.models, found.counts.roles), (3, 1));
    assert_eq!(found.members.len(), 1);
    // Not one file is left of it.
    let left = fs::read_dir(dir.path().join("data/snapshots")).unwrap().count();
    assert_eq!(left, 0);
    assert_eq!(node.status().snapshot, types::Revision(0));
    node.shutdown().await;
}

#[tokio::test]
async fn so_many_are_taken_away_at_once_and_no_more() {
    let dir = TempDir::new().unwrap();
    let node = with_models(dir.path(), 1).await;
    let first = node.save_snapshot().unwrap();
    let _second = node.save_snapshot().unwrap();
    let refused = node.save_snapshot().unwrap_err();
    assert_eq!(refused.reason, types::Reason::Overloaded);
    drop(first);
    // Whoever goes makes room.
    while node.save_snapshot().is_err() {
        tokio::task::yield_now().await;
    }
    node.shutdown().await;
}

/// Whatever byte is changed, wherever it is cut: it is refused, and where there is a place it is named.
#[tokio::test]
async fn a_file_that_is_damaged_or_cut_is_refused_with_the_place() {
    let dir = TempDir::new().unwrap();
    let node = with_models(&dir.path().join("data"), 20).await;
    let whole = dir.path().join("saved");
    save(&node, &whole).await;
    node.shutdown().await;
    let bytes = fs::read(&whole).unwrap();
    let file = dir.path().join("damaged");
    let refused = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        match inspect(&file) {
            Err(OfflineError::Damaged { offset, .. }) => offset,
            other => panic!("{other:?}"),
        }
    };
    for at in (0..bytes.len()).step_by(97) {
        let mut changed = bytes.clone();
        changed[at] ^= 0x20;
        let offset = refused(&changed);
        // The format's number says that another release wrote it.
        assert!(
            (8..12).contains(&at) || offset.is_some_and(|offset| offset <= at as u64),
            "{at}: {offset:?}"
        );
        assert!(refused(&bytes[..at]).is_some(), "cut at {at}");
    }
    let longer = [bytes.as_slice(), b"x"].concat();
    assert_eq!(refused(&longer), Some(bytes.len() as u64));
    // Nothing is made of it.
    let target = dir.path().join("restored");
    let restored = restore(&file, &target, &founder("c0")).await;
    assert!(
        matches!(restored, Err(OfflineError::Damaged { .. })),
        "{restored:?}"
    );
    assert!(!target.exists());
}

#[tokio::test]
async fn a_new_cluster_goes_on_from_a_saved_one_and_honours_nothing_of_it() {
    let dir = TempDir::new().unwrap();
    let old = with_models(&dir.path().join("data"), 5).await;
    let old_request = RequestId::from_u128(uuid::Uuid::now_v7().as_u128());
    let file = dir.path().join("saved");
    save(&old, &file).await;
    let target = dir.path().join("restored");
    let founded = restore(&file, &target, &founder("c0")).await.unwrap();
    assert_ne!(Some(founded.cluster_id), old.cluster_id());
    assert_eq!((founded.from.generation, founded.generation), (1, 2));
    // That it goes on from the old one is to be signed.
    let [to_sign] = founded.rebinds.as_slice() else {
        panic!("{founded:?}");
    };
    let said = (to_sign.statement.cluster, Some(to_sign.statement.supersedes));
    assert_eq!(said, (founded.cluster_id, old.cluster_id()));
    assert!(!to_sign.is_signed());
    old.shutdown().await;

    let new = alone(&target).await;
    let mut leadership = new.leadership();
    leadership.wait_for(|l| l.since.is_some()).await.unwrap();
    assert_eq!(new.cluster_id(), Some(founded.cluster_id));
    let voters: Vec<_> = new.members().into_iter().filter(|m| m.voter).collect();
    assert_eq!(voters.len(), 1);
    new.read(|state| {
        assert_eq!(state.cluster().unwrap().rebinds, founded.rebinds);
        assert_eq!(state.counts().models, 5);
        let role = state.role(&RoleName::global()).unwrap();
        assert_eq!((role.epoch.to_string().as_str(), &role.holder), ("g2.e0", &None));
        state.check_invariants().unwrap();
    });
    // What was asked before is too old, what is asked now is done.
    let actor = "spiffe://regent.local/user/admin".parse().unwrap();
    let late = new
        .propose(actor, old_request, model("late"), soon())
        .await
        .unwrap();
    let refused = late.outcome.unwrap_err();
    assert_eq!(refused.reason(), types::Reason::RequestTooOld);
    propose(&new, model("new")).await;
    // And it is all there once more after a restart.
    new.shutdown().await;
    let again = alone(&target).await;
    let mut leadership = again.leadership();
    leadership.wait_for(|l| l.since.is_some()).await.unwrap();
    let names = |name: &str| name.parse::<ModelName>().unwrap();
    assert!(again.read(|s| s.model(&names("new")).is_some() && s.model(&names("m4")).is_some()));
    again.shutdown().await;
}

/// Nobody who restores a file knows who else does: both clusters begin with the same generation, and their epochs look alike.
#[tokio::test]
async fn two_clusters_from_one_file_have_one_generation_and_honour_nothing_of_each_other() {
    let dir = TempDir::new().unwrap();
    let old = with_models(&dir.path().join("data"), 1).await;
    let old_id = old.cluster_id().unwrap();
    let file = dir.path().join("saved");
    save(&old, &file).await;
    old.shutdown().await;
    let mut pair = Vec::new();
    for name in ["one", "other"] {
        let target = dir.path().join(name);
        let founded = restore(&file, &target, &founder("c0")).await.unwrap();
        let node = alone(&target).await;
        let mut leadership = node.leadership();
        leadership.wait_for(|l| l.since.is_some()).await.unwrap();
        pair.push((founded, node));
    }
    let (other, other_node) = pair.pop().unwrap();
    let (one, one_node) = pair.pop().unwrap();
    assert_eq!((one.generation, other.generation), (2, 2));
    assert_ne!(one.cluster_id, other.cluster_id);

    // The registry: the other cluster's token is refused for its cluster, before its epoch is looked at.
    let token = |cluster_id| FencingToken {
        cluster_id,
        role: RoleName::global(),
        epoch: Epoch::new(2, 1),
        holder: Holder {
            region: "r0".parse().unwrap(),
            node: "a0".parse().unwrap(),
            incarnation: types::NodeIncarnation::from_u128(1),
        },
    };
    for (node, foreign) in [(&one_node, other.cluster_id), (&other_node, one.cluster_id)] {
        let write = Command::SetModelTags {
            model: "m0".parse().unwrap(),
            set: Default::default(),
            remove: Default::default(),
            etag: None,
            token: Some(token(foreign)),
        };
        let (actor, id) = (
            "spiffe://regent.local/region/r0/node/a0",
            node.own_request_id(soon()).await,
        );
        let done = node
            .propose(actor.parse().unwrap(), id, write, soon())
            .await
            .unwrap();
        assert_eq!(done.outcome.unwrap_err().reason(), types::Reason::WrongCluster);
    }

    // A door of one of them whose floor is that very epoch and holder.
    let held = token(one.cluster_id);
    let floor = policy::fence::Floor {
        cluster_id: one.cluster_id,
        role: held.role.clone(),
        epoch: held.epoch,
        holder: Some(held.holder.clone()),
    };
    let check = |token: &FencingToken| policy::fence::check(Some(&floor), token, one.cluster_id);
    assert_eq!(check(&held), policy::fence::Verdict::Accept);
    let policy::fence::Verdict::Refuse(refused) = check(&token(other.cluster_id)) else {
        panic!("a door took the other cluster's token");
    };
    assert_eq!(refused.to_refusal().reason, types::Reason::WrongCluster);

    // An agent of the old cluster that hears of both, signed, follows neither; one that has followed stays.
    let statements: Vec<Rebind> = [&one, &other].map(|f| f.rebinds[0].statement).to_vec();
    let left = BTreeSet::from([old_id]);
    for (shown, bound) in [(&one, &other), (&other, &one)] {
        let of_old = policy::rebind::Bound {
            cluster: old_id,
            seen: 1,
            closed: &BTreeSet::new(),
        };
        let stays = policy::rebind::follow(of_old, shown.cluster_id, &statements);
        assert!(
            matches!(stays, Err(policy::rebind::Stays::Conflict { .. })),
            "{stays:?}"
        );
        let followed = policy::rebind::Bound {
            cluster: bound.cluster_id,
            seen: 2,
            closed: &left,
        };
        let stays = policy::rebind::follow(followed, shown.cluster_id, &statements);
        assert!(
            matches!(stays, Err(policy::rebind::Stays::Unsigned { .. })),
            "{stays:?}"
        );
    }
    one_node.shutdown().await;
    other_node.shutdown().await;
}

#[tokio::test]
async fn a_directory_that_may_be_somebodys_is_left_alone() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    let node = with_models(&data, 1).await;
    let file = dir.path().join("saved");
    save(&node, &file).await;
    node.shutdown().await;
    let refused = restore(&file, &data, &founder("c0")).await;
    assert!(
        matches!(refused, Err(OfflineError::NotEmpty { .. })),
        "{refused:?}"
    );
    let low = NewCluster {
        generation: Some(1),
        ..founder("c0")
    };
    let target = dir.path().join("restored");
    let refused = restore(&file, &target, &low).await;
    assert!(
        matches!(refused, Err(OfflineError::Unrecoverable(_))),
        "{refused:?}"
    );
    // A crash in the middle leaves what no coordinator starts from, and what the next run names.
    fs::create_dir(dir.path().join("restored.new")).unwrap();
    let refused = restore(&file, &target, &founder("c0")).await;
    assert!(
        matches!(refused, Err(OfflineError::LeftOver { .. })),
        "{refused:?}"
    );
    assert!(!target.exists());
    assert!(UnixMillis(0) < SystemClock.now());
}

/// Its log is longer than its snapshot, and its end was never called committed by anybody.
#[tokio::test]
async fn a_survivor_goes_on_with_all_of_its_log_and_the_old_directory_is_kept() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    let old = with_models(&data, 3).await;
    old.take_snapshot().await.unwrap();
    propose(&old, model("behind")).await;
    let (cluster, applied) = (old.cluster_id().unwrap(), old.applied());
    // It is locked while it runs.
    let locked = Survivor::open(&data, &"c0".parse().unwrap()).await;
    assert!(matches!(locked, Err(OfflineError::Directory(_))), "{locked:?}");
    old.shutdown().await;
    fs::write(data.join("listen.json"), "{}").unwrap();

    let survivor = Survivor::open(&data, &"c0".parse().unwrap()).await.unwrap();
    let standing = survivor.standing();
    assert_eq!((standing.at.revision, standing.at.counts.models), (applied, 4));
    assert!(standing.committed <= applied && standing.others.is_empty());
    let (founded, kept) = survivor.recover(&founder("c0")).await.unwrap();
    assert_eq!((founded.generation, founded.revision), (2, applied.next()));
    assert_eq!(kept, dir.path().join(format!("data.of-{cluster}")));
    assert!(kept.join("node.json").exists() && !dir.path().join("data.new").exists());
    assert_eq!(fs::read_to_string(data.join("listen.json")).unwrap(), "{}");

    let new = alone(&data).await;
    let mut leadership = new.leadership();
    leadership.wait_for(|l| l.since.is_some()).await.unwrap();
    assert_eq!(new.cluster_id(), Some(founded.cluster_id));
    assert!(new.read(|s| s.model(&"behind".parse().unwrap()).is_some()));
    new.shutdown().await;
    // The old one is as it was: with its own cluster, should it ever be needed.
    let again = alone(&kept).await;
    assert_eq!(again.cluster_id(), Some(cluster));
    again.shutdown().await;
}

#[tokio::test]
async fn a_survivor_that_lacks_its_snapshot_or_never_ran_is_refused() {
    let dir = TempDir::new().unwrap();
    let never = Survivor::open(&dir.path().join("never"), &"c0".parse().unwrap()).await;
    assert!(matches!(never, Err(OfflineError::File { .. })), "{never:?}");
    assert!(!dir.path().join("never").exists());
    let data = dir.path().join("data");
    let node = with_models(&data, 1).await;
    node.take_snapshot().await.unwrap();
    node.shutdown().await;
    let other = Survivor::open(&data, &"c9".parse().unwrap()).await;
    assert!(matches!(other, Err(OfflineError::Directory(_))), "{other:?}");
}

/// The exchange of names is done and the old directory is not under its own: whoever took it for a left-over would found a second
/// cluster beside the first.
#[tokio::test]
async fn a_recovery_that_was_cut_off_after_the_exchange_is_ended_and_not_begun_again() {
    let dir = TempDir::new().unwrap();
    let (data, building) = (dir.path().join("data"), dir.path().join("data.new"));
    let old = with_models(&data, 1).await;
    let cluster = old.cluster_id();
    old.shutdown().await;
    let node = "c0".parse().unwrap();
    let survivor = Survivor::open(&data, &node).await.unwrap();
    assert_eq!(survivor.finish().unwrap(), None);
    let (founded, kept) = survivor.recover(&founder("c0")).await.unwrap();

    // As a crash between the two renames leaves it.
    fs::rename(&kept, &building).unwrap();
    let cut_off = Survivor::open(&data, &node).await.unwrap();
    assert_eq!(cut_off.standing().at.cluster_id, Some(founded.cluster_id));
    assert_eq!(cut_off.finish().unwrap(), Some(kept.clone()));
    assert_eq!(cut_off.finish().unwrap(), None);
    assert_eq!(identity_of(&kept), cluster);
    assert!(!building.exists());
    drop(cut_off);

    // As a crash before the exchange leaves it: what was built is of nobody, and the old one is in its place.
    fs::rename(&data, &building).unwrap();
    fs::rename(&kept, &data).unwrap();
    let before = Survivor::open(&data, &node).await.unwrap();
    assert_eq!(before.finish().unwrap(), None);
    let refused = before.recover(&founder("c0")).await.map(drop);
    assert!(
        matches!(refused, Err(OfflineError::LeftOver { .. })),
        "{refused:?}"
    );
    assert_eq!(
        (identity_of(&data), identity_of(&building)),
        (cluster, Some(founded.cluster_id))
    );
}

fn identity_of(dir: &Path) -> Option<types::ClusterId> {
    crate::raft::identity::cluster_of(dir)
}

/// What its log has let go of is nowhere. Nothing is known to be committed in a directory that was just made.
#[tokio::test]
async fn a_node_whose_snapshots_are_gone_does_not_start_on_an_empty_state() {
    let dir = TempDir::new().unwrap();
    let node = with_models(&dir.path().join("data"), 2).await;
    let file = dir.path().join("saved");
    save(&node, &file).await;
    node.shutdown().await;
    let restored = dir.path().join("restored");
    restore(&file, &restored, &founder("c0")).await.unwrap();
    fs::remove_dir_all(restored.join("snapshots")).unwrap();
    let refused = try_alone(&restored).await.map(drop).unwrap_err();
    let text = refused.to_string();
    assert!(
        matches!(&refused, StartError::Damaged { path, .. } if *path == restored.join("snapshots")),
        "{text}"
    );
    assert!(
        text.contains("the newest snapshot is missing") && text.contains("regent cluster replace NODE"),
        "{text}"
    );
}
