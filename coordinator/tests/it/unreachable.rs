//! A coordinator that reaches nobody who could take it in says whom it asked, and what became of it, where people look.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::mpsc,
};

use crate::{
    harness::{Cluster, closed_port, within},
    warnings::Warnings,
};

/// What every warning of a joiner says.
const NOT_KNOWN: &str = "not known to the cluster yet";

#[tokio::test]
async fn who_cannot_be_joined_is_named_with_the_reason() {
    let mut warnings = Warnings::listen();
    let mut cluster = Cluster::blank(2);
    let dead = closed_port().await;
    let (http, _asked) = http_port().await;
    cluster.nodes[1].config.join = vec![dead.clone(), http.clone()];
    cluster.restart(1).await;
    for (endpoint, why) in [(dead, "onnection refused"), (http, "InvalidContentType")] {
        let said = within("a warning", warnings.next_with(&[NOT_KNOWN, &endpoint])).await;
        assert!(said.contains(why), "{said}");
    }
    cluster.shutdown().await;
}

/// Whom it asks knows of the cluster, and cannot say that it is new there: it lacks a majority.
#[tokio::test]
async fn a_wiped_founder_says_what_it_waits_for() {
    let mut cluster = Cluster::start(2).await;
    let seed = cluster.endpoints()[1].clone();
    cluster.stop(0).await;
    cluster.wipe(0);
    cluster.nodes[0].config.join = vec![seed.clone()];
    let mut warnings = Warnings::listen();
    cluster.restart(0).await;
    within("a warning", warnings.next_with(&[NOT_KNOWN, &seed])).await;
    cluster.shutdown().await;
}

/// Each of those that must be heard first, once, and not at each try.
#[tokio::test]
async fn a_founder_that_waits_for_others_names_them_once() {
    let mut warnings = Warnings::listen();
    let mut cluster = Cluster::blank(1);
    let (http, mut asked) = http_port().await;
    cluster.nodes[0].config.join = vec![http.clone()];
    cluster.restart(0).await;
    let words = [NOT_KNOWN, "founds no cluster before each of `join`", &http];
    within("a warning", warnings.next_with(&words)).await;
    for _ in 0..3 {
        within("another question", asked.recv()).await.unwrap();
    }
    cluster.shutdown().await;
    assert_eq!(
        warnings.rest().iter().filter(|said| said.contains(&http)).count(),
        0
    );
}

/// Somebody who speaks HTTP without TLS, as long as it is listened to, and says how often it was asked.
async fn http_port() -> (String, mpsc::UnboundedReceiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("https://{}", listener.local_addr().unwrap());
    let (told, asked) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut peer, _)) = listener.accept().await
            && told.send(()).is_ok()
        {
            let _ = peer.read(&mut [0; 1024]).await;
            let _ = peer.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    (endpoint, asked)
}
