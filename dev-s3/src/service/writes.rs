//! PUT, copy and delete.

use std::{
    fs::File,
    io::{self, Read as _},
    sync::Arc,
};

use s3s::{S3Error, S3Request, S3Response, S3Result, dto::*, s3_error};

use super::{Answer, Service, signer};
use crate::{
    checksums::{Claims, answer_sums, claimed_sums},
    commit::{Attempt, Change},
    conditions::{ReadCondition, WriteCondition},
    directory::TempFile,
    fence_view::FenceView,
    meta::{Headers, META_VERSION, ObjectMeta, now_micros, signed},
    object_file::seal,
    receive::{disk, receive},
    store::Bucket,
};

/// Headers of a request that stay with the object; the macro because each input is its own type.
macro_rules! kept_headers {
    ($input:expr) => {
        Headers {
            content_type: $input.content_type.take(),
            content_encoding: $input.content_encoding.take(),
            content_language: $input.content_language.take(),
            content_disposition: $input.content_disposition.take(),
            cache_control: $input.cache_control.take(),
            user: $input.metadata.take().into_iter().flatten().collect(),
        }
        .without_transfer_encoding()
    };
}
pub(super) use kept_headers;

/// Algorithms that a request announces: for the trailer, or for every part of an upload.
pub(super) fn announced(headers: &hyper::HeaderMap, algorithm: Option<&ChecksumAlgorithm>) -> Vec<String> {
    let trailer = headers
        .get("x-amz-trailer")
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let trailer = trailer
        .split(',')
        .filter_map(|name| name.trim().strip_prefix("x-amz-checksum-"));
    trailer
        .map(str::to_owned)
        .chain(algorithm.map(|name| name.as_str().to_lowercase()))
        .collect()
}

/// Seals a body and says what is known of it, off the async threads.
pub(super) async fn seal_object(mut file: File, temp: TempFile, meta: ObjectMeta) -> S3Result<Change> {
    let step = tokio::task::spawn_blocking(move || {
        seal(&mut file, &meta)?;
        Ok(Change::Put(temp, Arc::new(meta)))
    });
    step.await.map_err(S3Error::internal_error)?.map_err(disk)
}

impl Service {
    pub(super) async fn put(&self, mut req: S3Request<PutObjectInput>) -> Answer<PutObjectOutput> {
        let bucket = self.store.bucket(&req.input.bucket)?;
        let mut attempt = Attempt {
            method: "PUT",
            bucket,
            key: req.input.key.clone(),
            condition: WriteCondition {
                if_match: req.input.if_match.take(),
                if_none_match: req.input.if_none_match.take(),
            },
            sent: None,
            access_key: signer(&req),
        };
        let claims = Claims {
            md5: req.input.content_md5.take(),
            wanted: announced(&req.headers, req.input.checksum_algorithm.as_ref()),
            sums: claimed_sums!(req.input),
            trailers: req.trailing_headers.take(),
        };
        let (body, length) = (req.input.body.take(), req.input.content_length);
        let received = match receive(&self.store.directory, body, length, claims).await {
            Ok(received) => received,
            Err(error) => return Err(self.store.refuse(attempt, error).await),
        };
        attempt.sent = received
            .small
            .as_deref()
            .and_then(|body| FenceView::of(&attempt.key, body));
        let mut checksums = received.checksums;
        checksums.kind = Some("FULL_OBJECT".to_owned());
        let meta = ObjectMeta {
            version: META_VERSION,
            key: attempt.key.clone(),
            size: received.size,
            etag: hex::encode(received.md5),
            modified_micros: now_micros(),
            headers: kept_headers!(req.input),
            checksums,
            parts: None,
            fence: attempt.sent.clone(),
        };
        let mut output = PutObjectOutput {
            e_tag: Some(meta.e_tag()),
            ..Default::default()
        };
        answer_sums!(output, meta.checksums);
        let change = seal_object(received.file, received.temp, meta).await?;
        self.store.commit(attempt, change).await?;
        Ok(S3Response::new(output))
    }

