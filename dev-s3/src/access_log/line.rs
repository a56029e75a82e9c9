//! One decision.

use serde::{Deserialize, Serialize};
use types::Epoch;

use crate::{fence_view::FenceView, meta::ObjectMeta};

/// What was asked, what stood there when it was judged, and the verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessLine {
    /// From 1, without gaps, going on after a restart. The lines of one key are in the order of its commits.
    pub seq: u64,
    /// Wall clock of this machine when the line was written, in microseconds since 1970.
    pub unix_micros: u64,
    /// `PUT`, `POST` (completes a multipart upload, or deletes many) or `DELETE`.
    pub method: String,
    /// The bucket of the request.
    pub bucket: String,
    /// The key of the request.
    pub key: String,
    /// The ETag that had to match, without quotes; `*` for any object.
    pub if_match: Option<String>,
    /// `*`: there had to be no object.
    pub if_none_match: Option<String>,
    /// The fencing fields of the body that was sent, where key and body are those of a pointer.
    pub sent: Option<FenceView>,
    /// What stood there when the condition was judged; none when the key was free.
    pub current: Option<Current>,
    /// The HTTP status of the answer.
    pub status: u16,
    /// The S3 error code of a refusal.
    pub error: Option<String>,
    /// The ETag of the object that the write left behind; none for a deletion or a refusal.
    pub etag: Option<String>,
    /// Who signed the request; empty on a recovered line.
    pub access_key: String,
    /// The process was killed between the change and its line; condition, method and signer are not known any more.
    #[serde(default)]
    pub recovered: bool,
}

/// The object as it was when a write to it was judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Current {
    /// Its ETag, without quotes.
    pub etag: String,
    /// Its fencing fields, where it is a pointer.
    pub fence: Option<FenceView>,
}

impl AccessLine {
    /// Whether the write took effect.
    pub fn accepted(&self) -> bool {
        (200..300).contains(&self.status)
    }
    /// The epoch that the writer showed.
    pub fn sent_epoch(&self) -> Option<Epoch> {
        self.sent.as_ref().map(|fence| fence.epoch)
    }
    /// The epoch that the pointer had when the write was judged.
    pub fn current_epoch(&self) -> Option<Epoch> {
        self.current.as_ref()?.fence.as_ref().map(|fence| fence.epoch)
    }

    pub(super) fn recovered(
        method: &str,
        status: u16,
        bucket: &str,
        key: &str,
        meta: Option<&ObjectMeta>,
    ) -> Self {
        Self {
            seq: 0,
            unix_micros: 0,
            method: method.to_owned(),
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            if_match: None,
            if_none_match: None,
            sent: meta.and_then(|meta| meta.fence.clone()),
            current: None,
            status,
            error: None,
            etag: meta.map(|meta| meta.etag.clone()),
            access_key: String::new(),
            recovered: true,
        }
    }
}

impl Current {
    pub(crate) fn of(meta: &ObjectMeta) -> Self {
        Self {
            etag: meta.etag.clone(),
            fence: meta.fence.clone(),
        }
    }
}
