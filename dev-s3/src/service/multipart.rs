//! Uploads in parts.

use std::sync::Arc;

use s3s::{S3Error, S3Request, S3Response, S3Result, dto::*, s3_error};

use super::{
    Answer, Service, signer,
    writes::{announced, kept_headers, seal_object},
};
use crate::{
    checksums::{Claims, answer_sums, claimed_sums},
    commit::Attempt,
    conditions::WriteCondition,
    meta::{Headers, META_VERSION, ObjectMeta, now_micros, signed, timestamp},
    receive::{disk, receive},
    uploads::{Assembled, Upload},
};

/// S3's largest part number.
const PART_NUMBER_MAX: i32 = 10_000;

/// S3's largest page of parts or uploads.
const PAGE_MAX: i32 = 1000;

impl Service {
    pub(super) async fn begin_upload(
        &self,
        mut input: CreateMultipartUploadInput,
    ) -> Answer<CreateMultipartUploadOutput> {
        self.store.bucket(&input.bucket)?;
        let upload = Upload {
            id: String::new(),
            bucket: input.bucket.clone(),
            key: input.key.clone(),
            initiated_micros: 0,
            headers: kept_headers!(input),
            algorithm: input
                .checksum_algorithm
                .as_ref()
                .map(|name| name.as_str().to_lowercase()),
            kind: checksum_kind(&input),
        };
        let upload = self
            .blocking(move |store| store.directory.create_upload(upload).map_err(disk))
            .await?;
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(upload.id),
            checksum_algorithm: input.checksum_algorithm,
            checksum_type: upload.kind.map(ChecksumType::from),
            ..Default::default()
        }))
    }

    pub(super) async fn put_part(&self, mut req: S3Request<UploadPartInput>) -> Answer<UploadPartOutput> {
        let input = &mut req.input;
        let number = input.part_number;
        if !(1..=PART_NUMBER_MAX).contains(&number) {
            return Err(s3_error!(
                InvalidArgument,
                "part number {number} is not within 1 and {PART_NUMBER_MAX}"
            ));
        }
        let upload = self
            .store
            .directory
            .upload(&input.bucket, &input.key, &input.upload_id)?;
        let mut wanted = announced(&req.headers, input.checksum_algorithm.as_ref());
        wanted.extend(upload.algorithm.clone());
        let claims = Claims {
            md5: input.content_md5.take(),
            sums: claimed_sums!(input),
            wanted,
            trailers: req.trailing_headers.take(),
        };
        let received = receive(
            &self.store.directory,
            input.body.take(),
            input.content_length,
            claims,
        )
        .await?;
        let guard = self.store.upload_locks.lock("", &upload.id).await;
        let part = self.blocking(move |store| {
            let _guard = guard;
            // Completed or aborted while the part arrived: its directory is gone.
            store.directory.upload(&upload.bucket, &upload.key, &upload.id)?;
            store.directory.add_part(&upload, number, received).map_err(disk)
        });
        let part = part.await?;
        let mut output = UploadPartOutput {
            e_tag: Some(ETag::Strong(part.etag)),
            ..Default::default()
        };
        answer_sums!(output, part.checksums);
        Ok(S3Response::new(output))
    }

    pub(super) async fn complete_upload(
        &self,
        mut req: S3Request<CompleteMultipartUploadInput>,
    ) -> Answer<CompleteMultipartUploadOutput> {
        let access_key = signer(&req);
        let input = &mut req.input;
        let bucket = self.store.bucket(&input.bucket)?;
        let upload = self
            .store
            .directory
            .upload(&input.bucket, &input.key, &input.upload_id)?;
        let attempt = Attempt {
            method: "POST",
            bucket,
            key: input.key.clone(),
            condition: WriteCondition {
                if_match: input.if_match.take(),
                if_none_match: input.if_none_match.take(),
            },
            sent: None,
            access_key,
        };
        let _guard = self.store.upload_locks.lock("", &upload.id).await;
        let (meta, assembled) = match self.assemble(&upload, input).await {
            Ok(assembled) => assembled,
            Err(error) => return Err(self.store.refuse(attempt, error).await),
        };
        let mut output = CompleteMultipartUploadOutput {
            bucket: Some(upload.bucket.clone()),
            key: Some(upload.key.clone()),
            location: Some(format!("/{}/{}", upload.bucket, upload.key)),
            e_tag: Some(meta.e_tag()),
            checksum_type: meta.checksums.kind.clone().map(ChecksumType::from),
            ..Default::default()
        };
        answer_sums!(output, meta.checksums);
        let change = seal_object(assembled.file, assembled.temp, meta).await?;
        self.store.commit(attempt, change).await?;
        self.blocking(move |store| store.directory.remove_upload(&upload).map_err(disk))
            .await?;
        Ok(S3Response::new(output))
    }

    /// The object that Complete asks for, checked but not visible. `assembled.checksums` moves into the metadata.
    async fn assemble(
        &self,
        upload: &Upload,
        input: &mut CompleteMultipartUploadInput,
    ) -> S3Result<(ObjectMeta, Assembled)> {
        let parts = input
            .multipart_upload
            .take()
            .and_then(|upload| upload.parts)
            .unwrap_or_default();
        let (claimed, size) = (claimed_sums!(input), input.mpu_object_size);
        let for_parts = upload.clone();
        let count = i32::try_from(parts.len()).ok();
        let mut assembled = self
            .blocking(move |store| store.directory.assemble(&for_parts, parts))
            .await?;
        claimed.check(&assembled.checksums)?;
        if let Some(size) = size
            && size != signed(assembled.size)
        {
            return Err(s3_error!(
                InvalidRequest,
                "the parts make {} bytes, not {size}",
                assembled.size
            ));
        }
        let meta = ObjectMeta {
            version: META_VERSION,
            key: upload.key.clone(),
            size: assembled.size,
            etag: std::mem::take(&mut assembled.etag),
            modified_micros: now_micros(),
            headers: upload.headers.clone(),
            checksums: std::mem::take(&mut assembled.checksums),
            parts: count,
            fence: None,
        };
        Ok((meta, assembled))
    }

    pub(super) async fn abort_upload(
        &self,
        input: AbortMultipartUploadInput,
    ) -> Answer<AbortMultipartUploadOutput> {
        let upload = self
            .store
            .directory
            .upload(&input.bucket, &input.key, &input.upload_id)?;
        let guard = self.store.upload_locks.lock("", &upload.id).await;
        let remove = self.blocking(move |store| {
            let _guard = guard;
            store.directory.upload(&upload.bucket, &upload.key, &upload.id)?;
            store.directory.remove_upload(&upload).map_err(disk)
        });
        remove.await?;
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }

    pub(super) fn parts_of_upload(&self, input: ListPartsInput) -> Answer<ListPartsOutput> {
        let upload = self
            .store
            .directory
            .upload(&input.bucket, &input.key, &input.upload_id)?;
        let (after, max) = (input.part_number_marker.unwrap_or(0), page_size(input.max_parts));
        let all = self.store.directory.parts(&upload).map_err(disk)?;
        let rest: Vec<_> = all.into_iter().filter(|part| part.number > after).collect();
        let more = rest.len() > max;
        let parts: Vec<Part> = rest.into_iter().take(max).map(describe_part).collect();
        Ok(S3Response::new(ListPartsOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(input.upload_id),
            is_truncated: Some(more),
            max_parts: i32::try_from(max).ok(),
            part_number_marker: Some(after),
            next_part_number_marker: parts.last().and_then(|part| part.part_number),
            parts: Some(parts),
            checksum_algorithm: upload
                .algorithm
                .map(|name| ChecksumAlgorithm::from(name.to_uppercase())),
            checksum_type: upload.kind.map(ChecksumType::from),
            ..Default::default()
        }))
    }

    pub(super) fn uploads_of_bucket(
        &self,
        input: ListMultipartUploadsInput,
    ) -> Answer<ListMultipartUploadsOutput> {
        self.store.bucket(&input.bucket)?;
        if input.delimiter.is_some() {
            return Err(s3_error!(
                NotImplemented,
                "uploads are listed without a delimiter"
            ));
        }
        let prefix = input.prefix.clone().unwrap_or_default();
        let after = (
            input.key_marker.clone().unwrap_or_default(),
            input.upload_id_marker.clone(),
        );
        let max = page_size(input.max_uploads);
        let all = self.store.directory.list_uploads(&input.bucket).map_err(disk)?;
        let rest: Vec<_> = all
            .into_iter()
            .filter(|u| u.key.starts_with(&prefix) && is_behind(u, &after))
            .collect();
        let more = rest.len() > max;
        let uploads: Vec<_> = rest.into_iter().take(max).map(describe_upload).collect();
        let last = uploads.last().filter(|_| more);
        Ok(S3Response::new(ListMultipartUploadsOutput {
            bucket: Some(input.bucket),
            prefix: input.prefix,
            key_marker: input.key_marker,
            upload_id_marker: input.upload_id_marker,
            max_uploads: i32::try_from(max).ok(),
            is_truncated: Some(more),
            next_key_marker: last.and_then(|upload| upload.key.clone()),
            next_upload_id_marker: last.and_then(|upload| upload.upload_id.clone()),
            uploads: Some(uploads),
            ..Default::default()
        }))
    }

    /// Runs file work off the async threads, to its end even when the client goes away.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&crate::store::Store) -> S3Result<T> + Send + 'static,
    ) -> S3Result<T> {
        let store = Arc::clone(&self.store);
        tokio::task::spawn_blocking(move || work(&store))
            .await
            .map_err(S3Error::internal_error)?
    }
}

