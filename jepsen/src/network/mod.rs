//! The regions' networks: a namespace and an address for each, joined by a switch of this program's own.
//!
//! This program stands beside all of them: nothing is far from it, and no disturbance reaches it.
//! Absent on purpose: relays, which do the same where namespaces are not allowed; those are `chaos::Wan`.

mod front;
mod namespace;
mod switch;
#[cfg(test)]
mod tests;

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use chaos::{Distances, Place, link::Disturbance};
use tokio::{
    net::UdpSocket,
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};
use tokio_tun::Tun;

use front::Fronts;
use namespace::Namespace;
use switch::{MTU_BYTES, Port, Switch};

/// Between two packets that look whether a way is open.
const PROBES_EVERY: Duration = Duration::from_millis(20);
/// Of each of them: a narrow way takes its time for that, and is not filled by them.
pub(crate) const PROBE_BYTES: usize = 512;
/// So many of them must arrive.
const PROBES: usize = 5;
/// The last number of this program's own address.
const OBSERVER: u8 = 254;
/// Networks of one machine are told apart by a number; so many are tried where others have theirs.
const TRIES: u8 = 32;
/// The addresses of one network differ in their last number.
const MASK: Ipv4Addr = Ipv4Addr::new(255, 255, 255, 0);

/// The networks.
#[derive(Debug)]
pub(crate) struct Network {
    number: u8,
    namespaces: Vec<Arc<Namespace>>,
    switch: Switch,
    fronts: Fronts,
}

impl Network {
    /// As many regions as there are distances between, in a runtime of tokio. The seed decides which packets are lost.
    ///
    /// Fails where this user may have no network namespaces.
    pub(crate) async fn new(regions: usize, distances: Distances, seed: u64) -> anyhow::Result<Self> {
        let (number, observer) = observer()?;
        let mut namespaces = Vec::with_capacity(regions);
        let mut ports = Vec::with_capacity(regions + 1);
        for region in 0..regions {
            let namespace = Namespace::new(&format!("region-{region}")).await?;
            let address = address(number, region)?;
            let device = namespace.run(move || device("wan", address)).await??;
            ports.push(Port {
                place: Place::Region(region),
                address,
                device,
            });
            namespaces.push(Arc::new(namespace));
        }
        ports.push(observer);
        let switch = Switch::new(distances, ports, seed);
        Ok(Self {
            number,
            namespaces,
            switch,
            fronts: Fronts::default(),
        })
    }

    /// Whether this user may have one; the error says why not.
    pub(crate) async fn is_available() -> anyhow::Result<()> {
        Self::new(1, Distances::none(1), 0).await?.close().await;
        Ok(())
    }

    /// The address of everything in a region.
    pub(crate) fn address(&self, region: usize) -> anyhow::Result<Ipv4Addr> {
        address(self.number, region)
    }

    /// Starts a program in a region.
    pub(crate) async fn spawn(&self, region: usize, mut command: Command) -> anyhow::Result<Child> {
        let namespace = self.namespace(region)?;
        Ok(namespace.run(move || command.spawn()).await??)
    }

    /// Runs a job in a region: the sockets that it opens stand there.
    async fn run<T: Send + 'static>(
        &self,
        region: usize,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> anyhow::Result<T> {
        self.namespace(region)?.run(job).await
    }

    /// Brings what listens on a region's loopback address to the region's own, on the same port.
    pub(crate) async fn show(&self, region: usize, inside: SocketAddr) -> anyhow::Result<()> {
        let outside = SocketAddr::from((self.address(region)?, inside.port()));
        let namespace = Arc::clone(self.namespace(region)?);
        self.fronts.open(namespace, outside, inside).await
    }

    fn namespace(&self, region: usize) -> anyhow::Result<&Arc<Namespace>> {
        let namespace = self.namespaces.get(region);
        namespace.with_context(|| format!("there is no region {region}"))
    }

    /// Disturbs some ways, each from a region to a region, until [`Network::calm`] with the number that this gives.
    pub(crate) fn disturb(&self, ways: Vec<(usize, usize)>, disturbance: Disturbance) -> u64 {
        self.switch.disturb(ways, disturbance)
    }

