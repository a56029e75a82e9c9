//! A store that misbehaves when told to: the next call of a kind fails, waits, tears, or leaves its caller in doubt.

use std::{
    collections::VecDeque,
    io,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, future::BoxFuture, stream};
use tokio::sync::Notify;
use types::UnixMillis;

use crate::{
    ArtifactStore, Body, ByteStream, ETag, ErrorKind, ListPage, ObjectHead, ObjectKey, PageToken, PutError,
    StoreError, Upload,
};

/// Which call a fault is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Every kind of write but delete.
    Put,
    /// [`ArtifactStore::head`].
    Head,
    /// [`ArtifactStore::get`].
    Get,
    /// [`ArtifactStore::get_range`].
    GetRange,
    /// [`ArtifactStore::list`].
    List,
    /// [`ArtifactStore::delete`].
    Delete,
    /// [`ArtifactStore::abort_uploads`].
    AbortUploads,
}

/// What goes wrong.
#[derive(Clone, Debug)]
pub enum Fault {
    /// A failure without effect: reads are unavailable, writes surely did not happen.
    Fail,
    /// A write that answers 409.
    Conflict,
    /// A write that takes effect and whose answer is lost.
    UnknownAfterWrite,
    /// A write that takes no effect and whose answer is lost.
    UnknownBeforeWrite,
    /// The call waits at the gate, then goes on as if nothing was.
    Wait(Arc<Gate>),
    /// The bytes end with an error after so many, in whichever direction they go.
    Tear {
        /// How many pass.
        after_bytes: usize,
    },
    /// Bytes that are read have one bit flipped.
    Corrupt,
}

/// Holds a call until the test lets it go.
#[derive(Debug, Default)]
pub struct Gate {
    arrived: Notify,
    released: Notify,
}

impl Gate {
    /// A closed gate.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }
    /// Returns once a call waits at the gate.
    pub async fn arrived(&self) {
        self.arrived.notified().await;
    }
    /// Lets the call go on.
    pub fn release(&self) {
        self.released.notify_one();
    }
    /// Waits at the gate.
    pub async fn pass(&self) {
        self.arrived.notify_one();
        self.released.notified().await;
    }
}

/// Something that happens in the store below, just before a write arrives there.
pub type Rival = Arc<dyn Fn(Arc<dyn ArtifactStore>) -> BoxFuture<'static, ()> + Send + Sync>;

/// The wrapper.
pub struct FaultyStore {
    inner: Arc<dyn ArtifactStore>,
    plan: Mutex<VecDeque<(Operation, Fault)>>,
    rival: Mutex<Option<Rival>>,
}

impl std::fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FaultyStore")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

impl FaultyStore {
    /// A store that behaves until told otherwise.
    pub fn new(inner: Arc<dyn ArtifactStore>) -> Self {
        Self {
            inner,
            plan: Mutex::default(),
            rival: Mutex::default(),
        }
    }

    /// From now on somebody who sits beside the store is faster than each write: `rival` runs to its end before it.
    pub fn before_each_put(
        &self,
        rival: impl Fn(Arc<dyn ArtifactStore>) -> BoxFuture<'static, ()> + Send + Sync + 'static,
    ) {
        *self.rival.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(rival));
    }

    /// The rival is gone.
    pub fn puts_are_undisturbed(&self) {
        *self.rival.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    async fn let_the_rival_pass(&self) {
        let rival = self.rival.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(rival) = rival {
            rival(Arc::clone(&self.inner)).await;
        }
    }

    /// The next call of this kind that has no fault planned yet goes wrong so.
    pub fn plan(&self, operation: Operation, fault: Fault) {
        self.plan
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_back((operation, fault));
    }

    /// The fault of a call; a wait is over when this returns.
    async fn fault(&self, operation: Operation) -> Option<Fault> {
        let fault = {
            let mut plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
            let index = plan.iter().position(|(planned, _)| *planned == operation)?;
            plan.remove(index)?.1
        };
        if let Fault::Wait(gate) = &fault {
            gate.pass().await;
            return None;
        }
        Some(fault)
    }

    fn error(&self, operation: &'static str, key: &str) -> StoreError {
        StoreError::new(self.inner.name(), operation, key, ErrorKind::Unavailable).because("a planned fault")
    }

    /// For calls that a fault can only make fail.
    async fn check(&self, operation: Operation, name: &'static str, key: &str) -> Result<(), StoreError> {
        self.fault(operation)
            .await
            .map_or(Ok(()), |_| Err(self.error(name, key)))
    }
}

