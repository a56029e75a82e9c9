//! Uploads in parts: several in flight, completed only after the digest of all bytes matched.

use std::io;

use aws_sdk_s3::{
    primitives::ByteStream as SdkStream,
    types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{Bytes, BytesMut};
use futures::{StreamExt as _, stream::FuturesUnordered};
use tokio::time::timeout;
use types::Digest;

use super::{S3Store, headers};
use crate::{ByteStream, ETag, ErrorKind, ObjectKey, PutError, StoreError, Upload, upload::Checker};

/// Facts: 8 MiB, four in flight, is as fast as more.
const PART_BYTES: u64 = 8 << 20;
const PARTS_IN_FLIGHT: usize = 4;

/// S3's limit; larger objects get larger parts.
const PARTS_MAX: u64 = 10_000;

/// Bodies up to one part are put whole.
pub(super) const WHOLE_BYTES_MAX: u64 = PART_BYTES;

impl S3Store {
    /// On a known failure, and when it is given up, the upload is aborted; one that is cut off by a crash or dropped is left
    /// to [`crate::ArtifactStore::abort_uploads`].
    pub(super) async fn put_parts(&self, key: &ObjectKey, upload: Upload) -> Result<ETag, PutError> {
        let id = self.begin(key).await?;
        let condition = upload.condition.clone();
        let stop = upload.stop.clone();
        let sent = match stop.run_until_cancelled(self.send_parts(key, &id, upload)).await {
            Some(Ok(parts)) => self.complete(key, &id, parts, condition.as_ref()).await,
            Some(Err(error)) => Err(error.into()),
            None => {
                let error = StoreError::new(&self.name, "put", key, ErrorKind::BodyFailed);
                Err(error.because("the upload was given up").into())
            }
        };
        if !matches!(sent, Ok(_) | Err(PutError::Unknown(_))) {
            self.abort(key, &id).await;
        }
        sent
    }

    async fn begin(&self, key: &ObjectKey) -> Result<String, StoreError> {
        let call = self
            .client
            .create_multipart_upload()
            .bucket(&self.bucket)
            .key(key.as_str())
            .checksum_algorithm(ChecksumAlgorithm::Sha256);
        let output = self
            .call(call.send())
            .await
            .map_err(|f| f.into_error(&self.name, "begin upload of", key))?;
        let refused = ErrorKind::Refused {
            answer: "no upload id in the answer".to_owned(),
        };
        output
            .upload_id
            .ok_or_else(|| StoreError::new(&self.name, "begin upload of", key, refused))
    }

    async fn send_parts(
        &self,
        key: &ObjectKey,
        id: &str,
        mut upload: Upload,
    ) -> Result<Vec<CompletedPart>, StoreError> {
        let mut checker = Checker::new(&self.name, key, &upload);
        let mut parts = Parts::new(upload.size.0);
        let (mut in_flight, mut done) = (FuturesUnordered::new(), Vec::new());
        let mut number = 0;
        loop {
            let chunk = self.next_chunk(key, &mut upload.body).await?;
            let end = chunk.is_none();
            if let Some(chunk) = chunk {
                parts.push(&checker.take(chunk)?);
            }
            while let Some(part) = parts.pop(end) {
                if in_flight.len() == PARTS_IN_FLIGHT
                    && let Some(sent) = in_flight.next().await
                {
                    done.push(sent?);
                }
                number += 1;
                in_flight.push(self.send_part(key, id, number, part));
            }
            if end {
                break;
            }
        }
        while let Some(sent) = in_flight.next().await {
            done.push(sent?);
        }
        checker.finish()?;
        done.sort_by_key(|part| part.part_number);
        Ok(done)
    }

    async fn send_part(
        &self,
        key: &ObjectKey,
        id: &str,
        number: i32,
        body: Bytes,
    ) -> Result<CompletedPart, StoreError> {
        let sum = STANDARD.encode(Digest::of(&body).as_bytes());
        let call = self
            .client
            .upload_part()
            .bucket(&self.bucket)
            .key(key.as_str())
            .upload_id(id)
            .part_number(number)
            .checksum_sha256(sum)
            .body(SdkStream::from(body))
            .customize()
            .disable_payload_signing();
        let sent = self.call_for(self.deadlines.part, call.send()).await;
        let output = sent.map_err(|failure| failure.into_error(&self.name, "put a part of", key))?;
        // A store that answers without the checksum does not want it back at Complete.
        let part = CompletedPart::builder()
            .part_number(number)
            .set_e_tag(output.e_tag);
        Ok(part.set_checksum_sha256(output.checksum_sha256).build())
    }

    async fn complete(
        &self,
        key: &ObjectKey,
        id: &str,
        parts: Vec<CompletedPart>,
        condition: Option<&crate::Condition>,
    ) -> Result<ETag, PutError> {
        let (if_match, if_none_match) = headers(condition);
        let call = self
            .client
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(key.as_str())
            .upload_id(id)
            .set_if_match(if_match)
            .set_if_none_match(if_none_match)
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(parts)).build());
        // The store may copy all bytes before it answers.
        let sent = self.call_for(self.deadlines.part, call.send()).await;
        let output = sent.map_err(|failure| failure.into_put_error(&self.name, key, condition))?;
        self.stored(key, output.e_tag())
    }

    async fn abort(&self, key: &ObjectKey, id: &str) {
        let call = self
            .client
            .abort_multipart_upload()
            .bucket(&self.bucket)
            .key(key.as_str())
            .upload_id(id);
        if let Err(failure) = self.call(call.send()).await {
            let error = failure.into_error(&self.name, "abort upload of", key);
            tracing::warn!(%error, "parts of an upload stay in the bucket until they are old enough to be taken for left behind");
        }
    }

    /// The next piece of a body that is being uploaded, within the deadline of a part.
    pub(super) async fn next_chunk(
        &self,
        key: &ObjectKey,
        body: &mut ByteStream,
    ) -> Result<Option<io::Result<Bytes>>, StoreError> {
        let after = self.deadlines.part;
        let late = |_| {
            let slow = "the source of the bytes gave none in time";
            StoreError::new(&self.name, "put", key, ErrorKind::Deadline { after }).because(slow)
        };
        timeout(after, body.next()).await.map_err(late)
    }
}

/// Pieces of any size in, parts of one size out.
struct Parts {
    part_bytes: usize,
    buffer: BytesMut,
}

impl Parts {
    fn new(size: u64) -> Self {
        let part_bytes = PART_BYTES.max(size.div_ceil(PARTS_MAX));
        Self {
            part_bytes: usize::try_from(part_bytes).unwrap_or(usize::MAX),
            buffer: BytesMut::new(),
        }
    }

    fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// A full part; at the end also the rest.
    fn pop(&mut self, end: bool) -> Option<Bytes> {
        if self.buffer.len() >= self.part_bytes {
            return Some(self.buffer.split_to(self.part_bytes).freeze());
        }
        (end && !self.buffer.is_empty()).then(|| self.buffer.split().freeze())
    }
}