    /// Takes a disturbance back; whether there was one.
    pub(crate) fn calm(&self, number: u64) -> bool {
        self.switch.calm(number)
    }

    /// How long packets take from one region to another, the slowest of the first few that arrive; none if they do not arrive within
    /// this time. The slowest, because one may overtake others, and takes no time then.
    pub(crate) async fn crosses(
        &self,
        from: usize,
        to: usize,
        within: Duration,
    ) -> anyhow::Result<Option<Duration>> {
        let (sender, receiver) = (self.socket(from).await?, self.socket(to).await?);
        let (address, began) = (receiver.local_addr()?, Instant::now());
        let send = async {
            loop {
                // By when it was sent: a lost one makes those after it no slower.
                let sent = began.elapsed().as_micros().to_le_bytes();
                let mut probe = [0; PROBE_BYTES];
                probe[..sent.len()].copy_from_slice(&sent);
                sender.send_to(&probe, address).await?;
                sleep(PROBES_EVERY).await;
            }
        };
        let receive = async {
            // The rest of the packet is let go.
            let mut sent = [0; size_of::<u128>()];
            let mut slowest = Duration::ZERO;
            for _ in 0..PROBES {
                receiver.recv_from(&mut sent).await?;
                let sent = u64::try_from(u128::from_le_bytes(sent)).unwrap_or(u64::MAX);
                slowest = slowest.max(began.elapsed().saturating_sub(Duration::from_micros(sent)));
            }
            Ok(slowest)
        };
        let crossed = timeout(within, async {
            tokio::select! {
                crossed = receive => crossed,
                failed = send => failed,
            }
        });
        Ok(crossed.await.ok().transpose().map_err(|e: std::io::Error| e)?)
    }

    async fn socket(&self, region: usize) -> anyhow::Result<UdpSocket> {
        let address = SocketAddr::from((self.address(region)?, 0));
        let bind = move || {
            let socket = std::net::UdpSocket::bind(address)?;
            socket.set_nonblocking(true)?;
            UdpSocket::from_std(socket)
        };
        Ok(self.run(region, bind).await??)
    }

    /// Packets that did not arrive so far.
    #[cfg(test)]
    pub(crate) fn lost(&self) -> u64 {
        self.switch.lost()
    }

    /// Takes it down, and waits until nothing of it is left but namespaces in which processes still run.
    pub(crate) async fn close(self) {
        self.fronts.close().await;
        self.switch.close().await;
    }
}

/// This program's own device, and the number of the network that it is in: the kernel gives a name to one owner alone.
fn observer() -> anyhow::Result<(u8, Port)> {
    let [first, ..] = std::process::id().to_le_bytes();
    let mut tried = Err(anyhow::anyhow!("no number was tried"));
    for number in (0..TRIES).map(|more| first.wrapping_add(more)) {
        let address = Ipv4Addr::new(10, 77, number, OBSERVER);
        let port = |device| Port {
            place: Place::Everywhere,
            address,
            device,
        };
        tried = device(&format!("regent{number}"), address).map(|device| (number, port(device)));
        if tried.is_ok() {
            break;
        }
    }
    tried
}

fn address(number: u8, region: usize) -> anyhow::Result<Ipv4Addr> {
    let last = u8::try_from(region + 1).ok().filter(|last| *last < OBSERVER);
    let last = last.with_context(|| format!("region {region} is one too many"))?;
    Ok(Ipv4Addr::new(10, 77, number, last))
}

/// A device in the namespace of this thread.
fn device(name: &str, address: Ipv4Addr) -> anyhow::Result<Arc<Tun>> {
    let builder = Tun::builder().name(name).mtu(MTU_BYTES.into());
    let made = builder.address(address).netmask(MASK).up().build();
    let device = made
        .with_context(|| format!("no TUN device for {address}"))?
        .pop();
    Ok(Arc::new(device.context("no queue of a TUN device")?))
}
