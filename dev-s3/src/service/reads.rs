//! GET and HEAD.

use std::{ops, sync::Arc};

use s3s::{S3Response, S3Result, dto::*, s3_error};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;

use super::{Answer, Service};
use crate::{
    checksums::answer_sums,
    conditions::ReadCondition,
    meta::{ObjectMeta, signed},
    receive::disk,
};

/// Bodies leave in pieces of this size.
const CHUNK_BYTES: usize = 128 * 1024;

/// The fields that GET and HEAD answer alike.
macro_rules! describe {
    ($output:ident, $meta:expr, $range:expr, $sums:expr) => {
        $output.accept_ranges = Some("bytes".to_owned());
        $output.e_tag = Some($meta.e_tag());
        $output.last_modified = Some($meta.last_modified());
        $output.content_length = Some(signed($range.end - $range.start));
        $output.content_type = $meta.headers.content_type.clone();
        $output.content_encoding = $meta.headers.content_encoding.clone();
        $output.content_language = $meta.headers.content_language.clone();
        $output.content_disposition = $meta.headers.content_disposition.clone();
        $output.cache_control = $meta.headers.cache_control.clone();
        $output.metadata = user_metadata($meta);
        if $sums {
            answer_sums!($output, $meta.checksums);
            $output.checksum_type = $meta.checksums.kind.clone().map(ChecksumType::from);
        }
    };
}

impl Service {
    pub(super) async fn get(&self, input: GetObjectInput) -> Answer<GetObjectOutput> {
        refuse_versions(input.version_id.as_deref(), input.part_number)?;
        let condition = ReadCondition {
            if_match: input.if_match,
            if_none_match: input.if_none_match,
            modified_since: input.if_modified_since,
            unmodified_since: input.if_unmodified_since,
        };
        // The file is opened under the key's lock, so that it is the one which the index describes.
        let bucket = self.store.bucket(&input.bucket)?;
        let guard = self.store.key_locks.lock(&bucket.name, &input.key).await;
        let meta = bucket.find(&input.key).await?;
        condition.check(&meta)?;
        let range = span(&meta, input.range)?;
        let mut file = tokio::fs::File::open(bucket.path_of(&input.key))
            .await
            .map_err(disk)?;
        drop(guard);
        file.seek(std::io::SeekFrom::Start(range.start))
            .await
            .map_err(disk)?;
        let stream = ReaderStream::with_capacity(file.take(range.end - range.start), CHUNK_BYTES);
        let mut output = GetObjectOutput {
            body: Some(StreamingBlob::wrap(stream)),
            ..Default::default()
        };
        let whole = input.range.is_none();
        describe!(output, &meta, range, whole && input.checksum_mode.is_some());
        output.content_range = (!whole).then(|| content_range(&range, meta.size));
        Ok(S3Response::new(output))
    }

    pub(super) async fn head(&self, input: HeadObjectInput) -> Answer<HeadObjectOutput> {
        refuse_versions(input.version_id.as_deref(), input.part_number)?;
        let meta = self.store.bucket(&input.bucket)?.find(&input.key).await?;
        let condition = ReadCondition {
            if_match: input.if_match,
            if_none_match: input.if_none_match,
            modified_since: input.if_modified_since,
            unmodified_since: input.if_unmodified_since,
        };
        condition.check(&meta)?;
        let range = span(&meta, input.range)?;
        let mut output = HeadObjectOutput::default();
        let whole = input.range.is_none();
        describe!(output, &meta, range, whole && input.checksum_mode.is_some());
        output.content_range = (!whole).then(|| content_range(&range, meta.size));
        Ok(S3Response::new(output))
    }
}

/// Versions and parts of finished objects are not kept apart here.
fn refuse_versions(version: Option<&str>, part: Option<i32>) -> S3Result<()> {
    match (version, part) {
        (Some(_), _) => Err(s3_error!(NotImplemented, "this endpoint keeps no versions")),
        (None, Some(_)) => Err(s3_error!(
            NotImplemented,
            "this endpoint does not read by part number"
        )),
        (None, None) => Ok(()),
    }
}

fn span(meta: &Arc<ObjectMeta>, range: Option<Range>) -> S3Result<ops::Range<u64>> {
    Ok(range
        .map(|range| range.check(meta.size))
        .transpose()?
        .unwrap_or(0..meta.size))
}

fn content_range(range: &ops::Range<u64>, size: u64) -> String {
    format!("bytes {}-{}/{size}", range.start, range.end.saturating_sub(1))
}

fn user_metadata(meta: &ObjectMeta) -> Option<Metadata> {
    let user = &meta.headers.user;
    (!user.is_empty()).then(|| user.iter().map(|(k, v)| (k.clone(), v.clone())).collect())
}
