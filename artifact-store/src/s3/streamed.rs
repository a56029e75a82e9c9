//! One PUT whose bytes leave as they come. The store commits after the last one; until then nothing is decided.

use std::{
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll},
};

use aws_sdk_s3::primitives::ByteStream as SdkStream;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::{S3Store, headers};
use crate::{ByteStream, ETag, ObjectKey, PutError, Upload};

impl S3Store {
    /// Writes an object in one PUT without holding its bytes, however large it is. The store compares them with the
    /// announced digest, so a source that gives other bytes ends in a refusal. The deadline is that of a part.
    pub async fn put_streamed(&self, key: &ObjectKey, upload: Upload) -> Result<ETag, PutError> {
        let Upload {
            body,
            size,
            digest,
            condition,
            ..
        } = upload;
        let (if_match, if_none_match) = headers(condition.as_ref());
        let body = Outgoing {
            stream: Mutex::new(body),
            left: size.0,
        };
        let call = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(key.as_str())
            .set_if_match(if_match)
            .set_if_none_match(if_none_match)
            .checksum_sha256(STANDARD.encode(digest.as_bytes()))
            .content_length(i64::try_from(size.0).unwrap_or(i64::MAX))
            .body(SdkStream::from_body_1_x(body))
            .customize()
            .disable_payload_signing();
        let sent = self.call_for(self.deadlines.part, call.send()).await;
        let output = sent.map_err(|failure| failure.into_put_error(&self.name, key, condition.as_ref()))?;
        self.stored(key, output.e_tag())
    }
}

/// A stream as a body of known length. The mutex makes it `Sync`, which the SDK asks for; it is never contended.
struct Outgoing {
    stream: Mutex<ByteStream>,
    left: u64,
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let stream = self.stream.get_mut().unwrap_or_else(PoisonError::into_inner);
        let polled = stream.as_mut().poll_next(cx);
        if let Poll::Ready(Some(Ok(chunk))) = &polled {
            self.left = self.left.saturating_sub(chunk.len() as u64);
        }
        polled.map(|next| next.map(|chunk| chunk.map(Frame::data)))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
