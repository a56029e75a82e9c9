//! The listener: connections in, requests to the service, an orderly end.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use s3s::{
    auth::SimpleAuth,
    service::{S3Service, S3ServiceBuilder},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{Config, Error, service::Service, store::Store};

/// Connections at once; more wait in the system's queue. A demo has some dozens.
const CONNECTIONS_MAX: usize = 1024;

/// A client must send its headers within this time.
const HEADERS_MAX: Duration = Duration::from_secs(30);

/// Serves the directory until `shutdown`, then lets requests under way end. `on_ready` gets the address that was bound,
/// once requests are answered there.
pub async fn run(
    config: Config,
    shutdown: CancellationToken,
    on_ready: impl FnOnce(SocketAddr) + Send,
) -> Result<(), Error> {
    config.validate()?;
    let listener = bind(config.listen).await?;
    let address = listener.local_addr().map_err(|source| Error::Bind {
        listen: config.listen,
        source,
    })?;
    let store = open_store(&config).await?;
    let service = build_service(&config, store);
    tracing::info!(%address, data_dir = %config.data_dir.display(), "dev-s3 ready");
    on_ready(address);
    serve(&listener, service, &shutdown, config.drain_max).await;
    tracing::info!(%address, "dev-s3 stopped");
    Ok(())
}

async fn bind(listen: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(listen)
        .await
        .map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => Error::PortInUse { listen },
            _ => Error::Bind { listen, source },
        })
}

async fn open_store(config: &Config) -> Result<Store, Error> {
    let (root, buckets) = (config.data_dir.clone(), config.buckets.clone());
    let open = tokio::task::spawn_blocking(move || {
        let store = Store::open(&root)?;
        for bucket in &buckets {
            store
                .create_bucket(bucket)
                .map_err(Error::directory(store.directory.root().join(bucket)))?;
        }
        Ok(store)
    });
    let joined = open
        .await
        .map_err(|e| Error::directory(&config.data_dir)(io::Error::other(e)));
    joined?
}

fn build_service(config: &Config, store: Store) -> S3Service {
    let mut builder = S3ServiceBuilder::new(Service {
        store: Arc::new(store),
    });
    let credentials = &config.credentials;
    builder.set_auth(SimpleAuth::from_single(
        credentials.access_key.as_str(),
        credentials.secret_key.as_str(),
    ));
    builder.build()
}

async fn serve(
    listener: &TcpListener,
    service: S3Service,
    shutdown: &CancellationToken,
    drain_max: Duration,
) {
    let (tasks, give_up) = (TaskTracker::new(), CancellationToken::new());
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = accept(listener, &slots) => accepted,
        };
        let Some((stream, slot)) = accepted else { continue };
        let (service, shutdown, give_up) = (service.clone(), shutdown.clone(), give_up.clone());
        tasks.spawn(async move {
            let _slot = slot;
            tokio::select! {
                () = give_up.cancelled() => {}
                () = connection(stream, service, shutdown) => {}
            }
        });
    }
    tasks.close();
    if timeout(drain_max, tasks.wait()).await.is_err() {
        give_up.cancel();
        tasks.wait().await;
    }
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, slot)),
        Err(error) => {
            // Out of file descriptors, most likely: give the connections that are open a moment to end.
            tracing::warn!(%error, "accept failed");
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}

async fn connection(stream: TcpStream, service: S3Service, shutdown: CancellationToken) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_MAX);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended early");
    }
}
