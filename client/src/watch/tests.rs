//! Revisions in parts, and messages that are too large: in pieces, and from a coordinator that breaks off.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use futures::{StreamExt as _, stream};
use proto::{
    convert::status::to_status,
    v1::watch_service_server::{WatchService, WatchServiceServer},
};
use tonic::{
    Request, Response, Status,
    transport::{Identity, Server, ServerTlsConfig, server::TcpIncoming},
};
use types::role::TimingPolicy;

use super::*;
use crate::reach_tests::{Ca, LONG, listener, url};

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

/// A coordinator that answers each watch with the next of these, and notes after which revisions it was asked.
#[derive(Clone)]
struct Script(Arc<Mutex<VecDeque<Messages>>>, Arc<Mutex<BTreeSet<u64>>>);

#[tonic::async_trait]
impl WatchService for Script {
    type ListStream = stream::Empty<Result<pb::ListChunk, Status>>;
    type WatchStream = stream::BoxStream<'static, Result<pb::WatchResponse, Status>>;

    async fn list(&self, _: Request<pb::ListRequest>) -> Result<Response<Self::ListStream>, Status> {
        Err(Status::unimplemented("list"))
    }
    async fn watch(&self, asked: Request<pb::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        self.1.lock().unwrap().insert(asked.into_inner().after_revision);
        let next = self.0.lock().unwrap().pop_front();
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

/// The first revision that a watch after revision 4 gives out.
async fn first_of(script: [Messages; 2]) -> (Revision, String) {
    let ca = Ca::new();
    let listener = listener();
    let endpoint = url(listener.local_addr().unwrap());
    listener.set_nonblocking(true).unwrap();
    let incoming = TcpIncoming::from(tokio::net::TcpListener::from_std(listener).unwrap());
    let script = Script(Arc::new(Mutex::new(script.into())), Arc::default());
    let asked = Arc::clone(&script.1);
    let tls = ServerTlsConfig::new().identity(Identity::from_pem(&ca.cert, &ca.key));
    let mut server = Server::builder().tls_config(tls).unwrap();
    let served = server
        .add_service(WatchServiceServer::new(script))
        .serve_with_incoming(incoming);
    let client = ca.client(&[endpoint], LONG, LONG);
    let mut watch = StateWatch::resume(client, LONG, ClusterId::from_u128(7), Revision(4));
    let change = tokio::select! {
        _ = served => panic!("the coordinator ended"),
        change = timeout(LONG, watch.next()) => change.unwrap(),
    };
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