fn tear(body: ByteStream, after_bytes: usize) -> ByteStream {
    let torn = || Err(io::Error::new(io::ErrorKind::ConnectionReset, "a planned tear"));
    body.scan(Some(after_bytes), move |left, chunk| {
        let next = left.map(|n| match chunk {
            Ok(bytes) if bytes.len() <= n => {
                *left = Some(n - bytes.len());
                vec![Ok(bytes)]
            }
            Ok(bytes) => {
                *left = None;
                vec![Ok(bytes.slice(..n)), torn()]
            }
            Err(error) => vec![Err(error)],
        });
        std::future::ready(next)
    })
    .flat_map(stream::iter)
    .boxed()
}

fn flip(bytes: &Bytes) -> Bytes {
    let mut bytes = bytes.to_vec();
    if let Some(byte) = bytes.first_mut() {
        *byte ^= 1;
    }
    bytes.into()
}

#[async_trait]
impl ArtifactStore for FaultyStore {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn put_stream(&self, key: &ObjectKey, mut upload: Upload) -> Result<ETag, PutError> {
        let (store, text) = (self.inner.name().to_owned(), key.to_string());
        self.let_the_rival_pass().await;
        match self.fault(Operation::Put).await {
            None | Some(Fault::Wait(_)) => self.inner.put_stream(key, upload).await,
            Some(Fault::Fail | Fault::Corrupt) => Err(PutError::Failed(self.error("put", key.as_str()))),
            Some(Fault::Conflict) => Err(PutError::Conflict { store, key: text }),
            Some(Fault::UnknownBeforeWrite) => Err(PutError::Unknown(self.error("put", key.as_str()))),
            Some(Fault::UnknownAfterWrite) => {
                self.inner.put_stream(key, upload).await?;
                Err(PutError::Unknown(self.error("put", key.as_str())))
            }
            Some(Fault::Tear { after_bytes }) => {
                upload.body = tear(upload.body, after_bytes);
                self.inner.put_stream(key, upload).await
            }
        }
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectHead>, StoreError> {
        self.check(Operation::Head, "head", key.as_str()).await?;
        self.inner.head(key).await
    }

    async fn get(&self, key: &ObjectKey) -> Result<Option<Body>, StoreError> {
        let fault = self.fault(Operation::Get).await;
        let body = self.inner.get(key).await?;
        match (fault, body) {
            (None, body) => Ok(body),
            (Some(Fault::Tear { after_bytes }), Some(Body { head, bytes })) => Ok(Some(Body {
                head,
                bytes: tear(bytes, after_bytes),
            })),
            (Some(Fault::Corrupt), Some(Body { head, bytes })) => Ok(Some(Body {
                head,
                bytes: bytes.map(|chunk| chunk.map(|chunk| flip(&chunk))).boxed(),
            })),
            (Some(_), _) => Err(self.error("get", key.as_str())),
        }
    }

    async fn get_range(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes, StoreError> {
        match self.fault(Operation::GetRange).await {
            None => self.inner.get_range(key, range).await,
            Some(Fault::Corrupt) => Ok(flip(&self.inner.get_range(key, range).await?)),
            Some(_) => Err(self.error("get", key.as_str())),
        }
    }

    async fn list(&self, prefix: &str, page: Option<PageToken>) -> Result<ListPage, StoreError> {
        self.check(Operation::List, "list", prefix).await?;
        self.inner.list(prefix, page).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        self.check(Operation::Delete, "delete", key.as_str()).await?;
        self.inner.delete(key).await
    }

    async fn abort_uploads(&self, prefix: &str, before: UnixMillis) -> Result<usize, StoreError> {
        self.check(Operation::AbortUploads, "abort uploads of", prefix)
            .await?;
        self.inner.abort_uploads(prefix, before).await
    }
}
