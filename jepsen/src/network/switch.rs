//! A switch in user space: a TUN device per region, and a way between each two of them that can be cut, slowed and made lossy.
//!
//! What a packet meets is decided by `chaos::link`, which is pure; this file reads, keeps until due, and writes. TCP above
//! it is the kernel's own: slow start, retransmission and time-outs are real.
//! Absent on purpose: anything but IPv4; what no address of a port stands in (multicast, IPv6) is dropped.
//! Invariants: what is under way to one port is bounded; no task outlives [`Switch::close`].

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fmt, io,
    net::Ipv4Addr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use chaos::{
    Distances, Place,
    link::{Disturbance, Disturbances, Draw, Link, Way},
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tokio_tun::Tun;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Bytes of the largest packet, as on most networks.
pub(super) const MTU_BYTES: u16 = 1_500;
/// Packets under way to one port, 24 MiB at most; what is more is lost, as at a router whose queue is full.
const UNDER_WAY: usize = 16 * 1024;

/// Where a device stands, and by which address.
pub(super) struct Port {
    pub(super) place: Place,
    pub(super) address: Ipv4Addr,
    pub(super) device: Arc<Tun>,
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {}", self.place, self.address)
    }
}

/// The switch.
#[derive(Debug)]
pub(super) struct Switch {
    shared: Arc<Shared>,
    tasks: TaskTracker,
}

#[derive(Debug)]
struct Shared {
    distances: Distances,
    ports: Vec<Port>,
    ways: Mutex<Ways>,
    lost: AtomicU64,
    began: Instant,
    stop: CancellationToken,
}

#[derive(Debug)]
struct Ways {
    disturbances: Disturbances,
    /// From each port to each, as the disturbances are now.
    links: Vec<Vec<Link>>,
    ways: Vec<Vec<Way>>,
    random: StdRng,
}

/// What is under way, by when it arrives; of two at one moment the one that was sent first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Packet {
    due: Duration,
    number: u64,
    bytes: Vec<u8>,
}

impl Switch {
    /// Joins these devices, in a runtime of tokio. The seed decides which packets are lost.
    pub(super) fn new(distances: Distances, ports: Vec<Port>, seed: u64) -> Self {
        let count = ports.len();
        let ways = Ways {
            disturbances: Disturbances::default(),
            links: Vec::new(),
            ways: vec![vec![Way::default(); count]; count],
            random: StdRng::seed_from_u64(seed),
        };
        let shared = Arc::new(Shared {
            distances,
            ports,
            ways: Mutex::new(ways),
            lost: AtomicU64::new(0),
            began: Instant::now(),
            stop: CancellationToken::new(),
        });
        shared.update(&mut shared.ways());
        let tasks = TaskTracker::new();
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..count).map(|_| mpsc::channel(UNDER_WAY)).unzip();
        let senders = Arc::new(senders);
        for (port, arriving) in receivers.into_iter().enumerate() {
            let (one, stop) = (Arc::clone(&shared), shared.stop.clone());
            tasks.spawn(async move { stop.run_until_cancelled(deliver(one, port, arriving)).await });
            let (one, stop, senders) = (Arc::clone(&shared), shared.stop.clone(), Arc::clone(&senders));
            tasks.spawn(async move { stop.run_until_cancelled(forward(one, port, &senders)).await });
        }
        Self { shared, tasks }
    }

    /// Disturbs some ways, each from a region to a region, until [`Switch::calm`] with the number that this gives.
    pub(super) fn disturb(&self, ways: Vec<(usize, usize)>, disturbance: Disturbance) -> u64 {
        let mut state = self.shared.ways();
        let number = state.disturbances.add(ways, disturbance);
        self.shared.update(&mut state);
        number
    }

    /// Takes a disturbance back; whether there was one.
    pub(super) fn calm(&self, number: u64) -> bool {
        let mut state = self.shared.ways();
        let was = state.disturbances.remove(number);
        self.shared.update(&mut state);
        was
    }

    /// Packets that did not arrive so far.
    #[cfg(test)]
    pub(super) fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// Ends it, and waits until nothing of it is left.
    pub(super) async fn close(self) {
        self.shared.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

impl Shared {
    fn ways(&self) -> MutexGuard<'_, Ways> {
        self.ways.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, state: &mut Ways) {
        let disturbances = &state.disturbances;
        let link = |from: Place, to: Place| {
            let (Place::Region(a), Place::Region(b)) = (from, to) else {
                return Link::new(Duration::ZERO, []);
            };
            let one_way = self.distances.between(from, b) / 2;
            Link::new(one_way, disturbances.on(a, b))
        };
        let row = |from: &Port| self.ports.iter().map(|to| link(from.place, to.place)).collect();
        state.links = self.ports.iter().map(row).collect();
    }

    /// To which port this goes, and when it arrives there.
    fn decide(&self, from: usize, packet: &[u8]) -> Option<(usize, Duration)> {
        let address = destination(packet)?;
        let to = self.ports.iter().position(|port| port.address == address)?;
        let now = self.began.elapsed();
        let mut state = self.ways();
        let draw = Draw {
            loss: state.random.random(),
            jitter: state.random.random(),
            reorder: state.random.random(),
        };
        let link = *state.links.get(from)?.get(to)?;
        let way = state.ways.get_mut(from)?.get_mut(to)?;
        let bytes = u64::try_from(packet.len()).unwrap_or(u64::MAX);
        Some((to, way.send(&link, now, bytes, draw)?))
    }

    fn lose(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }
}

