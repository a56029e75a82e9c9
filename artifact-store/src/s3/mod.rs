//! A bucket behind any endpoint that speaks S3.
//!
//! Path style, static credentials, and no retries inside the SDK: a retried conditional write that succeeded the first
//! time answers 412, and the truth is lost. Every PUT and part carries its SHA-256, so that the store refuses what was
//! damaged on the way; the payload itself is not hashed a second time for the signature.

mod classify;
mod client;
mod multipart;
mod unfinished;

use std::ops::Range;

use async_trait::async_trait;
use aws_sdk_s3::{Client, operation::get_object::GetObjectOutput, primitives::ByteStream as SdkStream};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use tokio::time::timeout;
use types::{ByteCount, Digest, UnixMillis};

use self::classify::{Failure, head_failure};
pub use self::client::S3Config;
use crate::{
    ArtifactStore, Body, ByteStream, Condition, Deadlines, ETag, ErrorKind, ListPage, ListedObject,
    ObjectHead, ObjectKey, PageToken, PutError, StoreError, Upload, store::PAGE_KEYS, upload::Checker,
};

/// Bodies up to this size, pointers among them, have the deadline of small calls.
const SMALL_BYTES_MAX: usize = 64 * 1024;

/// One bucket.
#[derive(Clone, Debug)]
pub struct S3Store {
    name: String,
    bucket: String,
    client: Client,
    deadlines: Deadlines,
}

impl S3Store {
    /// Prepares the client; sends nothing.
    pub fn new(config: &S3Config) -> Self {
        Self {
            name: config.name.clone(),
            bucket: config.bucket.clone(),
            client: client::build(config),
            deadlines: config.deadlines,
        }
    }

    /// The client itself, for tests that say what this back end never would.
    #[cfg(test)]
    pub(crate) fn sdk(&self) -> &Client {
        &self.client
    }

    /// Makes the bucket unless it is there.
    pub async fn create_bucket(&self) -> Result<(), StoreError> {
        let created = self
            .call(self.client.create_bucket().bucket(&self.bucket).send())
            .await;
        match created {
            Ok(_) => Ok(()),
            Err(failure)
                if matches!(
                    failure.code(),
                    Some("BucketAlreadyOwnedByYou" | "BucketAlreadyExists")
                ) =>
            {
                Ok(())
            }
            Err(failure) => Err(failure.into_error(&self.name, "create bucket", &self.bucket)),
        }
    }

    /// One SDK call under the deadline of small calls.
    async fn call<T, E: classify::SdkFailure>(
        &self,
        call: impl Future<Output = Result<T, E>> + Send,
    ) -> Result<T, Failure> {
        self.call_for(self.deadlines.call, call).await
    }

    /// Boxed, because the SDK's futures are large.
    async fn call_for<T, E: classify::SdkFailure>(
        &self,
        after: std::time::Duration,
        call: impl Future<Output = Result<T, E>> + Send,
    ) -> Result<T, Failure> {
        match Box::pin(timeout(after, call)).await {
            Err(_) => Err(Failure::late(after)),
            Ok(Err(error)) => Err(error.classify()),
            Ok(Ok(value)) => Ok(value),
        }
    }

    async fn put_whole(
        &self,
        key: &ObjectKey,
        body: Bytes,
        digest: &Digest,
        condition: Option<&Condition>,
    ) -> Result<ETag, PutError> {
        let (if_match, if_none_match) = headers(condition);
        let small = body.len() <= SMALL_BYTES_MAX;
        let after = if small {
            self.deadlines.call
        } else {
            self.deadlines.part
        };
        let call = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(key.as_str())
            .set_if_match(if_match)
            .set_if_none_match(if_none_match)
            .checksum_sha256(STANDARD.encode(digest.as_bytes()))
            .body(SdkStream::from(body))
            .customize()
            .disable_payload_signing();
        let sent = self.call_for(after, call.send()).await;
        let output = sent.map_err(|failure| failure.into_put_error(&self.name, key, condition))?;
        self.stored(key, output.e_tag())
    }

    /// A success without an ETag cannot be told from another write's: the caller must read.
    fn stored(&self, key: &ObjectKey, etag: Option<&str>) -> Result<ETag, PutError> {
        let unknown = || {
            StoreError::new(&self.name, "put", key, ErrorKind::Unavailable).because("no ETag in the answer")
        };
        etag.map(ETag::new).ok_or_else(|| PutError::Unknown(unknown()))
    }

    fn head_of(
        &self,
        key: &ObjectKey,
        size: Option<i64>,
        etag: Option<&str>,
    ) -> Result<ObjectHead, StoreError> {
        let size = size.and_then(|size| u64::try_from(size).ok());
        let refused = ErrorKind::Refused {
            answer: "an answer without length or ETag".to_owned(),
        };
        let (size, etag) = size
            .zip(etag)
            .ok_or_else(|| StoreError::new(&self.name, "head", key, refused))?;
        Ok(ObjectHead {
            size: ByteCount(size),
            etag: ETag::new(etag),
        })
    }

