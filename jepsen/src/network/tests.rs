//! The networks, seen by sockets in them.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::*;

const SOON: Duration = Duration::from_secs(20);

/// Three regions, the first two 60 ms apart; none where this user may have no namespaces.
async fn three() -> Option<Network> {
    let distances = Distances::none(3).with(0, 1, Duration::from_millis(60));
    match Network::new(3, distances, 7).await {
        Ok(network) => Some(network),
        Err(error) => {
            eprintln!("skipped: no network namespaces for this user: {error:#}");
            None
        }
    }
}

#[tokio::test]
async fn regions_are_as_far_from_each_other_as_was_said() {
    let Some(network) = three().await else { return };
    for (from, to) in [(0, 1), (1, 0)] {
        let took = network.crosses(from, to, SOON).await.unwrap().unwrap();
        assert!(took >= Duration::from_millis(30), "{took:?}");
    }
    assert!(network.crosses(0, 2, SOON).await.unwrap().is_some());
    network.close().await;
}

#[tokio::test]
async fn a_cut_in_one_direction_leaves_the_other_open_and_ends() {
    let Some(network) = three().await else { return };
    let cut = Disturbance {
        cut: true,
        ..Disturbance::default()
    };
    let lost = network.lost();
    let number = network.disturb(vec![(0, 1)], cut);
    assert!(
        network
            .crosses(0, 1, Duration::from_millis(200))
            .await
            .unwrap()
            .is_none()
    );
    assert!(network.crosses(1, 0, SOON).await.unwrap().is_some());
    assert!(network.lost() > lost);
    assert!(network.calm(number));
    assert!(network.crosses(0, 1, SOON).await.unwrap().is_some());
    network.close().await;
}

#[tokio::test]
async fn a_connection_survives_a_lossy_way_with_every_byte_in_its_place() {
    let Some(network) = three().await else { return };
    let address = SocketAddr::from((network.address(0).unwrap(), 0));
    let listen = move || std::net::TcpListener::bind(address).unwrap();
    let listener = network.run(0, listen).await.unwrap();
    listener.set_nonblocking(true).unwrap();
    let listener = TcpListener::from_std(listener).unwrap();
    let lossy = Disturbance {
        loss_per_mille: 50,
        reorder_per_mille: 50,
        jitter_millis: 5,
        delay_millis: 2,
        ..Disturbance::default()
    };
    network.disturb(vec![(0, 2), (2, 0)], lossy);
    let address = listener.local_addr().unwrap();
    let connect = move || std::net::TcpStream::connect(address).unwrap();
    let (accepted, called) = tokio::join!(listener.accept(), network.run(2, connect));
    let (mut accepted, called) = (accepted.unwrap().0, called.unwrap());
    called.set_nonblocking(true).unwrap();
    let mut called = TcpStream::from_std(called).unwrap();
    let sent: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
    let send = async {
        called.write_all(&sent).await.unwrap();
        called.shutdown().await.unwrap();
    };
    let mut received = Vec::new();
    let (_, read) = tokio::join!(send, timeout(SOON, accepted.read_to_end(&mut received)));
    read.unwrap().unwrap();
    assert!(received == sent);
    assert!(network.lost() > 0);
    network.close().await;
}

#[tokio::test]
async fn a_program_in_a_region_has_the_regions_address_alone() {
    let Some(network) = three().await else { return };
    let mut command = Command::new("cat");
    command
        .arg("/proc/self/net/fib_trie")
        .stdout(std::process::Stdio::piped());
    let child = network.spawn(1, command).await.unwrap();
    let output = child.wait_with_output().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let address = |region| network.address(region).unwrap().to_string();
    assert!(
        text.contains(&address(1)) && !text.contains(&address(0)),
        "{text}"
    );
    network.close().await;
}
