//! The access log against what really happened.

use std::{fs::OpenOptions, io::Write as _};

use super::{BUCKET, Endpoint, POINTER, client::request, pointer};
use crate::access_log::{AccessLine, read};
use crate::access_log_path;

fn lines(endpoint: &Endpoint) -> Vec<AccessLine> {
    read(&access_log_path(endpoint.dir.path())).unwrap()
}

/// Every accepted line must have judged exactly the object that the accepted line before it left behind.
pub(super) fn assert_commit_order<'a>(lines: impl IntoIterator<Item = &'a AccessLine>) {
    let mut stands: Option<String> = None;
    for line in lines {
        let current = line.current.as_ref().map(|current| current.etag.clone());
        // A recovered line knows the outcome and not what was judged.
        assert!(
            line.recovered || current == stands,
            "line {} judged another object than stood there",
            line.seq
        );
        if line.accepted() {
            stands = line.etag.clone();
        }
    }
}

#[tokio::test]
async fn lines_stand_in_commit_order_while_eight_writers_race() {
    let endpoint = Endpoint::start().await;
    let (address, path) = (endpoint.address, format!("/{BUCKET}/{POINTER}"));
    let writers = (0..8u32).map(|writer| {
        let path = path.clone();
        tokio::spawn(async move {
            let mut won = 0;
            for round in 0..10 {
                let head = request(address, "HEAD", &path, &[], b"").await;
                let quoted = head.headers.get("etag").cloned().unwrap_or_default();
                let condition = if head.status == 404 {
                    ("if-none-match", "*")
                } else {
                    ("if-match", quoted.as_str())
                };
                let body = pointer(writer + 1, "a", writer * 100 + round);
                won += u32::from(request(address, "PUT", &path, &[condition], &body).await.status == 200);
            }
            won
        })
    });
    let mut won = 0;
    for writer in writers.collect::<Vec<_>>() {
        won += writer.await.unwrap();
    }
    let lines = lines(&endpoint);
    assert_eq!(lines.len(), 80);
    assert_eq!(
        lines.iter().map(|line| line.seq).collect::<Vec<_>>(),
        (1..=80).collect::<Vec<u64>>()
    );
    assert_eq!(lines.iter().filter(|line| line.accepted()).count(), won as usize);
    assert!(won >= 10, "of writers that race one wins");
    assert_commit_order(&lines);
    endpoint.stop().await;
}

#[tokio::test]
async fn a_line_names_both_epochs_and_who_signed() {
    let endpoint = Endpoint::start().await;
    let path = format!("/{BUCKET}/{POINTER}");
    let first = request(
        endpoint.address,
        "PUT",
        &path,
        &[("if-none-match", "*")],
        &pointer(7, "new", 1),
    )
    .await;
    let stale = request(
        endpoint.address,
        "PUT",
        &path,
        &[("if-match", "\"old\"")],
        &pointer(6, "old", 9),
    )
    .await;
    assert_eq!((first.status, stale.status), (200, 412));
    let lines = lines(&endpoint);
    let line = &lines[1];
    assert_eq!(
        (line.seq, line.status, line.error.as_deref()),
        (2, 412, Some("PreconditionFailed"))
    );
    assert_eq!(line.sent_epoch().unwrap().to_string(), "g1.e6");
    assert_eq!(line.current_epoch().unwrap().to_string(), "g1.e7");
    assert_eq!(line.sent.as_ref().unwrap().holder.node.as_str(), "old");
    assert_eq!(line.current.as_ref().unwrap().etag, first.etag());
    assert_eq!(
        (line.if_match.as_deref(), line.access_key.as_str()),
        (Some("old"), "access")
    );
    endpoint.stop().await;
}

#[tokio::test]
async fn a_torn_last_line_is_cut_and_numbers_go_on() {
    let endpoint = Endpoint::start().await;
    let path = format!("/{BUCKET}/k");
    request(endpoint.address, "PUT", &path, &[], b"1").await;
    let dir = endpoint.stop().await;
    let log = access_log_path(dir.path());
    OpenOptions::new()
        .append(true)
        .open(&log)
        .unwrap()
        .write_all(br#"{"seq":2,"unix"#)
        .unwrap();
    assert_eq!(read(&log).unwrap().len(), 1);
    let endpoint = Endpoint::start_over(dir).await;
    request(endpoint.address, "DELETE", &path, &[], b"").await;
    let lines = lines(&endpoint);
    assert_eq!(
        lines.iter().map(|l| (l.seq, l.status)).collect::<Vec<_>>(),
        [(1, 200), (2, 204)]
    );
    endpoint.stop().await;
}

#[tokio::test]
async fn a_change_whose_line_was_lost_is_found_at_the_next_start() {
    let endpoint = Endpoint::start().await;
    let path = format!("/{BUCKET}/{POINTER}");
    request(endpoint.address, "PUT", &path, &[], &pointer(1, "a", 1)).await;
    let second = request(endpoint.address, "PUT", &path, &[], &pointer(2, "b", 1)).await;
    let dir = endpoint.stop().await;
    let log = access_log_path(dir.path());
    let text = std::fs::read_to_string(&log).unwrap();
    std::fs::write(&log, text.split_inclusive('\n').next().unwrap()).unwrap();
    let endpoint = Endpoint::start_over(dir).await;
    let lines = lines(&endpoint);
    let last = lines.last().unwrap();
    assert!(last.recovered && last.accepted() && last.seq == 2);
    assert_eq!(last.etag.as_deref(), Some(second.etag()));
    assert_eq!(last.sent_epoch().unwrap().to_string(), "g1.e2");
    endpoint.stop().await;
}
