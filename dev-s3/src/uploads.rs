//! Multipart uploads that are not complete yet: a directory each, with its parts.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::PathBuf,
};

use s3s::{
    S3Result,
    crypto::{Checksum as _, Md5},
    dto::{CompletedPart, ETag},
    s3_error,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    checksums::{Checksums, claimed_sums, finish, hasher_for},
    directory::{Directory, TempFile, sync_dir},
    meta::{Headers, now_micros},
    object_file::{read_meta, seal},
    receive::{Received, disk},
};

/// S3's smallest part, the last one excepted.
const PART_BYTES_MIN: u64 = 5 * 1024 * 1024;

/// What CreateMultipartUpload was told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Upload {
    pub(crate) id: String,
    pub(crate) bucket: String,
    pub(crate) key: String,
    pub(crate) initiated_micros: u64,
    pub(crate) headers: Headers,
    /// Lower-case name of the checksum that every part carries.
    pub(crate) algorithm: Option<String>,
    /// `FULL_OBJECT` or `COMPOSITE`.
    pub(crate) kind: Option<String>,
}

/// Stands behind the bytes of a part.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) number: i32,
    pub(crate) size: u64,
    pub(crate) etag: String,
    pub(crate) modified_micros: u64,
    pub(crate) checksums: Checksums,
}

/// A whole object put together from parts.
#[derive(Debug)]
pub(crate) struct Assembled {
    pub(crate) temp: TempFile,
    pub(crate) file: File,
    pub(crate) size: u64,
    pub(crate) etag: String,
    pub(crate) checksums: Checksums,
}

impl Directory {
    /// Makes the upload durably.
    pub(crate) fn create_upload(&self, mut upload: Upload) -> io::Result<Upload> {
        upload.id = Uuid::now_v7().simple().to_string();
        upload.initiated_micros = now_micros();
        let path = self.uploads().join(&upload.id);
        fs::create_dir(&path)?;
        let (temp, mut file) = self.temp_file()?;
        file.write_all(&serde_json::to_vec(&upload)?)?;
        file.sync_all()?;
        temp.publish(&path.join("upload.json"))?;
        sync_dir(&self.uploads())?;
        Ok(upload)
    }

    /// The upload, if it is one of this key.
    pub(crate) fn upload(&self, bucket: &str, key: &str, id: &str) -> S3Result<Upload> {
        let missing = || s3_error!(NoSuchUpload, "there is no upload {id} of {key}");
        // The id becomes part of a path: nothing but a UUID of ours may.
        let id = Uuid::try_parse(id).map_err(|_| missing())?.simple().to_string();
        let text = fs::read(self.uploads().join(&id).join("upload.json")).map_err(|_| missing())?;
        let upload: Upload = serde_json::from_slice(&text).map_err(|e| disk(e.into()))?;
        if upload.bucket == bucket && upload.key == key {
            Ok(upload)
        } else {
            Err(missing())
        }
    }

    /// Every upload of a bucket, by key and id.
    pub(crate) fn list_uploads(&self, bucket: &str) -> io::Result<Vec<Upload>> {
        let mut uploads = Vec::new();
        for entry in fs::read_dir(self.uploads())? {
            // A directory without its file is one that is being made, or was when the process was killed.
            let Ok(text) = fs::read(entry?.path().join("upload.json")) else {
                continue;
            };
            let upload: Upload = serde_json::from_slice(&text)?;
            if upload.bucket == bucket {
                uploads.push(upload);
            }
        }
        uploads.sort_by(|a, b| (&a.key, &a.id).cmp(&(&b.key, &b.id)));
        Ok(uploads)
    }

    /// Publishes a part; a later one with the same number replaces it.
    pub(crate) fn add_part(&self, upload: &Upload, number: i32, mut received: Received) -> io::Result<Part> {
        let part = Part {
            number,
            size: received.size,
            etag: hex::encode(received.md5),
            modified_micros: now_micros(),
            checksums: received.checksums,
        };
        seal(&mut received.file, &part)?;
        received.temp.publish(&self.part_path(upload, number))?;
        Ok(part)
    }

