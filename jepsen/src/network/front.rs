//! What listens on the loopback address of a region alone, brought to the region's own address: plain HTTP is served nowhere else.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpSocket, TcpStream},
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::namespace::Namespace;

/// After a call that was not taken.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// The fronts of a network.
#[derive(Debug, Default)]
pub(super) struct Fronts {
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Fronts {
    /// Listens on `outside` of a region, and carries every connection to `inside`.
    pub(super) async fn open(
        &self,
        region: Arc<Namespace>,
        outside: SocketAddr,
        inside: SocketAddr,
    ) -> anyhow::Result<()> {
        let bind = move || {
            let listener = std::net::TcpListener::bind(outside)?;
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener)
        };
        let bound: io::Result<_> = region.run(bind).await?;
        let listener = bound.with_context(|| format!("{outside} cannot be listened on"))?;
        let (tasks, stop) = (self.tasks.clone(), self.stop.clone());
        let accepting = async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        let (region, stop) = (Arc::clone(&region), stop.clone());
                        tasks.spawn(async move {
                            let carried = carry(stream, &region, inside);
                            stop.run_until_cancelled(carried).await;
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%outside, %error, "a call was not taken");
                        // Too many open files, most likely: they get fewer.
                        sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        };
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            stop.run_until_cancelled(accepting).await;
        });
        Ok(())
    }

    /// Ends them, and waits until nothing of them is left.
    pub(super) async fn close(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Fronts {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Both directions until both have ended. Where nobody listens inside, the caller sees its connection end.
async fn carry(mut outside: TcpStream, region: &Namespace, inside: SocketAddr) {
    // A socket stays in the namespace that it was made in; whoever waits for its connection holds nobody else up there.
    let Ok(Ok(socket)) = region.run(TcpSocket::new_v4).await else {
        return;
    };
    let Ok(mut inside) = socket.connect(inside).await else {
        return;
    };
    // Without these a half of a request would wait for the answer to the other half.
    let _ = (outside.set_nodelay(true), inside.set_nodelay(true));
    // How it ended is for the two to see.
    let _ = copy_bidirectional(&mut outside, &mut inside).await;
}
