//! Distances that are truly there, in order, and ended: over real sockets of this machine. Absent on purpose: what takes no longer
//! than a bound, because a busy machine takes any time.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::Instant,
};

use super::{Distances, Place, Wan, caller::inodes_in};

const FAR: Duration = Duration::from_millis(80);

/// An address of the relays, and one of the processes behind them, on a port that both have free.
async fn behind() -> (TcpListener, SocketAddr, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let relay = SocketAddr::from((Ipv4Addr::new(127, 78, 0, 1), address.port()));
    (listener, address, relay)
}

fn network(place: Option<Place>) -> Wan {
    let wan = Wan::new(Distances::none(2).with(0, 1, FAR));
    if let Some(place) = place {
        wan.place(std::process::id(), place);
    }
    wan
}

async fn echo(listener: TcpListener) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            let (mut from, mut to) = stream.split();
            tokio::io::copy(&mut from, &mut to).await.unwrap();
            to.shutdown().await.unwrap();
        });
    }
}

/// How long one byte takes there and back, over a connection that is made for it, and over the same one again.
async fn round_trips(place: Place, region: usize) -> (Duration, Duration) {
    let wan = network(Some(place));
    let (listener, address, relay) = behind().await;
    wan.open(relay, address, region).await.unwrap();
    let echoing = tokio::spawn(echo(listener));
    let begun = Instant::now();
    let mut stream = TcpStream::connect(relay).await.unwrap();
    let mut byte = [7];
    let mut taken = Vec::new();
    for begun in [Some(begun), None] {
        let begun = begun.unwrap_or_else(Instant::now);
        stream.write_all(&byte).await.unwrap();
        stream.read_exact(&mut byte).await.unwrap();
        taken.push(begun.elapsed());
    }
    wan.close().await;
    drop(echoing);
    (taken[0], taken[1])
}

#[tokio::test]
async fn a_connection_takes_a_round_trip_to_open_and_one_for_each_answer() {
    let (first, second) = round_trips(Place::Region(0), 1).await;
    assert!(first >= FAR * 2, "{first:?}");
    assert!(second >= FAR, "{second:?}");
}

/// The quickest of some: a busy machine makes any of them longer, and none shorter.
#[tokio::test]
async fn nobody_is_far_within_a_region_or_from_an_observer() {
    for (place, region) in [(Place::Region(1), 1), (Place::Everywhere, 1)] {
        let mut quickest = Duration::MAX;
        for _ in 0..20 {
            quickest = quickest.min(round_trips(place, region).await.1);
            if quickest < FAR / 2 {
                break;
            }
        }
        assert!(quickest < FAR / 2, "{place:?}: {quickest:?}");
    }
}

#[tokio::test]
async fn everything_arrives_in_order_and_then_the_end() {
    let wan = network(Some(Place::Region(0)));
    let (listener, address, relay) = behind().await;
    wan.open(relay, address, 1).await.unwrap();
    let echoing = tokio::spawn(echo(listener));
    // More than both queues and the system's buffers hold: whoever sends waits, and nothing is lost.
    let sent: Vec<u8> = (0..40_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    let (mut from, mut to) = TcpStream::connect(relay).await.unwrap().into_split();
    let expected = sent.clone();
    let sending = tokio::spawn(async move {
        to.write_all(&sent).await.unwrap();
        to.shutdown().await.unwrap();
    });
    let mut received = Vec::new();
    from.read_to_end(&mut received).await.unwrap();
    sending.await.unwrap();
    assert!(
        received == expected,
        "{} of {} bytes",
        received.len(),
        expected.len()
    );
    wan.close().await;
    drop(echoing);
}

#[tokio::test]
async fn a_refusal_has_its_way_back_and_a_stranger_is_refused() {
    let wan = network(Some(Place::Region(0)));
    let (listener, address, relay) = behind().await;
    drop(listener);
    wan.open(relay, address, 1).await.unwrap();
    let begun = Instant::now();
    let mut stream = TcpStream::connect(relay).await.unwrap();
    assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0);
    assert!(begun.elapsed() >= FAR, "{:?}", begun.elapsed());
    wan.close().await;

    let wan = network(None);
    let (_listener, address, relay) = behind().await;
    wan.open(relay, address, 1).await.unwrap();
    let mut stream = TcpStream::connect(relay).await.unwrap();
    assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0);
    wan.close().await;
}

#[tokio::test]
async fn callers_that_come_at_once_are_all_known() {
    let wan = network(Some(Place::Region(0)));
    let (listener, address, relay) = behind().await;
    wan.open(relay, address, 1).await.unwrap();
    let echoing = tokio::spawn(echo(listener));
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..100 {
        calls.spawn(async move {
            let mut stream = TcpStream::connect(relay).await.unwrap();
            let mut byte = [n];
            stream.write_all(&byte).await.unwrap();
            stream.read_exact(&mut byte).await.unwrap();
            assert_eq!(byte, [n]);
        });
    }
    calls.join_all().await;
    wan.close().await;
    drop(echoing);
}

#[tokio::test]
async fn closing_ends_what_is_under_way() {
    let wan = network(Some(Place::Region(0)));
    let (listener, address, relay) = behind().await;
    wan.open(relay, address, 1).await.unwrap();
    let echoing = tokio::spawn(echo(listener));
    let mut stream = TcpStream::connect(relay).await.unwrap();
    stream.write_all(&[7]).await.unwrap();
    stream.read_exact(&mut [0]).await.unwrap();
    wan.close().await;
    assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0);
    assert!(TcpStream::connect(relay).await.is_err());
    drop(echoing);
}

#[test]
fn the_table_of_sockets_names_the_one_between_two_addresses() {
    let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 0000000000000000 100 0 0 10 0
   1: 0100007F:D431 01004E7F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 222 1 0000000000000000 20 4 30 10 -1
   2: 01004E7F:1F90 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 333 1 0000000000000000 20 4 30 10 -1
   3: 0100007F:D432 01004E7F:1F90 06 00000000:00000000 00:00000000 00000000     0        0 0 1 0000000000000000 20 4 30 10 -1";
    let relay: SocketAddr = "127.78.0.1:8080".parse().unwrap();
    let peer = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let ends = [
        (peer(0xD433), relay),
        (peer(0xD431), relay),
        (peer(0xD432), relay),
        (relay, peer(0xD431)),
    ];
    assert_eq!(inodes_in(table, &ends), [None, Some(222), None, Some(333)]);
}

#[test]
fn distances_are_the_same_both_ways_and_none_within_a_region() {
    let distances = Distances::none(3).with(0, 2, FAR).with(1, 1, FAR).with(7, 0, FAR);
    assert_eq!(distances.between(Place::Region(2), 0), FAR);
    assert_eq!(distances.between(Place::Region(0), 2), FAR);
    assert_eq!(distances.between(Place::Region(1), 1), Duration::ZERO);
    assert_eq!(distances.between(Place::Everywhere, 2), Duration::ZERO);
    assert_eq!(distances.longest(), FAR);
}
