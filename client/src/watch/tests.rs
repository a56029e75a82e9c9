//! Revisions in parts, and messages that are too large: in pieces, and from a coordinator that breaks off.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Instant,
};

use futures::{StreamExt as _, stream, stream::FuturesUnordered};
use proto::{
    convert::status::to_status,
    v1::watch_service_server::{WatchService, WatchServiceServer},
};
use tokio::sync::Semaphore;
use tonic::{
    Request, Response, Status,
    transport::{Identity, Server, ServerTlsConfig, server::TcpIncoming},
};
use types::role::TimingPolicy;

use super::*;
use crate::reach_tests::{Ca, LONG, listener, url, well};

fn event(kind: &str) -> pb::Event {
    pb::Event {
        kind: kind.to_owned(),
        resource: Some((&Resource::Timing(TimingPolicy::fast())).into()),
        deleted: false,
    }
}

fn events(kinds: &str) -> Vec<pb::Event> {
    kinds.split(' ').map(event).collect()
}

fn kinds<'e>(events: impl IntoIterator<Item = &'e str>) -> String {
    events.into_iter().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_revision_in_parts_is_given_out_once_it_is_whole() {
    let mut parts = Parts::default();
    let five = Revision(5);
    assert_eq!(parts.add(five, events("a b"), true), Ok(None));
    assert_eq!(parts.add(five, events("c"), true), Ok(None));
    let all = parts.add(five, events("d"), false).unwrap().unwrap();
    assert_eq!(kinds(all.iter().map(|e| e.kind.as_str())), "a b c d");
    assert_eq!(parts.add(Revision(6), events("e"), false), Ok(Some(events("e"))));
}

#[test]
fn parts_of_two_revisions_are_never_put_together() {
    for (revision, next, more) in [
        (6, events("b"), false),
        (6, events("b"), true),
        (6, Vec::new(), false),
    ] {
        let mut parts = Parts::default();
        parts.add(Revision(5), events("a"), true).unwrap();
        let refused = parts.add(Revision(revision), next, more).unwrap_err();
        assert!(
            refused.message.contains("came before the last one of"),
            "{refused}"
        );
        parts.forget();
        assert_eq!(parts.add(Revision(6), events("b"), false), Ok(Some(events("b"))));
    }
}

#[test]
fn a_position_that_is_out_of_range_is_given_up_whatever_the_reason() {
    let refusal = |reason| Refusal::new(reason, "no");
    for reason in [Reason::Compacted, Reason::FutureRevision, Reason::WrongCluster] {
        assert!(must_list(&refusal(reason)), "{reason}");
        assert!(!must_list(&refusal(reason).with(MEANT, "own")), "{reason}");
    }
    for &reason in Reason::ALL {
        let lost = reason.category() == types::reason::Category::OutOfRange || reason == Reason::WrongCluster;
        assert_eq!(must_list(&refusal(reason)), lost, "{reason}");
    }
    // A later version's is told by its code alone.
    let unknown = |nearest| refusal(nearest).with(status::UNKNOWN_REASON, "CLOCK_STRUCK");
    assert!(must_list(&unknown(Reason::Compacted)));
    assert!(!must_list(&unknown(Reason::IllegalTransition)));
}

#[test]
fn a_message_that_is_too_large_is_told_from_a_break() {
    let too_large = Status::out_of_range("Error, decoded message length too large");
    assert!(is_too_large(&status::from_status(&too_large)));
    assert!(!is_too_large(&status::from_status(&Status::unavailable("gone"))));
}

type Messages = Vec<Result<pb::WatchResponse, Status>>;

/// A coordinator that answers each list and each watch with the next of these, and notes after which revisions it was asked.
#[derive(Clone, Default)]
struct Script {
    lists: Arc<Mutex<VecDeque<Result<pb::ListChunk, Status>>>>,
    watches: Arc<Mutex<VecDeque<Messages>>>,
    asked: Arc<Mutex<BTreeSet<u64>>>,
    /// Of watches that may be answered; none: all.
    turns: Option<Arc<Semaphore>>,
}

#[tonic::async_trait]
impl WatchService for Script {
    type ListStream = stream::Iter<std::array::IntoIter<Result<pb::ListChunk, Status>, 1>>;
    type WatchStream = stream::BoxStream<'static, Result<pb::WatchResponse, Status>>;

    async fn list(&self, _: Request<pb::ListRequest>) -> Result<Response<Self::ListStream>, Status> {
        let next = self.lists.lock().unwrap().pop_front();
        let next = next.ok_or_else(|| Status::unavailable("the script is over"))?;
        Ok(Response::new(stream::iter([next])))
    }
    async fn watch(&self, asked: Request<pb::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        self.asked
            .lock()
            .unwrap()
            .insert(asked.into_inner().after_revision);
        if let Some(turns) = &self.turns {
            turns.acquire().await.unwrap().forget();
        }
        let next = self.watches.lock().unwrap().pop_front();
        let next = next.ok_or_else(|| Status::unavailable("the script is over"))?;
        Ok(Response::new(stream::iter(next).chain(stream::pending()).boxed()))
    }
}

fn message(revision: u64, kinds: &str, more: bool) -> Result<pb::WatchResponse, Status> {
    Ok(pb::WatchResponse {
        header: Some(pb::ResponseHeader {
            cluster_id: ClusterId::from_u128(7).to_string(),
            revision,
            ..pb::ResponseHeader::default()
        }),
        events: events(kinds),
        more,
    })
}

fn list_at(revision: u64) -> Result<pb::ListChunk, Status> {
    Ok(pb::ListChunk {
        header: message(revision, "list", false)?.header,
        last: true,
        ..pb::ListChunk::default()
    })
}

fn compacted<T>() -> Result<T, Status> {
    Err(to_status(&Refusal::new(Reason::Compacted, "it is forgotten")))
}

/// What is asked of a coordinator that goes by a script.
async fn asking<T>(script: Script, ask: impl AsyncFnOnce(Client) -> T) -> T {
    asking_all([script], ask).await
}

/// What is asked of coordinators that go by scripts, the nearest first.
async fn asking_all<const N: usize, T>(scripts: [Script; N], ask: impl AsyncFnOnce(Client) -> T) -> T {
    let ca = Ca::new();
    let (served, endpoints): (FuturesUnordered<_>, Vec<_>) = scripts
        .into_iter()
        .map(|script| {
            let listener = listener();
            let endpoint = url(listener.local_addr().unwrap());
            listener.set_nonblocking(true).unwrap();
            let incoming = TcpIncoming::from(tokio::net::TcpListener::from_std(listener).unwrap());
            let tls = ServerTlsConfig::new().identity(Identity::from_pem(&ca.cert, &ca.key));
            let mut server = Server::builder().tls_config(tls).unwrap();
            let served = server
                .add_service(WatchServiceServer::new(script))
                .add_service(well())
                .serve_with_incoming(incoming);
            (served, endpoint)
        })
        .unzip();
    let client = ca.client(&endpoints, LONG, LONG);
    let mut served = served;
    tokio::select! {
        _ = served.next() => panic!("a coordinator ended"),
        answer = timeout(LONG, ask(client)) => answer.unwrap(),
    }
}

fn after_four(client: Client) -> StateWatch {
    StateWatch::resume(client, LONG, ClusterId::from_u128(7), Revision(4))
}

/// The first revision that a watch after revision 4 gives out.
async fn first_of(watches: [Messages; 2]) -> (Revision, String) {
    let script = Script {
        watches: Arc::new(Mutex::new(watches.into())),
        ..Script::default()
    };
    let asked = Arc::clone(&script.asked);
    let change = asking(script, async |client| after_four(client).next().await).await;
    assert_eq!(*asked.lock().unwrap(), BTreeSet::from([4]));
    let Change::Events { revision, events } = change else {
        panic!("{change:?}");
    };
    (revision, kinds(events.iter().map(|e| e.kind.as_str())))
}

#[tokio::test]
async fn a_break_in_the_middle_of_a_revision_gives_none_of_its_events_twice() {
    let broken = vec![
        message(5, "a b", true),
        Err(to_status(&Refusal::new(Reason::NotServing, "it stops"))),
    ];
    let whole = vec![message(5, "a b", true), message(5, "c", false)];
    assert_eq!(first_of([broken, whole]).await, (Revision(5), "a b c".to_owned()));
}

/// It asks again from where it was, as after any break.
#[tokio::test]
async fn a_revision_that_lacks_its_last_part_is_asked_for_again() {
    let cut = vec![message(5, "a", true), message(6, "c", false)];
    let whole = vec![message(5, "a", true), message(5, "b", false)];
    assert_eq!(first_of([cut, whole]).await, (Revision(5), "a b".to_owned()));
}

/// What stands at a position that is forgotten begins anew without a wait; one whose new position is forgotten as well waits.
#[tokio::test]
async fn a_lost_position_is_listed_at_once_and_the_next_one_in_its_turn() {
    let script = Script {
        lists: Arc::new(Mutex::new([list_at(8), list_at(9)].into())),
        watches: Arc::new(Mutex::new([vec![compacted()], vec![compacted()]].into())),
        ..Script::default()
    };
    let seen = asking(script, async |client| {
        let mut watch = after_four(client);
        let mut seen = Vec::new();
        for _ in 0..2 {
            let Change::Reset { revision, .. } = watch.next().await else {
                panic!("a list comes first");
            };
            seen.push((revision.0, watch.turn));
        }
        seen
    });
    // Whoever waits goes on at the next coordinator.
    assert_eq!(seen.await, [(8, 0), (9, 1)]);
}

#[tokio::test]
async fn a_list_that_is_refused_as_if_it_were_a_position_waits_longer_each_time() {
    const REFUSED: u32 = 5;
    let refused = (0..REFUSED).map(|_| compacted());
    let script = Script {
        lists: Arc::new(Mutex::new(refused.chain([list_at(8)]).collect())),
        ..Script::default()
    };
    let waited = asking(script, async |client| {
        let (mut watch, began) = (StateWatch::new(client, LONG), Instant::now());
        let change = watch.next().await;
        assert!(matches!(change, Change::Reset { .. }), "{change:?}");
        began.elapsed()
    });
    let at_least = (1..=REFUSED).map(|failures| retry::WAIT_MIN * (1 << failures) / 2);
    let (waited, at_least) = (waited.await, at_least.sum::<Duration>());
    assert!(waited >= at_least, "{waited:?} of {at_least:?}");
}

fn of(change: Change) -> (u64, String) {
    match change {
        Change::Events { revision, events } => (revision.0, kinds(events.iter().map(|e| e.kind.as_str()))),
        other => panic!("{other:?}"),
    }
}

/// Who watches the nearest coordinator hears of a change when that one does, and not by way of another continent.
#[tokio::test]
async fn a_watch_returns_to_the_nearest_coordinator_and_gives_nothing_out_twice() {
    let stops = vec![Err(to_status(&Refusal::new(Reason::NotServing, "it stops")))];
    let again = vec![
        message(5, "a b", true),
        message(5, "c", false),
        message(6, "d", false),
    ];
    let turns = Arc::new(Semaphore::new(1));
    let near = Script {
        watches: Arc::new(Mutex::new([stops, again].into())),
        turns: Some(Arc::clone(&turns)),
        ..Script::default()
    };
    let asked = Arc::clone(&near.asked);
    let far = Script {
        watches: Arc::new(Mutex::new(
            [vec![message(5, "a b", true), message(5, "c", false)]].into(),
        )),
        ..Script::default()
    };
    let seen = asking_all([near, far], async |client| {
        let mut watch = StateWatch {
            home_again: Duration::ZERO,
            ..after_four(client)
        };
        // The near one lets the far one be first, and then begins where it was asked.
        let first = of(watch.next().await);
        assert_eq!(watch.turn, 1);
        turns.add_permits(1);
        let second = of(watch.next().await);
        (first, second, watch.turn)
    });
    let (first, second, turn) = seen.await;
    assert_eq!((first, second), ((5, "a b c".to_owned()), (6, "d".to_owned())));
    assert_eq!(turn, 0);
    assert_eq!(*asked.lock().unwrap(), BTreeSet::from([4]));
}

/// Nor are the first parts of a revision that the far one began put together with what the near one sends.
#[tokio::test]
async fn a_watch_that_returns_in_the_middle_of_a_revision_begins_it_anew() {
    let turns = Arc::new(Semaphore::new(0));
    let near = Script {
        watches: Arc::new(Mutex::new(
            [vec![message(5, "a b", true), message(5, "c", false)]].into(),
        )),
        turns: Some(Arc::clone(&turns)),
        ..Script::default()
    };
    let far = Script {
        watches: Arc::new(Mutex::new([vec![message(5, "a b", true)]].into())),
        ..Script::default()
    };
    let seen = asking_all([near, far], async |client| {
        let mut watch = StateWatch {
            turn: 1,
            home_again: Duration::ZERO,
            ..after_four(client)
        };
        // The far one is asked, and its first part read, before the near one may answer.
        watch.advance().await.unwrap();
        watch.advance().await.unwrap();
        turns.add_permits(1);
        (of(watch.next().await), watch.turn)
    });
    assert_eq!(seen.await, ((5, "a b c".to_owned()), 0));
}

/// It goes on where it is.
#[tokio::test]
async fn a_watch_that_cannot_return_stays() {
    let script = Script {
        watches: Arc::new(Mutex::new(
            [vec![message(5, "a", false), message(6, "b", false)]].into(),
        )),
        ..Script::default()
    };
    let seen = asking(script, async |client| {
        let mut watch = after_four(client);
        let first = of(watch.next().await);
        watch.come_home(Err(silent(LONG)), Revision(5));
        [first, of(watch.next().await)]
    });
    assert_eq!(seen.await, [(5, "a".to_owned()), (6, "b".to_owned())]);
}

/// One that was silent for a moment, to whomever, is watched on: another one is no nearer for that.
#[tokio::test]
async fn nobody_leaves_the_nearest_coordinator_for_one_that_is_farther_away() {
    let endpoints = ["https://a:1", "https://b:1", "https://c:1"].map(str::to_owned);
    let client = Ca::new().client(&endpoints, LONG, LONG);
    let nearer = |endpoint: &str| client.channels().nearer_than(endpoint);
    assert_eq!(nearer(&endpoints[0]), None);
    assert_eq!(nearer(&endpoints[2]), Some(endpoints[0].clone()));
    client.channels().ask_last(&endpoints[0]);
    assert_eq!(nearer(&endpoints[0]), None);
    assert_eq!(nearer(&endpoints[1]), None);
    assert_eq!(nearer(&endpoints[2]), Some(endpoints[1].clone()));
    assert_eq!(nearer("https://unknown:1"), None);
}
