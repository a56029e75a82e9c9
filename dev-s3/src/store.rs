//! Buckets and their objects, as this process knows them. The directory is locked, so memory and disk agree, but for files that
//! somebody deletes or puts there by hand: each is looked for before its use, and lists show what was there until then.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::{
    fs::{AtFlags, statat},
    io::Errno,
};
use s3s::{S3Error, S3Result, s3_error};

use crate::{
    Error,
    access_log::{AccessLog, Standing},
    directory::{Directory, object_file_name, sync_dir},
    listing::{Page, Query, page},
    locks::Locks,
    meta::{META_VERSION, ObjectMeta, now_micros},
    object_file::read_meta,
    receive::disk,
};

/// Everything that requests share.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) directory: Directory,
    buckets: Mutex<BTreeMap<String, Arc<Bucket>>>,
    pub(crate) key_locks: Locks,
    pub(crate) upload_locks: Locks,
    pub(crate) log: AccessLog,
}

/// One bucket: a directory and the index of what is in it.
#[derive(Debug)]
pub(crate) struct Bucket {
    pub(crate) name: String,
    pub(crate) created_micros: u64,
    path: PathBuf,
    /// By a request: its directory is gone for good.
    removed: AtomicBool,
    objects: Mutex<BTreeMap<String, Arc<ObjectMeta>>>,
}

impl Store {
    /// Locks the directory, reads the metadata of every object, and brings the access log up to them.
    pub(crate) fn open(root: &Path) -> Result<Self, Error> {
        let directory = Directory::open(root)?;
        let buckets = read_buckets(&directory.buckets())?;
        let log = AccessLog::open(root, &standing(&buckets))?;
        let buckets = Mutex::new(buckets);
        Ok(Self {
            directory,
            buckets,
            key_locks: Locks::new(),
            upload_locks: Locks::new(),
            log,
        })
    }

    pub(crate) fn bucket(&self, name: &str) -> S3Result<Arc<Bucket>> {
        let buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        buckets
            .get(name)
            .cloned()
            .ok_or_else(|| s3_error!(NoSuchBucket, "there is no bucket {name}"))
    }

    pub(crate) fn buckets(&self) -> Vec<Arc<Bucket>> {
        self.buckets
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect()
    }

    /// Makes a bucket durably; `false` when it was there already.
    pub(crate) fn create_bucket(&self, name: &str) -> io::Result<bool> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.contains_key(name) {
            return Ok(false);
        }
        let path = self.directory.buckets().join(name);
        fs::create_dir(&path)?;
        sync_dir(&self.directory.buckets())?;
        let bucket = Bucket {
            name: name.to_owned(),
            created_micros: now_micros(),
            path,
            removed: AtomicBool::new(false),
            objects: Mutex::default(),
        };
        buckets.insert(name.to_owned(), Arc::new(bucket));
        Ok(true)
    }

    /// Removes an empty bucket. The system refuses when an object lands in it meanwhile.
    pub(crate) fn delete_bucket(&self, name: &str) -> S3Result<()> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = buckets.get(name).ok_or_else(|| s3_error!(NoSuchBucket))?;
        // Before it is: who finds no directory must not take it for one that is away.
        bucket.removed.store(true, Ordering::SeqCst);
        if let Err(error) = fs::remove_dir(&bucket.path) {
            bucket.removed.store(false, Ordering::SeqCst);
            return Err(match error.kind() {
                io::ErrorKind::DirectoryNotEmpty => s3_error!(BucketNotEmpty),
                _ => disk(error),
            });
        }
        buckets.remove(name);
        sync_dir(&self.directory.buckets()).map_err(disk)
    }
}

impl Bucket {
    /// What stands at a key, as the disk says by now. An object whose file somebody took away under this process is none,
    /// and is forgotten: its readers hear that it is gone, and its writers put it there anew. A file that somebody put there
    /// is taken in: no writer may take its key for free. While the bucket's own directory is away nothing is known.
    pub(crate) fn get(&self, key: &str) -> S3Result<Option<Arc<ObjectMeta>>> {
        let indexed = self.indexed(key);
        match (self.has_file(key)?, indexed) {
            (true, Some(meta)) => Ok(Some(meta)),
            (true, None) => self.take_in(key).map(Some).map_err(disk),
            (false, Some(gone)) => {
                self.forget(&gone);
                Ok(None)
            }
            (false, None) => Ok(None),
        }
    }

