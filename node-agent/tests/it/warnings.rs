//! What this thread's tasks write into the log, for tests of what is said there at the level that everybody sees.

use std::io;

use tokio::sync::mpsc;
use tracing::{Level, subscriber::DefaultGuard};

/// The lines at WARN and above, as they are written; of tests on one thread.
pub(crate) struct Warnings {
    lines: mpsc::UnboundedReceiver<String>,
    _listens: DefaultGuard,
}

impl Warnings {
    pub(crate) fn listen() -> Self {
        let (send, lines) = mpsc::unbounded_channel();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(Level::WARN)
            .with_ansi(false)
            .with_writer(move || Lines(send.clone()))
            .finish();
        Self {
            lines,
            _listens: tracing::subscriber::set_default(subscriber),
        }
    }

    /// The next line with all of these words.
    pub(crate) async fn next_with(&mut self, words: &[&str]) -> String {
        loop {
            let line = self.lines.recv().await.unwrap();
            if words.iter().all(|word| line.contains(word)) {
                return line;
            }
        }
    }
}

/// The formatter writes each line at once.
struct Lines(mpsc::UnboundedSender<String>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Nobody listens any more once the test has ended.
        let _ = self.0.send(String::from_utf8_lossy(bytes).into_owned());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
