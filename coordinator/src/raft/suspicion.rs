//! Whether this replica believes its own state.
//!
//! A replica that does not serves nobody from it, publishes nothing of it, and writes no snapshot of it; it votes and
//! stores as ever, because the log is right.
//! Absent on purpose: why it would not ([`super::integrity`]).
//! Invariant: a state that was found wrong is not served after a restart either: that is on disk before anything else is
//! done about it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use tokio::sync::watch;

use super::files;

/// In the data directory, while the state on this disk is known to be wrong; its text says why.
const FILE_NAME: &str = "state-suspect";

/// How little this replica believes its own state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Belief {
    #[default]
    Believed,
    /// Others say something else, and it is open who is right.
    Doubted(String),
    /// It is wrong, or was at the last start, and no comparison has said otherwise since.
    Convicted(String),
}

/// What a replica thinks of its state.
#[derive(Debug)]
pub(crate) struct Suspicion {
    path: PathBuf,
    belief: watch::Sender<Belief>,
}

impl Suspicion {
    /// As it stood when the directory was last used.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        let path = dir.join(FILE_NAME);
        let belief = match fs::read(&path) {
            Ok(text) => Belief::Convicted(String::from_utf8_lossy(&text).into_owned()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Belief::Believed,
            Err(e) => return Err(e),
        };
        let suspicion = Self {
            path,
            belief: watch::Sender::default(),
        };
        suspicion.hold(belief);
        Ok(suspicion)
    }

    /// Why the state is not believed, if it is not.
    pub(crate) fn why(&self) -> Option<String> {
        match &*self.belief.borrow() {
            Belief::Believed => None,
            Belief::Doubted(why) | Belief::Convicted(why) => Some(why.clone()),
        }
    }

    /// Whether nobody is to be served from the state.
    pub(crate) fn is_held(&self) -> bool {
        *self.belief.borrow() != Belief::Believed
    }

    /// Whether the state was found wrong, and not only doubted.
    pub(crate) fn is_proved(&self) -> bool {
        matches!(*self.belief.borrow(), Belief::Convicted(_))
    }

    /// Others have another state, and nobody knows yet who is right. Not remembered over a restart: it is asked anew. False if
    /// it was held already.
    pub(crate) fn doubt(&self, why: String) -> bool {
        let first = !self.is_held();
        if first {
            self.hold(Belief::Doubted(why));
        }
        first
    }

    /// The state is wrong. It counts from here on also where it cannot be written down; false if it was known.
    pub(crate) fn convict(&self, why: &str) -> (bool, io::Result<()>) {
        let first = !self.is_proved();
        self.hold(Belief::Convicted(why.to_owned()));
        let written = match first {
            true => files::replace(&self.path, why.as_bytes()),
            false => Ok(()),
        };
        (first, written)
    }

    /// The state is the log's.
    pub(crate) fn lift(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Ok(()) => files::sync_dir(self.path.parent().unwrap_or_else(|| Path::new(".")))?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        self.hold(Belief::Believed);
        Ok(())
    }

    fn hold(&self, belief: Belief) {
        crate::metrics::set_state_suspect(belief != Belief::Believed);
        self.belief.send_replace(belief);
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn a_proof_outlasts_a_restart_and_a_doubt_does_not() {
        let dir = TempDir::new().unwrap();
        let open = || Suspicion::open(dir.path()).unwrap();
        assert!(!open().is_held());
        let doubted = open();
        assert!(doubted.doubt("c1 says something else".to_owned()));
        assert!(!doubted.doubt("again".to_owned()));
        assert_eq!(doubted.why().as_deref(), Some("c1 says something else"));
        assert!(!doubted.is_proved() && !open().is_held());
        let (first, written) = doubted.convict("it is wrong");
        written.unwrap();
        assert!(first && !doubted.convict("it is wrong").0);
        let again = open();
        assert!(again.is_proved());
        assert_eq!(again.why().as_deref(), Some("it is wrong"));
        assert!(!again.doubt("no proof turns into a doubt".to_owned()) && again.is_proved());
        again.lift().unwrap();
        assert!(!again.is_held() && !open().is_held());
    }
}