    /// The parts that came, by number.
    pub(crate) fn parts(&self, upload: &Upload) -> io::Result<Vec<Part>> {
        let mut parts = Vec::new();
        for entry in fs::read_dir(self.uploads().join(&upload.id))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "part") {
                parts.push(read_meta::<Part>(&path)?);
            }
        }
        parts.sort_by_key(|part| part.number);
        Ok(parts)
    }

    /// Forgets the upload. What a kill leaves of it is not listed any more, as `upload.json` goes first.
    pub(crate) fn remove_upload(&self, upload: &Upload) -> io::Result<()> {
        let path = self.uploads().join(&upload.id);
        fs::remove_file(path.join("upload.json"))?;
        fs::remove_dir_all(path)
    }

    /// Puts the named parts together in a new file. Every ETag and checksum must be that of the part that came.
    pub(crate) fn assemble(&self, upload: &Upload, wanted: Vec<CompletedPart>) -> S3Result<Assembled> {
        let parts = choose(&self.parts(upload).map_err(disk)?, wanted)?;
        let (temp, mut file) = self.temp_file().map_err(disk)?;
        let full = upload.kind.as_deref() != Some("COMPOSITE");
        let algorithm = upload.algorithm.as_deref();
        let mut hasher = hasher_for(algorithm.filter(|_| full).into_iter());
        let mut md5 = Md5::new();
        let mut buffer = vec![0; 256 * 1024];
        for part in &parts {
            md5.update(&hex::decode(&part.etag).map_err(|e| disk(io::Error::other(e)))?);
            let source = File::open(self.part_path(upload, part.number)).map_err(disk)?;
            let mut source = source.take(part.size);
            loop {
                let n = source.read(&mut buffer).map_err(disk)?;
                if n == 0 {
                    break;
                }
                hasher.update(&buffer[..n]);
                file.write_all(&buffer[..n]).map_err(disk)?;
            }
        }
        let mut checksums = if full {
            finish(hasher)
        } else {
            composite(&parts, algorithm)
        };
        checksums.kind = algorithm.map(|_| if full { "FULL_OBJECT" } else { "COMPOSITE" }.to_owned());
        let size = parts.iter().map(|part| part.size).sum();
        let etag = format!("{}-{}", hex::encode(md5.finalize()), parts.len());
        Ok(Assembled {
            temp,
            file,
            size,
            etag,
            checksums,
        })
    }

    fn part_path(&self, upload: &Upload, number: i32) -> PathBuf {
        self.uploads().join(&upload.id).join(format!("{number:05}.part"))
    }
}

/// The parts that Complete names, in its order, checked as S3 checks them.
fn choose(have: &[Part], wanted: Vec<CompletedPart>) -> S3Result<Vec<Part>> {
    let mut chosen: Vec<Part> = Vec::new();
    for mut want in wanted {
        let number = want.part_number.unwrap_or_default();
        if chosen.last().is_some_and(|last| last.number >= number) {
            return Err(s3_error!(
                InvalidPartOrder,
                "part {number} does not follow in ascending order"
            ));
        }
        let part = have.iter().find(|part| part.number == number);
        let part = part.ok_or_else(|| s3_error!(InvalidPart, "part {number} was never uploaded"))?;
        if want.e_tag.as_ref().map(ETag::value) != Some(part.etag.as_str()) {
            return Err(s3_error!(
                InvalidPart,
                "the ETag of part {number} is {}",
                part.etag
            ));
        }
        let sums = claimed_sums!(want);
        sums.check(&part.checksums)
            .map_err(|e| s3_error!(e, InvalidPart, "a checksum of part {number} differs"))?;
        chosen.push(part.clone());
    }
    let all_but_last = chosen
        .split_last()
        .ok_or_else(|| s3_error!(MalformedXML, "no part is named"))?
        .1;
    match all_but_last.iter().find(|part| part.size < PART_BYTES_MIN) {
        Some(part) => Err(s3_error!(
            EntityTooSmall,
            "part {} has {} bytes, below 5 MiB",
            part.number,
            part.size
        )),
        None => Ok(chosen),
    }
}

/// S3's checksum of checksums: over the decoded checksums of the parts, with their count behind.
fn composite(parts: &[Part], algorithm: Option<&str>) -> Checksums {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let mut sums = Checksums::default();
    let Some(algorithm) = algorithm else { return sums };
    let mut hasher = hasher_for(std::iter::once(algorithm));
    for part in parts {
        let value = part
            .checksums
            .named()
            .into_iter()
            .find(|(name, _)| *name == algorithm);
        if let Some(bytes) = value.and_then(|(_, value)| STANDARD.decode(value.as_deref()?).ok()) {
            hasher.update(&bytes);
        }
    }
    for (name, value) in finish(hasher).named() {
        if let Some(value) = value {
            sums.set(name, format!("{value}-{}", parts.len()));
        }
    }
    sums
}
