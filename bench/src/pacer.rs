//! Intended send times: an own thread says when each client is to send, because the runtime's timer knows whole
//! milliseconds only.
//!
//! Invariant: a client that is late finds its times in its queue, and its operations are counted from them; a system that
//! stalls is not asked less.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::{
    sync::mpsc::{self, error::TrySendError},
    time::Instant,
};

/// Times that may wait for one client: seconds of work.
const WAITING_MAX: usize = 10_000;

/// The thread, which ends by itself.
pub(crate) struct Pacer {
    thread: thread::JoinHandle<()>,
    overran: Arc<AtomicBool>,
}

impl Pacer {
    /// From `begin` to `end` one operation every `1 / rate` seconds, each time at the next of `clients`.
    pub(crate) fn start(
        clients: usize,
        rate: f64,
        begin: Instant,
        end: Instant,
    ) -> (Self, Vec<mpsc::Receiver<Instant>>) {
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..clients).map(|_| mpsc::channel(WAITING_MAX)).unzip();
        let overran = Arc::new(AtomicBool::new(false));
        let full = Arc::clone(&overran);
        let pause = Duration::from_secs_f64(1.0 / rate);
        let thread = thread::spawn(move || tick(&senders, pause, begin, end, &full));
        (Self { thread, overran }, receivers)
    }

    /// Waits for the end; an error if more was asked than a client could have waiting.
    pub(crate) fn finish(self) -> Result<(), &'static str> {
        self.thread.join().map_err(|_| "the pacer failed")?;
        match self.overran.load(Ordering::Relaxed) {
            true => Err("a client fell ten thousand operations behind its times"),
            false => Ok(()),
        }
    }
}

fn tick(clients: &[mpsc::Sender<Instant>], pause: Duration, begin: Instant, end: Instant, full: &AtomicBool) {
    let mut at = begin;
    for client in clients.iter().cycle() {
        if at >= end {
            return;
        }
        thread::sleep(at.saturating_duration_since(Instant::now()));
        match client.try_send(at) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => full.store(true, Ordering::Relaxed),
            // It has failed, and its cell with it.
            Err(TrySendError::Closed(_)) => return,
        }
        at += pause;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_intended_time_reaches_a_client_in_turn() {
        let begin = Instant::now();
        let end = begin + Duration::from_millis(50);
        let (pacer, receivers) = Pacer::start(3, 1000.0, begin, end);
        let mut times = Vec::new();
        for mut receiver in receivers {
            let mut own = Vec::new();
            while let Some(at) = receiver.recv().await {
                own.push((at - begin).as_millis());
            }
            times.push(own);
        }
        assert_eq!(pacer.finish(), Ok(()));
        assert_eq!(times[0][..3], [0, 3, 6]);
        assert_eq!(times[2][..3], [2, 5, 8]);
        assert_eq!(times.concat().len(), 50);
    }
}
