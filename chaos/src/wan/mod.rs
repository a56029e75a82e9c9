//! Round trips between processes of one machine, as if they stood in regions far apart: relays in user space, no privilege needed.
//!
//! Each process listens on an address of its own and is known to others by the address of a relay on the same port. Who calls is
//! read from the kernel ([`caller`]), so every directed pair of places has its own distance although each process is known by
//! one address. What crosses is delayed by half a round trip in each direction, in order, and a connection takes the whole
//! one to open as a handshake would ([`connection`]).
//!
//! Absent on purpose: what TCP itself makes of a distance (slow start, retransmission), loss, jitter and limits of bandwidth;
//! those need a network stack per region.
//! Invariants: no byte overtakes another; what is under way in one direction of one connection is bounded; no connection and
//! no task outlives [`Wan::close`].

mod caller;
mod connection;
#[cfg(test)]
mod tests;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use caller::{Callers, Question};
use connection::Connection;

/// Where a process stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the region of this index.
    Region(usize),
    /// Beside everybody: an observer, to whom nothing is far.
    Everywhere,
}

/// Round trips between regions; none within one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distances(Vec<Vec<Duration>>);

impl Distances {
    /// Nobody is far from anybody yet.
    pub fn none(regions: usize) -> Self {
        Self(vec![vec![Duration::ZERO; regions]; regions])
    }

    /// Sets the round trip between two regions, in both directions. Regions that there are not are left alone.
    #[must_use]
    pub fn with(mut self, a: usize, b: usize, round_trip: Duration) -> Self {
        for (from, to) in [(a, b), (b, a)] {
            if let Some(cell) = self.0.get_mut(from).and_then(|row| row.get_mut(to)) {
                *cell = if a == b { Duration::ZERO } else { round_trip };
            }
        }
        self
    }

    /// The round trip between a caller and a region.
    pub fn between(&self, from: Place, to: usize) -> Duration {
        match from {
            Place::Everywhere => Duration::ZERO,
            Place::Region(from) => {
                let row = self.0.get(from);
                row.and_then(|row| row.get(to)).copied().unwrap_or_default()
            }
        }
    }

    /// The longest of them.
    pub fn longest(&self) -> Duration {
        self.0.iter().flatten().copied().max().unwrap_or_default()
    }
}

/// The emulated network of one cluster.
#[derive(Debug)]
pub struct Wan {
    shared: Arc<Shared>,
    callers: Arc<Callers>,
    tasks: TaskTracker,
}

#[derive(Debug)]
struct Shared {
    distances: Distances,
    questions: mpsc::Sender<Question>,
    stop: CancellationToken,
}

/// Where a relay leads to.
#[derive(Clone, Copy, Debug)]
struct Target {
    relay: SocketAddr,
    address: SocketAddr,
    region: usize,
}

impl Wan {
    /// A network with these distances, in a runtime of tokio; nobody stands anywhere yet.
    pub fn new(distances: Distances) -> Self {
        let (questions, asked) = mpsc::channel(caller::WAITING);
        let shared = Arc::new(Shared {
            distances,
            questions,
            stop: CancellationToken::new(),
        });
        let (callers, tasks) = (Arc::<Callers>::default(), TaskTracker::new());
        let answers = caller::answer_all(asked, Arc::clone(&callers), tasks.clone());
        let stop = shared.stop.clone();
        tasks.spawn(async move {
            stop.run_until_cancelled(answers).await;
        });
        Self {
            shared,
            callers,
            tasks,
        }
    }

    /// Says where a process stands: what it calls from now on is so far away. A stranger's calls are closed.
    pub fn place(&self, pid: u32, place: Place) {
        self.callers.place(pid, place);
    }

    /// Listens on `relay` for calls to the process that stands in `region` and listens on `address`.
    pub async fn open(&self, relay: SocketAddr, address: SocketAddr, region: usize) -> io::Result<()> {
        let listener = TcpListener::bind(relay).await?;
        let target = Target {
            relay,
            address,
            region,
        };
        let (shared, tasks) = (Arc::clone(&self.shared), self.tasks.clone());
        self.tasks.spawn(async move {
            let stop = shared.stop.clone();
            let accepting = accept(listener, target, shared, tasks);
            stop.run_until_cancelled(accepting).await;
        });
        Ok(())
    }

    /// Closes every relay and every connection, and waits until nothing of them is left.
    pub async fn close(self) {
        self.shared.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Wan {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

async fn accept(listener: TcpListener, target: Target, shared: Arc<Shared>, tasks: TaskTracker) {
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Too many open files, most likely: they get fewer, and a loop without a pause would only take time from that.
                tracing::warn!(relay = %target.relay, %error, "a call was not taken");
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        let (called, shared) = (Instant::now(), Arc::clone(&shared));
        tasks.spawn(async move {
            let stop = shared.stop.clone();
            let carried = carry(stream, peer, called, target, &shared);
            stop.run_until_cancelled(carried).await;
        });
    }
}

async fn carry(stream: TcpStream, peer: SocketAddr, called: Instant, target: Target, shared: &Shared) {
    let Some(place) = caller::find(&shared.questions, peer, target.relay).await else {
        tracing::warn!(%peer, relay = %target.relay, "a stranger calls; closed");
        return;
    };
    let connection = Connection {
        round_trip: shared.distances.between(place, target.region),
        called,
    };
    connection.carry(stream, target.address).await;
}
