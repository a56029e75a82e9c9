//! `regent dev` itself: open or make the cluster, start it, say how to talk to it, keep it running until a signal.

use tokio_util::sync::CancellationToken;

use crate::{
    args::{DevArgs, Shared},
    dev::{
        cluster::{DevCluster, Options},
        spec::ClusterSpec,
    },
    error::Failure,
    output::note,
    shutdown,
};

/// Regions of a new cluster where `--regions` does not say.
const REGIONS: u8 = 3;

/// Runs until ctrl-c or SIGTERM.
pub(crate) async fn run(args: DevArgs, _shared: Shared) -> Result<(), Failure> {
    let stop = shutdown::on_signal()?;
    let fresh = ClusterSpec::new(usize::from(args.regions.unwrap_or(REGIONS)), &args.timing)?;
    let cluster = DevCluster::open(&args.dir, fresh, Options::current()?).await?;
    let outcome = start_and_wait(&cluster, &stop).await;
    note("stopping");
    cluster.stop_all().await?;
    outcome
}

async fn start_and_wait(cluster: &DevCluster, stop: &CancellationToken) -> Result<(), Failure> {
    tokio::select! {
        started = cluster.start_all() => started?,
        () = stop.cancelled() => return Ok(()),
    }
    stop.cancelled().await;
    Ok(())
}
