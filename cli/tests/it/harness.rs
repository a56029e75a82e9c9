//! Starting `regent`, asking it things, and waiting for events instead of for time.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Mutex, MutexGuard, PoisonError, mpsc},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

/// Longest wait for anything; a test that needs it has failed.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// One test with processes at a time, also under plain `cargo test`.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The binary, with an environment in which nothing of the caller's steers it.
pub(crate) fn regent() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_regent"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("REGENT_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
    /// The one JSON document on stdout.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("no JSON document ({e}): {self:?}"))
    }
    /// It ended with this code and said all of these on stderr; and it did not panic.
    pub(crate) fn failed_with(&self, code: i32, said: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(!self.stderr.contains("panicked"), "{self:?}");
        for words in said {
            assert!(
                self.stderr.contains(words),
                "{words:?} is missing: {}",
                self.stderr
            );
        }
    }
}

/// Runs it to its end.
pub(crate) fn run(args: &[&str]) -> Ran {
    Ran::of(regent().args(args).output().unwrap())
}

/// Lines that a process writes, as they come.
pub(crate) struct Lines(mpsc::Receiver<String>);

impl Lines {
    pub(crate) fn of(stream: impl std::io::Read + Send + 'static) -> Self {
        let (send, receive) = mpsc::channel();
        forward(stream, send);
        Self(receive)
    }
    /// Of stdout and stderr, as they come.
    pub(crate) fn of_both(child: &mut Child) -> Self {
        let (send, receive) = mpsc::channel();
        forward(child.stdout.take().unwrap(), send.clone());
        forward(child.stderr.take().unwrap(), send);
        Self(receive)
    }
    /// Waits for a JSON document, printed over several lines.
    pub(crate) fn wait_for_document(&self) -> Value {
        let mut text = String::new();
        while !text.ends_with("\n}") {
            let line = self.0.recv_timeout(LIMIT);
            let line = line.unwrap_or_else(|why| panic!("no document ({why}); there came: {text}"));
            text = format!("{text}\n{line}");
        }
        serde_json::from_str(&text).unwrap()
    }
    /// Waits for a line with these words; panics with everything that came instead.
    pub(crate) fn wait_for(&self, words: &str) -> String {
        let deadline = Instant::now() + LIMIT;
        let mut seen = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.0.recv_timeout(left) {
                Ok(line) if line.contains(words) => return line,
                Ok(line) => seen.push(line),
                Err(why) => panic!("no line with {words:?} ({why}); there came:\n{}", seen.join("\n")),
            }
        }
    }
}

fn forward(stream: impl std::io::Read + Send + 'static, send: mpsc::Sender<String>) {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                return;
            }
        }
    });
}

/// A process that ends with the test, whatever happens.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }
    /// SIGKILL, and the end.
    pub(crate) fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until something is true that nothing announces.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether any thread of a process still exists; a zombie has none.
pub(crate) fn is_alive(pid: u32) -> bool {
    chaos::ProcessRef::of(pid).is_ok_and(|process| process.is_alive())
}

/// The directory and config of an S3 endpoint.
pub(crate) struct StoreDir {
    pub(crate) dir: TempDir,
    pub(crate) config: PathBuf,
}

impl StoreDir {
    pub(crate) fn new(listen: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for key in ["access-key", "secret-key"] {
            secret(&dir.path().join(key));
        }
        let store = Self {
            config: dir.path().join("s3.toml"),
            dir,
        };
        store.write(&store.text(listen));
        store
    }
    pub(crate) fn text(&self, listen: &str) -> String {
        let at = |name: &str| self.dir.path().join(name).display().to_string();
        format!(
            "data_dir = {:?}\nlisten = {listen:?}\nbuckets = [\"models\"]\naccess_key_file = {:?}\nsecret_key_file = {:?}\n",
            at("data"),
            at("access-key"),
            at("secret-key")
        )
    }
    pub(crate) fn write(&self, text: &str) {
        std::fs::write(&self.config, text).unwrap();
    }
    pub(crate) fn listen_file(&self) -> PathBuf {
        self.dir.path().join("data").join("listen.json")
    }
    /// The port in `listen.json`, once it is there.
    pub(crate) fn port(&self) -> u16 {
        let read = || {
            let text = std::fs::read_to_string(self.listen_file()).ok()?;
            let listen: Value = serde_json::from_str(&text).ok()?;
            listen["s3"]
                .as_str()?
                .parse::<std::net::SocketAddr>()
                .ok()
                .map(|a| a.port())
        };
        until("listen.json is there", || read().is_some());
        read().unwrap()
    }
    pub(crate) fn run(&self) -> Ran {
        run(&["dev-s3", "--config", self.config.to_str().unwrap()])
    }
    pub(crate) fn start(&self) -> Running {
        let mut command = regent();
        command.args(["dev-s3", "--config", self.config.to_str().unwrap()]);
        Running(command.stderr(Stdio::null()).spawn().unwrap())
    }
}

fn secret(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, "abcdefghijklmnopqrst").unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}
