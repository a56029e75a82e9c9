//! What is known of an object beside its bytes.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use s3s::dto::{ETag, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{checksums::Checksums, fence_view::FenceView};

/// Stands behind the body in an object's file. The version changes when the meaning of a field does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ObjectMeta {
    pub(crate) version: u32,
    pub(crate) key: String,
    pub(crate) size: u64,
    pub(crate) etag: String,
    pub(crate) modified_micros: u64,
    pub(crate) headers: Headers,
    pub(crate) checksums: Checksums,
    /// How many parts it was uploaded in, if it was.
    pub(crate) parts: Option<i32>,
    pub(crate) fence: Option<FenceView>,
}

pub(crate) const META_VERSION: u32 = 1;

/// Headers that a client set and gets back.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Headers {
    pub(crate) content_type: Option<String>,
    pub(crate) content_encoding: Option<String>,
    pub(crate) content_language: Option<String>,
    pub(crate) content_disposition: Option<String>,
    pub(crate) cache_control: Option<String>,
    pub(crate) user: BTreeMap<String, String>,
}

impl Headers {
    /// `aws-chunked` describes the transfer, not the object; S3 does not keep it either.
    pub(crate) fn without_transfer_encoding(mut self) -> Self {
        let keep = |value: String| {
            let rest: Vec<&str> = value
                .split(',')
                .map(str::trim)
                .filter(|v| !v.is_empty() && *v != "aws-chunked")
                .collect();
            (!rest.is_empty()).then(|| rest.join(","))
        };
        self.content_encoding = self.content_encoding.and_then(keep);
        self
    }
}

impl ObjectMeta {
    pub(crate) fn e_tag(&self) -> ETag {
        ETag::Strong(self.etag.clone())
    }
    pub(crate) fn last_modified(&self) -> Timestamp {
        timestamp(self.modified_micros)
    }
}

pub(crate) fn now_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

pub(crate) fn timestamp(micros: u64) -> Timestamp {
    (UNIX_EPOCH + Duration::from_micros(micros)).into()
}

/// S3's numbers are signed.
pub(crate) fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
