//! A watcher that never reads: what it costs, and whom.

use super::*;

/// Watches of one hub over real connections, and how much each has taken.
struct Served {
    hub: WatchHub,
    opened: AtomicUsize,
    made: [Arc<AtomicUsize>; 2],
    shutdown: CancellationToken,
}

#[tonic::async_trait]
impl WatchService for Served {
    type ListStream = Chunks;
    type WatchStream = Responses;

    async fn list(&self, _: Request<pb::ListRequest>) -> Result<Response<Chunks>, Status> {
        Err(Status::unimplemented("list"))
    }

    async fn watch(&self, request: Request<pb::WatchRequest>) -> Result<Response<Responses>, Status> {
        let after = Revision(request.into_inner().after_revision);
        let made = Arc::clone(&self.made[self.opened.fetch_add(1, Ordering::SeqCst)]);
        let mut watching = watching(&self.hub, &WatchFilter::default(), after, list::BYTES);
        watching.shutdown = self.shutdown.clone();
        watching.silence = BOOKMARK;
        let count = move |message: &Result<pb::WatchResponse, Status>| {
            let bytes = message.as_ref().map_or(0, prost::Message::encoded_len);
            made.fetch_add(bytes, Ordering::SeqCst);
        };
        Ok(Response::new(watching.into_stream().inspect(count).boxed()))
    }
}

/// It holds its position and what the connection's windows take, however much happens; who reads is not held up by it, and
/// it is told at last that its position is no longer kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_that_never_reads_holds_no_memory_and_nobody_up() {
    const REVISIONS: u64 = 60_000;
    const PATIENCE: Duration = Duration::from_secs(60);
    let hub = WatchHub::with_limits(Revision(0), 1_000, usize::MAX);
    let (made, end) = ([Arc::default(), Arc::default()], CancellationToken::new());
    let served = Served {
        hub: hub.clone(),
        opened: AtomicUsize::new(0),
        made: made.clone(),
        shutdown: end.clone(),
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let server = Server::builder().add_service(WatchServiceServer::new(served));
    let server = tokio::spawn(
        server.serve_with_incoming_shutdown(TcpIncoming::from(listener), end.clone().cancelled_owned()),
    );

    let open = async || {
        let channel = Endpoint::from_shared(address.clone())
            .unwrap()
            .connect()
            .await
            .unwrap();
        let mut client = pb::watch_service_client::WatchServiceClient::new(channel);
        let answer = client.watch(pb::WatchRequest::default()).await.unwrap();
        answer.into_inner()
    };
    let mut stalled = open().await;
    let mut reader = open().await;
    let mut seen = 0;
    for revision in 1..=REVISIONS {
        hub.record(Published::Applied {
            revision: Revision(revision),
            events: [large(revision, 60)].into(),
        });
        // Never further ahead of whoever reads than the hub keeps.
        while revision % 500 == 0 && seen < revision {
            let message = tokio::time::timeout(PATIENCE, reader.message()).await;
            let message = message.expect("who reads is held up").unwrap().unwrap();
            let at = message.header.unwrap().revision;
            assert!(message.events.is_empty() || at == seen + 1, "{at} after {seen}");
            seen = at;
        }
    }
    let [held, taken] = made.map(|bytes| bytes.load(Ordering::SeqCst));
    assert!(taken > 8 << 20, "{taken}");
    assert!(
        held < 4 << 20,
        "a watcher that reads nothing was made {held} of {taken} bytes"
    );

    // What was on its way comes yet, in order; then it is told.
    let mut last = 0;
    let refusal = loop {
        match stalled.message().await {
            Ok(message) => {
                let message = message.unwrap();
                let revision = message.header.unwrap().revision;
                // Where it had caught up for a moment, a bookmark says once more where it stands.
                let next = if message.events.is_empty() { last } else { last + 1 };
                assert_eq!(revision, next);
                last = revision;
            }
            Err(status) => break proto::convert::status::from_status(&status),
        }
    };
    assert_eq!(refusal.reason, Reason::Compacted, "{refusal}");
    let oldest: u64 = refusal.operand("oldest").unwrap().parse().unwrap();
    assert!(oldest > last, "after {last} it was told of {oldest}");
    drop(stalled);
    end.cancel();
    server.await.unwrap().unwrap();
}
