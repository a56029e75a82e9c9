//! Lists of objects, in both of S3's dialects.

use std::{fmt::Write as _, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use s3s::{S3Response, S3Result, dto::*, s3_error};

use super::{Answer, Service};
use crate::{
    listing::Query,
    meta::{ObjectMeta, signed},
};

/// S3's largest page.
const PAGE_KEYS_MAX: i32 = 1000;

impl Service {
    pub(super) fn list_v1(&self, input: ListObjectsInput) -> Answer<ListObjectsOutput> {
        let bucket = self.store.bucket(&input.bucket)?;
        let max = page_size(input.max_keys)?;
        let page = bucket.page(&Query {
            prefix: input.prefix.as_deref().unwrap_or_default(),
            delimiter: input.delimiter.as_deref().unwrap_or_default(),
            after: input.marker.as_deref().unwrap_or_default(),
            max,
        });
        let encode = Encoder::of(input.encoding_type.as_ref());
        Ok(S3Response::new(ListObjectsOutput {
            name: Some(input.bucket),
            prefix: encode.opt(Some(input.prefix.unwrap_or_default())),
            marker: encode.opt(Some(input.marker.unwrap_or_default())),
            delimiter: encode.opt(input.delimiter),
            max_keys: i32::try_from(max).ok(),
            is_truncated: Some(page.next.is_some()),
            next_marker: encode.opt(page.next),
            contents: Some(page.objects.iter().map(|meta| encode.object(meta)).collect()),
            common_prefixes: Some(encode.prefixes(page.prefixes)),
            encoding_type: input.encoding_type,
            request_charged: None,
        }))
    }

    pub(super) fn list_v2(&self, input: ListObjectsV2Input) -> Answer<ListObjectsV2Output> {
        let bucket = self.store.bucket(&input.bucket)?;
        let max = page_size(input.max_keys)?;
        let token = input
            .continuation_token
            .as_deref()
            .map(decode_token)
            .transpose()?;
        let page = bucket.page(&Query {
            prefix: input.prefix.as_deref().unwrap_or_default(),
            delimiter: input.delimiter.as_deref().unwrap_or_default(),
            after: token
                .as_deref()
                .or(input.start_after.as_deref())
                .unwrap_or_default(),
            max,
        });
        let encode = Encoder::of(input.encoding_type.as_ref());
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: encode.opt(Some(input.prefix.unwrap_or_default())),
            delimiter: encode.opt(input.delimiter),
            start_after: encode.opt(input.start_after),
            max_keys: i32::try_from(max).ok(),
            key_count: i32::try_from(page.objects.len() + page.prefixes.len()).ok(),
            continuation_token: input.continuation_token,
            is_truncated: Some(page.next.is_some()),
            next_continuation_token: page.next.map(|key| URL_SAFE_NO_PAD.encode(key)),
            contents: Some(page.objects.iter().map(|meta| encode.object(meta)).collect()),
            common_prefixes: Some(encode.prefixes(page.prefixes)),
            encoding_type: input.encoding_type,
            request_charged: None,
        }))
    }
}

fn page_size(asked: Option<i32>) -> S3Result<usize> {
    let asked = asked.unwrap_or(PAGE_KEYS_MAX).min(PAGE_KEYS_MAX);
    usize::try_from(asked).map_err(|_| s3_error!(InvalidArgument, "max-keys {asked} is negative"))
}

fn decode_token(token: &str) -> S3Result<String> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok();
    let key = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    key.ok_or_else(|| {
        s3_error!(
            InvalidArgument,
            "the continuation token is not one of this endpoint"
        )
    })
}

/// Keys that XML cannot hold are sent percent-encoded to clients that ask for it.
struct Encoder {
    url: bool,
}

impl Encoder {
    fn of(encoding: Option<&EncodingType>) -> Self {
        Self {
            url: encoding.is_some_and(|e| e.as_str() == EncodingType::URL),
        }
    }

    fn text(&self, text: String) -> String {
        if !self.url {
            return text;
        }
        text.bytes().fold(String::new(), |mut out, byte| {
            if byte.is_ascii_alphanumeric() || b"-_.~/*".contains(&byte) {
                out.push(char::from(byte));
            } else {
                // Writing to a String cannot fail.
                let _ = write!(out, "%{byte:02X}");
            }
            out
        })
    }

    fn opt(&self, text: Option<String>) -> Option<String> {
        text.map(|text| self.text(text))
    }

    fn prefixes(&self, prefixes: Vec<String>) -> Vec<CommonPrefix> {
        prefixes
            .into_iter()
            .map(|prefix| CommonPrefix {
                prefix: Some(self.text(prefix)),
            })
            .collect()
    }

    fn object(&self, meta: &Arc<ObjectMeta>) -> Object {
        Object {
            key: Some(self.text(meta.key.clone())),
            size: Some(signed(meta.size)),
            e_tag: Some(meta.e_tag()),
            last_modified: Some(meta.last_modified()),
            ..Default::default()
        }
    }
}
