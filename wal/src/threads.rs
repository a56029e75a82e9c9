//! The log's two threads: one writes, one prepares segments. Both end when the last handle has gone; the first writes no more once the
//! log is closed.

use std::{io, sync::Arc, thread};

use crate::{
    error::Failure,
    pool::Prepared,
    priority,
    shared::{Shared, Wake},
    writer::{Turn, Writer},
};

/// Starts both. The writer ends last, and calls `closed` with every file closed.
pub(crate) fn start(
    shared: Arc<Shared>,
    writer: Writer,
    closed: impl FnOnce() + Send + 'static,
) -> io::Result<()> {
    let preparing = shared.clone();
    let preparer = thread::Builder::new().name("wal-preparer".to_owned());
    let preparer = preparer.spawn(move || prepare(&preparing))?;
    let closing = shared.clone();
    let spawned = thread::Builder::new()
        .name("wal-writer".to_owned())
        .spawn(move || {
            priority::raise();
            write(&shared, writer);
            shared.wait_until_released();
            shared.pool.close();
            // It ends by itself once the pool is closed; a panic there has been reported by its failing pool.
            let _ = preparer.join();
            shared.forget_files();
            drop(shared);
            closed();
        });
    if spawned.is_err() {
        closing.pool.close();
    }
    spawned.map(drop)
}

fn write(shared: &Shared, mut writer: Writer) {
    // A process that was killed left the last batch without its mark.
    let mut ended = writer.mark().err();
    let ended = loop {
        if let Some(failure) = ended.take() {
            break failure;
        }
        match writer.turn() {
            Ok(Turn::Worked) => {}
            Ok(Turn::Idle) => {
                let rests = writer.marks_after();
                match shared.wait_for_work(rests) {
                    Wake::Work => {}
                    Wake::Rested if rests.is_none() => {}
                    Wake::Rested => ended = writer.mark().err(),
                    Wake::Closing => break writer.mark().err().unwrap_or_else(|| closed(shared)),
                }
            }
            // What waits for room when the log closes is not durable, and nobody was told that it is.
            Ok(Turn::NeedsSegment) => {
                if shared.is_closing() && shared.pool.has_no_room() {
                    break closed(shared);
                }
                shared.pool.wait_for_segment(shared.config.look_again);
            }
            Ok(Turn::NoRoom) => {
                if shared.is_closing() {
                    break closed(shared);
                }
                if let Err(failure) = shared.pool.check() {
                    break failure;
                }
                shared.pool.rest(shared.config.look_again);
            }
            Err(failure) => break failure,
        }
    };
    writer.abandon(&ended);
}

/// Whoever still waits when the log closes has a write that is not durable.
fn closed(shared: &Shared) -> Failure {
    Failure {
        path: shared.disk.path().to_owned(),
        offset: 0,
        doing: "go on",
        said: "the log was closed".to_owned(),
        kind: io::ErrorKind::Other,
    }
}

fn prepare(shared: &Shared) {
    loop {
        match shared.pool.turn() {
            Ok(Prepared::Worked) => {}
            Ok(Prepared::Idle | Prepared::NoRoom) => {
                if !shared.pool.wait_for_work(shared.config.look_again) {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}