    fn stream(&self, output: GetObjectOutput) -> ByteStream {
        let after = self.deadlines.part;
        let next = move |mut body: SdkStream| async move {
            match timeout(after, body.next()).await {
                Err(_) => Some((Err(std::io::ErrorKind::TimedOut.into()), SdkStream::default())),
                Ok(None) => None,
                Ok(Some(chunk)) => Some((chunk.map_err(std::io::Error::other), body)),
            }
        };
        stream::unfold(output.body, next).boxed()
    }
}

/// `If-Match` and `If-None-Match`.
fn headers(condition: Option<&Condition>) -> (Option<String>, Option<String>) {
    match condition {
        None => (None, None),
        Some(Condition::Absent) => (None, Some("*".to_owned())),
        Some(Condition::Matches(etag)) => (Some(format!("\"{etag}\"")), None),
    }
}

#[async_trait]
impl ArtifactStore for S3Store {
    fn name(&self) -> &str {
        &self.name
    }

    async fn put_stream(&self, key: &ObjectKey, mut upload: Upload) -> Result<ETag, PutError> {
        if upload.size.0 > multipart::WHOLE_BYTES_MAX {
            return self.put_parts(key, upload).await;
        }
        let mut checker = Checker::new(&self.name, key, &upload);
        let mut body = Vec::new();
        while let Some(chunk) = self.next_chunk(key, &mut upload.body).await? {
            body.extend_from_slice(&checker.take(chunk)?);
        }
        checker.finish()?;
        self.put_whole(key, body.into(), &upload.digest, upload.condition.as_ref())
            .await
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectHead>, StoreError> {
        let call = self.client.head_object().bucket(&self.bucket).key(key.as_str());
        match self.call(call.send()).await {
            Ok(output) => self
                .head_of(key, output.content_length(), output.e_tag())
                .map(Some),
            Err(failure) => head_failure(failure, &self.name, key),
        }
    }

    async fn get(&self, key: &ObjectKey) -> Result<Option<Body>, StoreError> {
        let call = self.client.get_object().bucket(&self.bucket).key(key.as_str());
        match self.call(call.send()).await {
            Ok(output) => {
                let head = self.head_of(key, output.content_length(), output.e_tag())?;
                Ok(Some(Body {
                    head,
                    bytes: self.stream(output),
                }))
            }
            Err(failure) if failure.is_missing_key() => Ok(None),
            Err(failure) => Err(failure.into_error(&self.name, "get", key)),
        }
    }

    async fn get_range(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes, StoreError> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let error = |kind| StoreError::new(&self.name, "get", key, kind);
        let header = format!("bytes={}-{}", range.start, range.end - 1);
        let call = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(key.as_str())
            .range(header);
        let output = self
            .call(call.send())
            .await
            .map_err(|failure| failure.into_error(&self.name, "get", key))?;
        let after = self.deadlines.part;
        let read = Box::pin(timeout(after, output.body.collect())).await;
        let read = read.map_err(|_| error(ErrorKind::Deadline { after }))?;
        let bytes = read
            .map_err(|e| error(ErrorKind::Unavailable).because(e))?
            .into_bytes();
        // A range that ends behind the object is cut by S3, not refused.
        if bytes.len() as u64 == range.end - range.start {
            Ok(bytes)
        } else {
            Err(error(ErrorKind::OutOfRange))
        }
    }

    async fn list(&self, prefix: &str, page: Option<PageToken>) -> Result<ListPage, StoreError> {
        let call = self
            .client
            .list_objects_v2()
            .bucket(&self.bucket)
            .prefix(prefix)
            .set_continuation_token(page.map(|token| token.0))
            .max_keys(i32::try_from(PAGE_KEYS).unwrap_or(i32::MAX));
        let output = self
            .call(call.send())
            .await
            .map_err(|f| f.into_error(&self.name, "list", prefix))?;
        let listed = |object: &aws_sdk_s3::types::Object| {
            Some(ListedObject {
                key: object.key()?.to_owned(),
                size: ByteCount(u64::try_from(object.size()?).ok()?),
                etag: ETag::new(object.e_tag()?),
            })
        };
        let objects = output.contents().iter().filter_map(listed).collect();
        Ok(ListPage {
            objects,
            next: output.next_continuation_token.map(PageToken),
        })
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        let call = self.client.delete_object().bucket(&self.bucket).key(key.as_str());
        match self.call(call.send()).await {
            Ok(_) => Ok(()),
            Err(failure) if failure.is_missing_key() => Ok(()),
            Err(failure) => Err(failure.into_error(&self.name, "delete", key)),
        }
    }

    async fn abort_uploads(&self, prefix: &str, before: UnixMillis) -> Result<usize, StoreError> {
        self.abort_begun_before(prefix, before).await
    }
}