    /// Looked up in the directory as it was opened: one that goes away or comes back meanwhile hides no file.
    fn has_file(&self, key: &str) -> S3Result<bool> {
        let directory = File::open(&self.path).map_err(|error| self.is_away(&error))?;
        match statat(&directory, object_file_name(key), AtFlags::empty()) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(disk(error.into())),
        }
    }

    fn is_away(&self, error: &io::Error) -> S3Error {
        if self.removed.load(Ordering::SeqCst) {
            return s3_error!(NoSuchBucket, "the bucket {} was removed", self.name);
        }
        let text = format!(
            "the directory {} of bucket {} cannot be opened: {error}; put it back",
            self.path.display(),
            self.name
        );
        tracing::warn!("{text}");
        disk(io::Error::new(error.kind(), text))
    }

    /// Indexes a file that nothing is known of, unless somebody else did meanwhile.
    fn take_in(&self, key: &str) -> io::Result<Arc<ObjectMeta>> {
        let path = self.path_of(key);
        let meta = read_object(&path).map_err(|error| {
            let text = format!("{} cannot be read: {error}; move it away", path.display());
            io::Error::new(error.kind(), text)
        })?;
        let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        let standing = objects.entry(key.to_owned()).or_insert_with(|| Arc::new(meta));
        Ok(Arc::clone(standing))
    }

    /// The object, or S3's word for a missing one. Off the async threads.
    pub(crate) async fn find(self: &Arc<Self>, key: &str) -> S3Result<Arc<ObjectMeta>> {
        let (bucket, sought) = (Arc::clone(self), key.to_owned());
        let found = tokio::task::spawn_blocking(move || bucket.get(&sought)).await;
        let found = found.map_err(S3Error::internal_error)??;
        found.ok_or_else(|| s3_error!(NoSuchKey, "there is no object {key}"))
    }

    fn indexed(&self, key: &str) -> Option<Arc<ObjectMeta>> {
        let objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        objects.get(key).cloned()
    }

    /// Only if nobody put another one there meanwhile: that one's file came first.
    pub(crate) fn forget(&self, gone: &Arc<ObjectMeta>) {
        let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        if objects.get(&gone.key).is_some_and(|meta| Arc::ptr_eq(meta, gone)) {
            objects.remove(&gone.key);
            tracing::warn!(bucket = %self.name, key = %gone.key, "the object's file is gone from the disk");
        }
    }

    pub(crate) fn path_of(&self, key: &str) -> PathBuf {
        self.path.join(object_file_name(key))
    }

    pub(crate) fn page(&self, query: &Query<'_>) -> Page {
        page(
            &self.objects.lock().unwrap_or_else(PoisonError::into_inner),
            query,
        )
    }

    /// What the index holds from now on. Only under the key's lock, after the directory was changed.
    pub(crate) fn record(&self, key: &str, meta: Option<Arc<ObjectMeta>>) {
        let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        match meta {
            Some(meta) => objects.insert(key.to_owned(), meta),
            None => objects.remove(key),
        };
    }

    /// Every object; for bringing the access log up at start.
    pub(crate) fn all(&self) -> Vec<Arc<ObjectMeta>> {
        self.objects
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect()
    }

    /// Removes an object's file durably.
    pub(crate) fn remove_file(&self, key: &str) -> io::Result<()> {
        fs::remove_file(self.path_of(key))?;
        sync_dir(&self.path)
    }
}

pub(crate) type Buckets = BTreeMap<String, Arc<Bucket>>;

fn standing(buckets: &Buckets) -> Vec<Standing> {
    let of = |bucket: &Arc<Bucket>| {
        let name = bucket.name.clone();
        let all = bucket.all().into_iter();
        all.map(move |meta| Standing {
            bucket: name.clone(),
            meta,
        })
    };
    buckets.values().flat_map(of).collect()
}

fn read_buckets(root: &Path) -> Result<Buckets, Error> {
    let mut buckets = Buckets::new();
    for entry in fs::read_dir(root).map_err(Error::directory(root))? {
        let path = entry.map_err(Error::directory(root))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        buckets.insert(
            name.to_owned(),
            Arc::new(read_bucket(name.to_owned(), path.clone())?),
        );
    }
    Ok(buckets)
}

fn read_object(file: &Path) -> io::Result<ObjectMeta> {
    let meta: ObjectMeta = read_meta(file)?;
    if meta.version != META_VERSION {
        return Err(io::Error::other(format!("metadata version {}", meta.version)));
    }
    Ok(meta)
}

fn read_bucket(name: String, path: PathBuf) -> Result<Bucket, Error> {
    let created = fs::metadata(&path).and_then(|m| m.created().or_else(|_| m.modified()));
    let created = created
        .map_err(Error::directory(&path))?
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    let mut objects = BTreeMap::new();
    for entry in fs::read_dir(&path).map_err(Error::directory(&path))? {
        let file = entry.map_err(Error::directory(&path))?.path();
        let meta = read_object(&file).map_err(Error::damaged(&file))?;
        objects.insert(meta.key.clone(), Arc::new(meta));
    }
    let created_micros = u64::try_from(created.as_micros()).unwrap_or(u64::MAX);
    Ok(Bucket {
        name,
        created_micros,
        path,
        removed: AtomicBool::new(false),
        objects: Mutex::new(objects),
    })
}