    pub(super) async fn delete(&self, mut req: S3Request<DeleteObjectInput>) -> Answer<DeleteObjectOutput> {
        let attempt = Attempt {
            method: "DELETE",
            bucket: self.store.bucket(&req.input.bucket)?,
            key: req.input.key.clone(),
            condition: WriteCondition {
                if_match: req.input.if_match.take(),
                if_none_match: None,
            },
            sent: None,
            access_key: signer(&req),
        };
        self.store.commit(attempt, Change::Delete).await?;
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    /// Each key is deleted, judged and logged by itself, as S3 does.
    pub(super) async fn delete_many(
        &self,
        req: S3Request<DeleteObjectsInput>,
    ) -> Answer<DeleteObjectsOutput> {
        let bucket = self.store.bucket(&req.input.bucket)?;
        let quiet = req.input.delete.quiet.unwrap_or(false);
        let access_key = signer(&req);
        let (mut deleted, mut errors) = (Vec::new(), Vec::new());
        for object in req.input.delete.objects {
            let attempt = Attempt {
                method: "DELETE",
                bucket: Arc::clone(&bucket),
                key: object.key.clone(),
                condition: WriteCondition {
                    if_match: object.e_tag.map(ETagCondition::ETag),
                    if_none_match: None,
                },
                sent: None,
                access_key: access_key.clone(),
            };
            match self.store.commit(attempt, Change::Delete).await {
                Ok(()) if quiet => {}
                Ok(()) => deleted.push(DeletedObject {
                    key: Some(object.key),
                    ..Default::default()
                }),
                Err(error) => errors.push(Error {
                    key: Some(object.key),
                    code: Some(error.code().as_str().to_owned()),
                    message: error.message().map(str::to_owned),
                    version_id: None,
                }),
            }
        }
        let output = DeleteObjectsOutput {
            deleted: Some(deleted),
            errors: Some(errors),
            request_charged: None,
        };
        Ok(S3Response::new(output))
    }

    pub(super) async fn copy(&self, mut req: S3Request<CopyObjectInput>) -> Answer<CopyObjectOutput> {
        let CopySource::Bucket {
            bucket: from_bucket,
            key: from_key,
            ..
        } = &req.input.copy_source
        else {
            return Err(s3_error!(
                NotImplemented,
                "copies come from a bucket of this endpoint"
            ));
        };
        let source = self.store.bucket(from_bucket)?;
        let condition = ReadCondition {
            if_match: req.input.copy_source_if_match.take(),
            if_none_match: req.input.copy_source_if_none_match.take(),
            modified_since: req.input.copy_source_if_modified_since.take(),
            unmodified_since: req.input.copy_source_if_unmodified_since.take(),
        };
        let (temp, file, found) = self.clone_object(&source, from_key, &condition).await?;
        let replace = req
            .input
            .metadata_directive
            .as_ref()
            .is_some_and(|d| d.as_str() == MetadataDirective::REPLACE);
        let mut meta = ObjectMeta {
            key: req.input.key.clone(),
            modified_micros: now_micros(),
            parts: None,
            ..(*found).clone()
        };
        // A fence belongs to the place where it stands, not to the bytes.
        meta.fence = meta.fence.filter(|_| FenceView::is_pointer(&meta.key));
        if replace {
            meta.headers = kept_headers!(req.input);
        }
        let attempt = Attempt {
            method: "PUT",
            bucket: self.store.bucket(&req.input.bucket)?,
            key: req.input.key.clone(),
            condition: WriteCondition::default(),
            sent: meta.fence.clone(),
            access_key: signer(&req),
        };
        let result = CopyObjectResult {
            e_tag: Some(meta.e_tag()),
            last_modified: Some(meta.last_modified()),
            ..Default::default()
        };
        let change = seal_object(file, temp, meta).await?;
        self.store.commit(attempt, change).await?;
        Ok(S3Response::new(CopyObjectOutput {
            copy_object_result: Some(result),
            ..Default::default()
        }))
    }

    /// The bytes of an object in a new file. Under the source's lock, so that bytes and metadata belong together.
    async fn clone_object(
        &self,
        bucket: &Arc<Bucket>,
        key: &str,
        condition: &ReadCondition,
    ) -> S3Result<(TempFile, File, Arc<ObjectMeta>)> {
        let guard = self.store.key_locks.lock(&bucket.name, key).await;
        let meta = bucket.find(key).await?;
        condition.check(&meta)?;
        let (store, path, size) = (Arc::clone(&self.store), bucket.path_of(key), meta.size);
        let step = tokio::task::spawn_blocking(move || {
            let _guard = guard;
            let (temp, mut file) = store.directory.temp_file()?;
            let copied = io::copy(&mut File::open(path)?.take(size), &mut file)?;
            tracing::debug!(bytes = signed(copied), "object copied");
            Ok((temp, file))
        });
        let (temp, file) = step.await.map_err(S3Error::internal_error)?.map_err(disk)?;
        Ok((temp, file, meta))
    }
}
