//! Checksums that come with bytes, in a header or behind the body, and are checked before the bytes are visible.

use s3s::{
    S3Result, TrailingHeaders,
    checksum::ChecksumHasher,
    crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Sha1, Sha256},
    s3_error,
};
use serde::{Deserialize, Serialize};

/// Base64 as S3 sends them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Checksums {
    pub(crate) crc32: Option<String>,
    pub(crate) crc32c: Option<String>,
    pub(crate) crc64nvme: Option<String>,
    pub(crate) sha1: Option<String>,
    pub(crate) sha256: Option<String>,
    /// `FULL_OBJECT` or `COMPOSITE`; none for a single part.
    pub(crate) kind: Option<String>,
}

/// Name (as in `x-amz-checksum-NAME`) beside the field.
type Named<'a> = [(&'static str, &'a Option<String>); 5];

impl Checksums {
    pub(crate) fn named(&self) -> Named<'_> {
        [
            ("crc32", &self.crc32),
            ("crc32c", &self.crc32c),
            ("crc64nvme", &self.crc64nvme),
            ("sha1", &self.sha1),
            ("sha256", &self.sha256),
        ]
    }

    pub(crate) fn set(&mut self, name: &str, value: String) {
        let field = match name {
            "crc32" => &mut self.crc32,
            "crc32c" => &mut self.crc32c,
            "crc64nvme" => &mut self.crc64nvme,
            "sha1" => &mut self.sha1,
            "sha256" => &mut self.sha256,
            _ => return,
        };
        *field = Some(value);
    }

    /// Names a mismatch; what `self` does not claim is not compared.
    pub(crate) fn check(&self, actual: &Checksums) -> S3Result<()> {
        for ((name, claimed), (_, actual)) in self.named().into_iter().zip(actual.named()) {
            if let Some(claimed) = claimed
                && Some(claimed) != actual.as_ref()
            {
                let actual = actual.as_deref().unwrap_or("unknown");
                return Err(s3_error!(
                    BadDigest,
                    "the {name} you sent is {claimed}, the {name} of the body is {actual}"
                ));
            }
        }
        Ok(())
    }
}

/// What a request claims about its body.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    /// Content-MD5, base64.
    pub(crate) md5: Option<String>,
    pub(crate) sums: Checksums,
    /// Algorithms to compute though no value came in a header: named by `x-amz-trailer` or the upload.
    pub(crate) wanted: Vec<String>,
    pub(crate) trailers: Option<TrailingHeaders>,
}

impl Claims {
    /// A hasher for every algorithm that is claimed or wanted.
    pub(crate) fn hasher(&self) -> ChecksumHasher {
        let claimed = self
            .sums
            .named()
            .into_iter()
            .filter(|(_, value)| value.is_some())
            .map(|(name, _)| name);
        hasher_for(claimed.chain(self.wanted.iter().map(String::as_str)))
    }

    /// Adds what came behind the body, now that it was read.
    pub(crate) fn take_trailers(&mut self) {
        let Some(headers) = self.trailers.as_ref().and_then(TrailingHeaders::take) else {
            return;
        };
        for (name, value) in &headers {
            if let (Some(name), Ok(value)) = (name.as_str().strip_prefix("x-amz-checksum-"), value.to_str()) {
                self.sums.set(name, value.to_owned());
            }
        }
    }
}

/// A hasher for the named algorithms; unknown names are ignored, as their claims are then refused.
pub(crate) fn hasher_for<'a>(names: impl Iterator<Item = &'a str>) -> ChecksumHasher {
    let mut hasher = ChecksumHasher::default();
    for name in names {
        match name {
            "crc32" => hasher.crc32 = Some(Crc32::new()),
            "crc32c" => hasher.crc32c = Some(Crc32c::new()),
            "crc64nvme" => hasher.crc64nvme = Some(Crc64Nvme::new()),
            "sha1" => hasher.sha1 = Some(Sha1::new()),
            "sha256" => hasher.sha256 = Some(Sha256::new()),
            _ => {}
        }
    }
    hasher
}

pub(crate) fn finish(hasher: ChecksumHasher) -> Checksums {
    let sums = hasher.finalize();
    Checksums {
        crc32: sums.checksum_crc32,
        crc32c: sums.checksum_crc32c,
        crc64nvme: sums.checksum_crc64nvme,
        sha1: sums.checksum_sha1,
        sha256: sums.checksum_sha256,
        kind: None,
    }
}

/// Moves the five checksum fields of an s3s input into [`Checksums`].
macro_rules! claimed_sums {
    ($input:expr) => {
        $crate::checksums::Checksums {
            crc32: $input.checksum_crc32.take(),
            crc32c: $input.checksum_crc32c.take(),
            crc64nvme: $input.checksum_crc64nvme.take(),
            sha1: $input.checksum_sha1.take(),
            sha256: $input.checksum_sha256.take(),
            kind: None,
        }
    };
}

/// Writes [`Checksums`] into the five fields of an s3s output.
macro_rules! answer_sums {
    ($output:expr, $sums:expr) => {
        $output.checksum_crc32 = $sums.crc32.clone();
        $output.checksum_crc32c = $sums.crc32c.clone();
        $output.checksum_crc64nvme = $sums.crc64nvme.clone();
        $output.checksum_sha1 = $sums.sha1.clone();
        $output.checksum_sha256 = $sums.sha256.clone();
    };
}
pub(crate) use {answer_sums, claimed_sums};
