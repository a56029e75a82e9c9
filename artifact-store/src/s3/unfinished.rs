//! Uploads in parts that nobody will complete: their parts are paid for, and no list of objects shows them.
//!
//! Absent on purpose: when to look. An upload that goes on is known by its age alone.

use aws_sdk_s3::types::MultipartUpload;
use types::UnixMillis;

use super::S3Store;
use crate::StoreError;

/// Where the next page of uploads starts.
type Markers = (Option<String>, Option<String>);

impl S3Store {
    /// Aborts those under `prefix` that were begun before `before`; how many. One that cannot be aborted keeps none of the others;
    /// the error is the first one's.
    pub(super) async fn abort_begun_before(
        &self,
        prefix: &str,
        before: UnixMillis,
    ) -> Result<usize, StoreError> {
        let (mut aborted, mut from, mut failed) = (0, Markers::default(), None);
        loop {
            let (uploads, next) = self.uploads_from(prefix, from).await?;
            for upload in uploads.iter().filter(|upload| is_older(upload, before)) {
                match self.abort_listed(upload).await {
                    Ok(was_there) => aborted += usize::from(was_there),
                    Err(error) => failed = failed.or(Some(error)),
                }
            }
            match next {
                Some(next) => from = next,
                None => return failed.map_or(Ok(aborted), Err),
            }
        }
    }

    async fn uploads_from(
        &self,
        prefix: &str,
        (key, id): Markers,
    ) -> Result<(Vec<MultipartUpload>, Option<Markers>), StoreError> {
        let call = self
            .client
            .list_multipart_uploads()
            .bucket(&self.bucket)
            .prefix(prefix)
            .set_key_marker(key)
            .set_upload_id_marker(id);
        let page = self
            .call(call.send())
            .await
            .map_err(|f| f.into_error(&self.name, "list uploads of", prefix))?;
        let more = page.is_truncated() == Some(true) && page.next_key_marker.is_some();
        let next = (page.next_key_marker, page.next_upload_id_marker);
        Ok((page.uploads.unwrap_or_default(), more.then_some(next)))
    }

    /// Whether there was anything left to abort.
    async fn abort_listed(&self, upload: &MultipartUpload) -> Result<bool, StoreError> {
        let (Some(key), Some(id)) = (upload.key(), upload.upload_id()) else {
            return Ok(false);
        };
        let call = self
            .client
            .abort_multipart_upload()
            .bucket(&self.bucket)
            .key(key)
            .upload_id(id);
        match self.call(call.send()).await {
            Ok(_) => Ok(true),
            // Completed, or aborted by another agent, since it was listed.
            Err(failure) if failure.code() == Some("NoSuchUpload") => Ok(false),
            Err(failure) => Err(failure.into_error(&self.name, "abort upload of", key)),
        }
    }
}

/// A store that does not say when an upload was begun leaves its age open.
fn is_older(upload: &MultipartUpload, before: UnixMillis) -> bool {
    let begun = upload.initiated().and_then(|at| at.to_millis().ok());
    begun.is_some_and(|begun| begun < i64::try_from(before.0).unwrap_or(i64::MAX))
}
