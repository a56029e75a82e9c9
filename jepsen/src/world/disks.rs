//! Small file systems in memory, one below each coordinator's data directory, which can be filled up: the kernel itself then says that there is no
//! room. It takes CAP_SYS_ADMIN. What stands there is gone with the run.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// Some segments of the log, some snapshots of what a run writes, and what fills it up.
const SIZE: &str = "size=64m,mode=0700";
/// What is written at once, and then again in smaller pieces, down to one byte.
const PIECE: usize = 1 << 16;
/// The file that fills it up.
const BALLAST: &str = "ballast";

/// One of them, until it is dropped.
#[derive(Debug)]
pub(crate) struct SmallDisk {
    dir: PathBuf,
}

impl SmallDisk {
    /// Below this directory, which is made.
    pub(crate) fn mount(dir: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(dir)?;
        mount(Some("tmpfs"), dir, Some("tmpfs"), MsFlags::empty(), Some(SIZE))
            .with_context(|| format!("no file system in memory at {}", dir.display()))?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// Whether there can be any.
    pub(crate) fn is_available() -> anyhow::Result<()> {
        let dir = std::env::temp_dir().join(format!("regent-disk-{}", uuid::Uuid::now_v7()));
        let tried = Self::mount(&dir).map(drop);
        fs::remove_dir(&dir)?;
        tried
    }

    /// Fills it up to the last byte. Gives how many that took.
    pub(crate) fn fill(&self) -> anyhow::Result<u64> {
        let mut ballast = File::create(self.dir.join(BALLAST))?;
        let (mut piece, mut filled) = (vec![0xB5_u8; PIECE], 0);
        while !piece.is_empty() {
            match ballast.write(&piece) {
                Ok(0) => bail!("{} takes nothing, and does not say why", self.dir.display()),
                Ok(written) => filled += written as u64,
                Err(error) if error.kind() == ErrorKind::StorageFull => piece.truncate(piece.len() / 2),
                Err(error) => return Err(error.into()),
            }
        }
        ensure!(filled > 0, "{} was full already", self.dir.display());
        Ok(filled)
    }

    /// Whether a byte more finds no room.
    pub(crate) fn is_full(&self) -> bool {
        let path = self.dir.join(format!("{BALLAST}.more"));
        let tried = fs::write(&path, [0_u8]);
        // There is none where there was no room for it.
        let _ = fs::remove_file(&path);
        tried.is_err_and(|error| error.kind() == ErrorKind::StorageFull)
    }

    /// There is room again.
    pub(crate) fn empty(&self) -> anyhow::Result<()> {
        Ok(fs::remove_file(self.dir.join(BALLAST))?)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that was killed may not be gone yet.
        if let Err(error) = umount2(&self.dir, MntFlags::MNT_DETACH) {
            tracing::warn!(dir = %self.dir.display(), %error, "a file system in memory is left mounted");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_has_no_room_for_a_byte_until_it_is_emptied() {
        if let Err(why) = SmallDisk::is_available() {
            eprintln!("skipped: {why:#}");
            return;
        }
        let dir = std::env::temp_dir().join(format!("regent-disk-{}", uuid::Uuid::now_v7()));
        let disk = SmallDisk::mount(&dir).unwrap();
        fs::write(dir.join("before"), vec![1; 5_000]).unwrap();
        assert!(!disk.is_full());
        assert!(disk.fill().unwrap() > 60 << 20);
        assert!(disk.is_full());
        assert!(fs::write(dir.join("after"), [1]).is_err());
        disk.empty().unwrap();
        assert!(!disk.is_full());
        assert_eq!(fs::read(dir.join("before")).unwrap().len(), 5_000);
        drop(disk);
        assert!(!dir.join("before").exists());
        fs::remove_dir(dir).unwrap();
    }
}
