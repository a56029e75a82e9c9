//! A store in a local directory, shared by any number of processes.
//!
//! An object's file holds the body and behind it 32 bytes of SHA-256 and eight of magic: the ETag is the digest, and
//! a file that does not end so was not written by this store. Writes take a lock file's flock (so the condition and
//! the rename are one step across processes), and are temp + fsync + rename + fsync of the directory.

mod files;
mod layout;

use std::{io, ops::Range, path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, BufWriter},
    sync::Mutex,
    time::timeout,
};
use tokio_util::io::ReaderStream;

use self::layout::{Layout, STRIPES};
use crate::{
    ArtifactStore, Body, Deadlines, ETag, ErrorKind, ListPage, ObjectHead, ObjectKey, PageToken, PutError,
    StoreError, Upload,
    upload::{Checker, check_condition},
};

/// Objects in a directory.
#[derive(Debug)]
pub struct FsStore {
    name: String,
    layout: Arc<Layout>,
    deadlines: Deadlines,
    /// Queues this process's writers in front of each lock file, so that a stuck foreign process blocks one thread
    /// per stripe and not one per call.
    queues: Vec<Arc<Mutex<()>>>,
}

impl FsStore {
    /// Opens the directory, making it where it is missing, and removes what dead writers left half written.
    pub async fn open(name: &str, root: &Path, deadlines: Deadlines) -> Result<Self, StoreError> {
        let path = root.to_owned();
        let layout = blocking(move || Layout::open(&path)).await;
        let layout =
            layout.map_err(|e| StoreError::new(name, "open", root.display(), ErrorKind::Disk).because(e))?;
        let queues = (0..STRIPES).map(|_| Arc::default()).collect();
        Ok(Self {
            name: name.to_owned(),
            layout: Arc::new(layout),
            deadlines,
            queues,
        })
    }

    fn error(&self, operation: &'static str, key: &ObjectKey, error: io::Error) -> StoreError {
        disk_error(&self.name, operation, key, error)
    }

    async fn within<T>(
        &self,
        operation: &'static str,
        key: &ObjectKey,
        after: Duration,
        work: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let late = |_| StoreError::new(&self.name, operation, key, ErrorKind::Deadline { after });
        timeout(after, work).await.map_err(late)?
    }

    /// The body in a temp file that nobody sees, its size and digest as announced.
    async fn receive(&self, key: &ObjectKey, upload: &mut Upload) -> Result<files::TempFile, StoreError> {
        let disk = |error| self.error("put", key, error);
        let layout = Arc::clone(&self.layout);
        let temp = blocking(move || layout.temp_file()).await.map_err(disk)?;
        let file = tokio::fs::File::from_std(temp.file().try_clone().map_err(disk)?);
        let mut writer = BufWriter::with_capacity(256 * 1024, file);
        let mut checker = Checker::new(&self.name, key, upload);
        let idle = || {
            StoreError::new(
                &self.name,
                "put",
                key,
                ErrorKind::Deadline {
                    after: self.deadlines.part,
                },
            )
        };
        while let Some(chunk) = timeout(self.deadlines.part, upload.body.next())
            .await
            .map_err(|_| idle())?
        {
            writer.write_all(&checker.take(chunk)?).await.map_err(disk)?;
        }
        writer.flush().await.map_err(disk)?;
        checker.finish()?;
        Ok(temp)
    }

    /// Condition and rename in one step, to its end even when the caller goes away.
    async fn commit(&self, key: &ObjectKey, temp: files::TempFile, upload: Upload) -> Result<ETag, PutError> {
        let stripe = layout::stripe(key);
        let queue = Arc::clone(&self.queues[stripe]).lock_owned().await;
        let (layout, name, owned_key) = (Arc::clone(&self.layout), self.name.clone(), key.clone());
        let step = tokio::task::spawn_blocking(move || {
            let _queue = queue;
            let disk = |error| disk_error(&name, "put", &owned_key, error);
            let _lock = layout.lock(stripe).map_err(disk)?;
            let path = layout.object_path(&owned_key);
            let current = files::read_head(&path).map_err(disk)?.map(|head| head.etag);
            check_condition(&name, &owned_key, upload.condition.as_ref(), current.as_ref())?;
            // Here the disk may fail after the rename.
            layout
                .publish(temp, &path)
                .map_err(|error| PutError::Unknown(disk(error)))?;
            Ok(ETag::new(&upload.digest.hex()))
        });
        step.await
            .unwrap_or_else(|error| Err(PutError::Unknown(self.error("put", key, io::Error::other(error)))))
    }
}

