//! Conditional requests as S3 judges them. Pure: what stands there, what was asked, and the answer.

use s3s::{
    S3Error, S3Result,
    dto::{ETag, ETagCondition, Timestamp},
    s3_error,
};
use time::OffsetDateTime;

use crate::meta::ObjectMeta;

/// The condition of a write.
#[derive(Clone, Debug, Default)]
pub(crate) struct WriteCondition {
    pub(crate) if_match: Option<ETagCondition>,
    pub(crate) if_none_match: Option<ETagCondition>,
}

impl WriteCondition {
    /// Whether a PUT or Complete may replace `current`. AWS answers 404, not 412, to If-Match on a missing key.
    pub(crate) fn check_put(&self, current: Option<&ObjectMeta>) -> S3Result<()> {
        match (&self.if_none_match, current) {
            (Some(ETagCondition::Any), Some(_)) => return Err(failed("If-None-Match")),
            (Some(ETagCondition::ETag(_)), _) => {
                return Err(s3_error!(NotImplemented, "If-None-Match on a write takes only *"));
            }
            _ => {}
        }
        match (&self.if_match, current) {
            (Some(_), None) => Err(s3_error!(NoSuchKey)),
            (Some(condition), Some(current)) if !matches(condition, current) => Err(failed("If-Match")),
            _ => Ok(()),
        }
    }

    /// Whether a DELETE may remove `current`. Deleting what is not there succeeds unless it had to match.
    pub(crate) fn check_delete(&self, current: Option<&ObjectMeta>) -> S3Result<()> {
        match (&self.if_match, current) {
            (Some(_), None) => Err(failed("If-Match")),
            (Some(condition), Some(current)) if !matches(condition, current) => Err(failed("If-Match")),
            _ => Ok(()),
        }
    }
}

/// The conditions of a GET, a HEAD, or the source of a copy.
#[derive(Debug, Default)]
pub(crate) struct ReadCondition {
    pub(crate) if_match: Option<ETagCondition>,
    pub(crate) if_none_match: Option<ETagCondition>,
    pub(crate) modified_since: Option<Timestamp>,
    pub(crate) unmodified_since: Option<Timestamp>,
}

impl ReadCondition {
    /// ETags win over dates, as RFC 9110 section 13.2.2 orders them.
    pub(crate) fn check(&self, current: &ObjectMeta) -> S3Result<()> {
        let modified = seconds(current.last_modified());
        match (&self.if_match, &self.unmodified_since) {
            (Some(condition), _) if !matches(condition, current) => return Err(failed("If-Match")),
            (None, Some(time)) if modified > seconds(time.clone()) => {
                return Err(failed("If-Unmodified-Since"));
            }
            _ => {}
        }
        match (&self.if_none_match, &self.modified_since) {
            (Some(condition), _) if matches(condition, current) => Err(not_modified(current)),
            (None, Some(time)) if modified <= seconds(time.clone()) => Err(not_modified(current)),
            _ => Ok(()),
        }
    }
}

fn matches(condition: &ETagCondition, current: &ObjectMeta) -> bool {
    match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(etag) => etag.value() == current.etag,
    }
}

fn failed(condition: &'static str) -> S3Error {
    s3_error!(
        PreconditionFailed,
        "at least one of the preconditions you specified did not hold: {condition}"
    )
}

fn not_modified(current: &ObjectMeta) -> S3Error {
    let mut error = s3_error!(NotModified);
    if let Ok(etag) = ETag::Strong(current.etag.clone()).to_http_header() {
        error.set_headers([(hyper::header::ETAG, etag)].into_iter().collect());
    }
    error
}

/// HTTP dates have whole seconds.
fn seconds(time: Timestamp) -> i64 {
    OffsetDateTime::from(time).unix_timestamp()
}

/// How a condition stands in the access log.
pub(crate) fn text(condition: Option<&ETagCondition>) -> Option<String> {
    condition.map(|condition| match condition {
        ETagCondition::Any => "*".to_owned(),
        ETagCondition::ETag(etag) => etag.value().to_owned(),
    })
}
