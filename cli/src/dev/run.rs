//! `regent dev` itself: open or make the cluster, start it, say how to talk to it, keep it running until a signal.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::{
    args::{DevArgs, OutputFormat, Shared},
    dev::{
        banner::{banner, document},
        cluster::{DevCluster, Options},
        spec::ClusterSpec,
        supervise::supervise,
    },
    error::Failure,
    output::{answer, note},
    shutdown,
};

/// Regions of a new cluster where `--regions` does not say.
const REGIONS: u8 = 3;
/// How long a cluster may take from its start until every region is healthy. On two busy cores an election and three
/// health verdicts take some seconds.
const READY_LIMIT: Duration = Duration::from_secs(120);

/// Runs until ctrl-c or SIGTERM.
pub(crate) async fn run(args: DevArgs, shared: Shared) -> Result<(), Failure> {
    let stop = shutdown::on_signal()?;
    let fresh = ClusterSpec::new(usize::from(args.regions.unwrap_or(REGIONS)), &args.timing)?;
    let given = args.regions;
    let cluster = DevCluster::open(&args.dir, fresh, Options::current()?).await?;
    if let Some(given) = given.filter(|given| usize::from(*given) != cluster.regions().len()) {
        let holds = cluster.regions().len();
        return Err(Failure::usage(format!(
            "{} holds a cluster of {holds} regions, not {given}",
            args.dir.display()
        ))
        .remedy("leave --regions out, or name another directory with --dir"));
    }
    let outcome = start_and_wait(&cluster, shared.output, &stop).await;
    note("stopping");
    cluster.stop_all().await?;
    outcome
}

async fn start_and_wait(
    cluster: &DevCluster,
    format: OutputFormat,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    tokio::select! {
        started = Box::pin(start(cluster, format)) => started?,
        () = stop.cancelled() => return Ok(()),
    }
    supervise(cluster, stop).await
}

async fn start(cluster: &DevCluster, format: OutputFormat) -> Result<(), Failure> {
    note(&format!(
        "starting {} regions in {}",
        cluster.regions().len(),
        cluster.layout().root().display()
    ));
    cluster.start_all().await?;
    cluster.wait_ready(READY_LIMIT).await?;
    let (document, text) = (document(cluster)?, banner(cluster)?);
    answer(format, &document, || text)
}