fn disk_error(store: &str, operation: &'static str, key: &ObjectKey, error: io::Error) -> StoreError {
    let kind = match error.kind() {
        io::ErrorKind::NotFound => ErrorKind::NotFound,
        io::ErrorKind::InvalidFilename => ErrorKind::BadKey {
            rule: "a part is too long for a file name",
        },
        io::ErrorKind::PermissionDenied => ErrorKind::Denied,
        _ => ErrorKind::Disk,
    };
    StoreError::new(store, operation, key, kind).because(error)
}

/// File work off the async threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)?
}

#[async_trait]
impl ArtifactStore for FsStore {
    fn name(&self) -> &str {
        &self.name
    }

    async fn put_stream(&self, key: &ObjectKey, mut upload: Upload) -> Result<ETag, PutError> {
        let mut temp = self.receive(key, &mut upload).await?;
        let digest = upload.digest;
        let sealed = blocking(move || temp.seal(&digest).map(|()| temp)).await;
        let temp = sealed.map_err(|error| self.error("put", key, error))?;
        let after = self.deadlines.call;
        let late = |_| StoreError::new(&self.name, "put", key, ErrorKind::Deadline { after });
        let committed = timeout(after, self.commit(key, temp, upload)).await;
        committed.map_err(late).map_err(PutError::Unknown)?
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectHead>, StoreError> {
        let path = self.layout.object_path(key);
        let work = async {
            blocking(move || files::read_head(&path))
                .await
                .map_err(|e| self.error("head", key, e))
        };
        self.within("head", key, self.deadlines.call, work).await
    }

    async fn get(&self, key: &ObjectKey) -> Result<Option<Body>, StoreError> {
        let path = self.layout.object_path(key);
        let work = async {
            blocking(move || files::open(&path))
                .await
                .map_err(|e| self.error("get", key, e))
        };
        let Some((file, head)) = self.within("get", key, self.deadlines.call, work).await? else {
            return Ok(None);
        };
        let body = tokio::fs::File::from_std(file).take(head.size.0);
        Ok(Some(Body {
            head,
            bytes: ReaderStream::with_capacity(body, 256 * 1024).boxed(),
        }))
    }

    async fn get_range(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes, StoreError> {
        let path = self.layout.object_path(key);
        let work = async { blocking(move || files::read_range(&path, range)).await };
        let read = timeout(self.deadlines.part, work).await;
        let after = self.deadlines.part;
        let late = |_| StoreError::new(&self.name, "get", key, ErrorKind::Deadline { after });
        match read
            .map_err(late)?
            .map_err(|error| self.error("get", key, error))?
        {
            Some(bytes) => Ok(bytes),
            None => Err(StoreError::new(&self.name, "get", key, ErrorKind::OutOfRange)),
        }
    }

    async fn list(&self, prefix: &str, page: Option<PageToken>) -> Result<ListPage, StoreError> {
        let (layout, owned) = (Arc::clone(&self.layout), prefix.to_owned());
        let work = blocking(move || layout.list(&owned, page.as_ref()));
        let error = |kind| StoreError::new(&self.name, "list", prefix, kind);
        let after = self.deadlines.part;
        let listed = timeout(after, work)
            .await
            .map_err(|_| error(ErrorKind::Deadline { after }))?;
        listed.map_err(|e| error(ErrorKind::Disk).because(e))
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        let stripe = layout::stripe(key);
        let (layout, owned) = (Arc::clone(&self.layout), key.clone());
        let work = async {
            let queue = Arc::clone(&self.queues[stripe]).lock_owned().await;
            let step = blocking(move || {
                let _queue = queue;
                let _lock = layout.lock(stripe)?;
                layout.remove(&owned)
            });
            step.await.map_err(|error| self.error("delete", key, error))
        };
        self.within("delete", key, self.deadlines.call, work).await
    }
}