/// The address that an IPv4 packet is for (RFC 791, section 3.1).
fn destination(packet: &[u8]) -> Option<Ipv4Addr> {
    let (first, address) = (packet.first()?, packet.get(16..20)?);
    let address: [u8; 4] = address.try_into().ok()?;
    (first >> 4 == 4).then(|| Ipv4Addr::from(address))
}

/// Reads what a port's processes send.
async fn forward(shared: Arc<Shared>, from: usize, to: &[mpsc::Sender<Packet>]) {
    let Some(port) = shared.ports.get(from) else {
        return;
    };
    let mut buffer = vec![0; usize::from(MTU_BYTES)];
    for number in 0.. {
        let count = match port.device.recv(&mut buffer).await {
            Ok(count) => count,
            Err(error) => return ended(port, &error),
        };
        let Some(packet) = buffer.get(..count) else {
            continue;
        };
        let sent = shared.decide(from, packet).and_then(|(port, due)| {
            let bytes = packet.to_vec();
            to.get(port)?.try_send(Packet { due, number, bytes }).ok()
        });
        if sent.is_none() {
            shared.lose();
        }
    }
}

/// Writes what arrives at a port, each packet when it is due.
async fn deliver(shared: Arc<Shared>, to: usize, mut arriving: mpsc::Receiver<Packet>) {
    let Some(port) = shared.ports.get(to) else { return };
    let mut under_way: BinaryHeap<Reverse<Packet>> = BinaryHeap::new();
    loop {
        while under_way
            .peek()
            .is_some_and(|next| next.0.due <= shared.began.elapsed())
        {
            let Some(Reverse(packet)) = under_way.pop() else {
                break;
            };
            match port.device.send(&packet.bytes).await {
                Ok(_) => {}
                // The device's own queue is full, or what is in there has just gone.
                Err(error) if error.raw_os_error().is_some() => shared.lose(),
                Err(error) => return ended(port, &error),
            }
        }
        let next = under_way.peek().map(|next| shared.began + next.0.due);
        let packet = tokio::select! {
            packet = arriving.recv() => packet,
            () = sleep_until(next.unwrap_or(shared.began)), if next.is_some() => continue,
        };
        let Some(packet) = packet else { return };
        if under_way.len() < UNDER_WAY {
            under_way.push(Reverse(packet));
        } else {
            shared.lose();
        }
    }
}

fn ended(port: &Port, error: &io::Error) {
    tracing::error!(address = %port.address, %error, "a device of the switch ended");
}