/// What S3 takes when the client names an algorithm but no type: CRC64NVME is whole, the rest are composed.
fn checksum_kind(input: &CreateMultipartUploadInput) -> Option<String> {
    let algorithm = input.checksum_algorithm.as_ref()?.as_str();
    let by_default = if algorithm == ChecksumAlgorithm::CRC64NVME {
        "FULL_OBJECT"
    } else {
        "COMPOSITE"
    };
    Some(
        input
            .checksum_type
            .as_ref()
            .map_or(by_default, |kind| kind.as_str())
            .to_owned(),
    )
}

fn is_behind(upload: &Upload, (key, id): &(String, Option<String>)) -> bool {
    upload.key > *key || (upload.key == *key && id.as_ref().is_some_and(|id| upload.id > *id))
}

fn page_size(asked: Option<i32>) -> usize {
    usize::try_from(asked.unwrap_or(PAGE_MAX).clamp(1, PAGE_MAX)).unwrap_or(1)
}

fn describe_part(part: crate::uploads::Part) -> Part {
    let mut answer = Part {
        part_number: Some(part.number),
        size: Some(signed(part.size)),
        e_tag: Some(ETag::Strong(part.etag)),
        last_modified: Some(timestamp(part.modified_micros)),
        ..Default::default()
    };
    answer_sums!(answer, part.checksums);
    answer
}

fn describe_upload(upload: Upload) -> MultipartUpload {
    MultipartUpload {
        key: Some(upload.key),
        upload_id: Some(upload.id),
        initiated: Some(timestamp(upload.initiated_micros)),
        checksum_algorithm: upload
            .algorithm
            .map(|name| ChecksumAlgorithm::from(name.to_uppercase())),
        checksum_type: upload.kind.map(ChecksumType::from),
        ..Default::default()
    }
}
