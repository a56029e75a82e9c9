//! Takes a body off the network into a file that nobody sees.

use std::{fs::File, io, time::Duration};

use futures::StreamExt as _;
use s3s::{
    S3Error, S3ErrorCode, S3Result,
    crypto::{Checksum as _, Md5},
    dto::StreamingBlob,
    s3_error,
};
use tokio::{io::AsyncWriteExt as _, time::timeout};

use crate::{
    checksums::{self, Checksums, Claims},
    directory::{Directory, TempFile},
    fence_view::POINTER_BODY_MAX,
};

/// A client that sends nothing for this long is given up. Long, because tests pause writers in the middle of a body.
const IDLE_MAX: Duration = Duration::from_secs(120);

/// Writes go to the disk in pieces of this size.
const BUFFER_BYTES: usize = 256 * 1024;

/// A whole body whose checksums matched.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) temp: TempFile,
    pub(crate) file: File,
    pub(crate) size: u64,
    pub(crate) md5: [u8; 16],
    pub(crate) checksums: Checksums,
    /// The body itself while it is small enough to be a pointer.
    pub(crate) small: Option<Vec<u8>>,
}

/// Reads the whole body, then compares it with every claim. On any error the file is gone.
pub(crate) async fn receive(
    directory: &Directory,
    body: Option<StreamingBlob>,
    length: Option<i64>,
    mut claims: Claims,
) -> S3Result<Received> {
    let (temp, file) = directory.temp_file().map_err(disk)?;
    let mut writer = tokio::io::BufWriter::with_capacity(BUFFER_BYTES, tokio::fs::File::from_std(file));
    let (mut md5, mut hasher) = (Md5::new(), claims.hasher());
    let (mut size, mut small) = (0u64, Some(Vec::new()));
    if let Some(mut body) = body {
        while let Some(chunk) = next(&mut body).await? {
            md5.update(&chunk);
            hasher.update(&chunk);
            size += chunk.len() as u64;
            keep_small(&mut small, &chunk);
            writer.write_all(&chunk).await.map_err(disk)?;
        }
    }
    writer.flush().await.map_err(disk)?;
    let file = writer.into_inner().into_std().await;
    claims.take_trailers();
    let received = Received {
        temp,
        file,
        size,
        md5: md5.finalize(),
        checksums: checksums::finish(hasher),
        small,
    };
    check(&received, length, &claims)?;
    Ok(received)
}

async fn next(body: &mut StreamingBlob) -> S3Result<Option<bytes::Bytes>> {
    match timeout(IDLE_MAX, body.next()).await {
        Err(_) => Err(s3_error!(
            RequestTimeout,
            "no byte of the body came for {} s",
            IDLE_MAX.as_secs()
        )),
        Ok(None) => Ok(None),
        Ok(Some(Ok(chunk))) => Ok(Some(chunk)),
        // A cut connection and a wrong chunk signature both end here; nothing was made visible.
        Ok(Some(Err(error))) => Err(S3Error::with_source(S3ErrorCode::IncompleteBody, error)),
    }
}

fn keep_small(small: &mut Option<Vec<u8>>, chunk: &[u8]) {
    if let Some(kept) = small {
        if kept.len() + chunk.len() > POINTER_BODY_MAX {
            *small = None;
        } else {
            kept.extend_from_slice(chunk);
        }
    }
}

fn check(received: &Received, length: Option<i64>, claims: &Claims) -> S3Result<()> {
    if let Some(length) = length
        && u64::try_from(length).ok() != Some(received.size)
    {
        return Err(s3_error!(
            IncompleteBody,
            "{length} bytes were announced, {} came",
            received.size
        ));
    }
    if let Some(claimed) = &claims.md5 {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let claimed = STANDARD.decode(claimed).map_err(|_| s3_error!(InvalidDigest))?;
        if claimed != received.md5 {
            return Err(s3_error!(
                BadDigest,
                "the Content-MD5 you sent is not that of the body"
            ));
        }
    }
    claims.sums.check(&received.checksums)
}

/// A disk that fails is the endpoint's fault, and the reason belongs in its log.
pub(crate) fn disk(error: io::Error) -> S3Error {
    S3Error::with_source(S3ErrorCode::InternalError, Box::new(error))
}
