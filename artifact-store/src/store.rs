//! What every object store can do.

use std::{fmt, io, ops::Range, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, stream::BoxStream};
use tokio::io::AsyncRead;
use tokio_util::{io::ReaderStream, sync::CancellationToken};
use types::{ByteCount, Digest, UnixMillis};

use crate::{ObjectKey, PutError, StoreError};

/// Bytes that come piece by piece. An error ends the stream.
pub type ByteStream = BoxStream<'static, io::Result<Bytes>>;

/// One bucket, or one directory. Each call has a deadline of its own and makes exactly one attempt.
#[async_trait]
pub trait ArtifactStore: fmt::Debug + Send + Sync {
    /// How errors and logs call this store.
    fn name(&self) -> &str;

    /// Writes an object whole, replacing what is there. For bodies that fit in memory.
    async fn put(&self, key: &ObjectKey, body: Bytes) -> Result<ETag, PutError> {
        let upload = Upload {
            condition: None,
            ..Upload::of_bytes(body)
        };
        self.put_stream(key, upload).await
    }

    /// Writes an object whole if `condition` holds at the moment of the commit.
    async fn put_if(&self, key: &ObjectKey, body: Bytes, condition: Condition) -> Result<ETag, PutError> {
        let upload = Upload {
            condition: Some(condition),
            ..Upload::of_bytes(body)
        };
        self.put_stream(key, upload).await
    }

    /// Writes a stream. The object is visible only after size and digest matched; on any known failure nothing is.
    async fn put_stream(&self, key: &ObjectKey, upload: Upload) -> Result<ETag, PutError>;

    /// Size and ETag; `None` is an answer of the store: there is no such object.
    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectHead>, StoreError>;

    /// Head and bytes of one state of the object; `None` as in [`Self::head`].
    async fn get(&self, key: &ObjectKey) -> Result<Option<Body>, StoreError>;

    /// Exactly the bytes of `range`; an error when the object has fewer.
    async fn get_range(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes, StoreError>;

    /// Objects whose key starts with `prefix`, in key order, at most 1000 a page.
    async fn list(&self, prefix: &str, page: Option<PageToken>) -> Result<ListPage, StoreError>;

    /// Removes an object; removing none succeeds.
    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError>;

    /// Takes back uploads to keys under `prefix` that were begun before `before`, by the store's clock, and never committed; how
    /// many. Only a crash or a dropped call leaves any, and only in stores that keep what came of them.
    async fn abort_uploads(&self, prefix: &str, before: UnixMillis) -> Result<usize, StoreError> {
        let _ = (prefix, before);
        Ok(0)
    }
}

/// What must be true of a key when a write to it is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// There is no object.
    Absent,
    /// There is one, with this ETag.
    Matches(ETag),
}

/// A store's name for one state of an object, without quotes. Opaque: compare it, never read it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ETag(String);

impl ETag {
    /// Takes what a store sent; quotes around it are dropped.
    pub fn new(text: &str) -> Self {
        Self(text.trim_matches('"').to_owned())
    }
    /// The text without quotes.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Debug for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// Bytes on their way in.
pub struct Upload {
    /// The bytes, in order.
    pub body: ByteStream,
    /// How many there are.
    pub size: ByteCount,
    /// Their SHA-256; computed on the way and compared before the object is visible.
    pub digest: Digest,
    /// What must hold at the commit; none replaces whatever is there.
    pub condition: Option<Condition>,
    /// Gives the upload up, where it is cancelled before the commit is asked for: the call then takes back what it began
    /// at the store, which nobody does for a call that is dropped, and fails.
    pub stop: CancellationToken,
}

impl Upload {
    /// An upload of bytes in memory.
    pub fn of_bytes(bytes: Bytes) -> Self {
        let (size, digest) = (ByteCount(bytes.len() as u64), Digest::of(&bytes));
        Self {
            body: futures::stream::iter([Ok(bytes)]).boxed(),
            size,
            digest,
            condition: None,
            stop: CancellationToken::new(),
        }
    }

    /// An upload of what a reader gives.
    pub fn of_reader(reader: impl AsyncRead + Send + 'static, size: ByteCount, digest: Digest) -> Self {
        let body = ReaderStream::with_capacity(reader, 256 * 1024).boxed();
        Self {
            body,
            size,
            digest,
            condition: None,
            stop: CancellationToken::new(),
        }
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            size,
            digest,
            condition,
            ..
        } = self;
        f.debug_struct("Upload")
            .field("size", size)
            .field("digest", digest)
            .field("condition", condition)
            .finish()
    }
}

/// An object on its way out.
pub struct Body {
    /// Of the state that `bytes` belong to.
    pub head: ObjectHead,
    /// The bytes, in order.
    pub bytes: ByteStream,
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body")
            .field("head", &self.head)
            .finish_non_exhaustive()
    }
}

/// What a store knows of an object without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectHead {
    /// Its length.
    pub size: ByteCount,
    /// Its state.
    pub etag: ETag,
}

/// One object of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedObject {
    /// Its key as text: a store may hold keys that are not ours.
    pub key: String,
    /// Its length.
    pub size: ByteCount,
    /// Its state.
    pub etag: ETag,
}

/// Where the next page of a list starts. Opaque, and good for the same store and prefix only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageToken(pub(crate) String);

/// A part of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListPage {
    /// In key order.
    pub objects: Vec<ListedObject>,
    /// Asks for the next page; none when this was the last.
    pub next: Option<PageToken>,
}

/// Keys in a page.
pub(crate) const PAGE_KEYS: usize = 1000;

/// How long calls may take. After it the outcome of a write is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// Calls without much data: head, list, delete, and writes of small bodies. Default 10 s.
    pub call: Duration,
    /// One part of an upload, one range, or the wait for the next piece of a stream. Default 60 s: 8 MiB at 140 kB/s.
    pub part: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            call: Duration::from_secs(10),
            part: Duration::from_secs(60),
        }
    }
}
