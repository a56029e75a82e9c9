//! The thread that runs forwards.
//!
//! candle hands parts of some operations to Rayon. On the global pool that wakes every core for microseconds of work,
//! and on a loaded machine it costs more than the work (facts: a fifth of the rate). So the thread of a model is the
//! only member of a Rayon pool of its own: what candle hands over runs right there, and nobody is woken.

use std::io;

/// Runs `body` on a thread of its own, named `name`. The thread ends when `body` returns.
#[cfg(feature = "candle")]
pub(crate) fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .spawn_handler(|thread| {
            let named = std::thread::Builder::new().name(name.to_owned());
            named.spawn(move || thread.run()).map(|_| ())
        });
    // Rayon's own answer to a panic is to end the process; a defect in one model must not take the others with it. The
    // callers of this model find its queue gone.
    let pool = pool.panic_handler(|_| tracing::error!("the thread of a model panicked"));
    let pool = pool.build().map_err(io::Error::other)?;
    // Dropping the pool ends its thread after the work that was given to it.
    pool.spawn(body);
    Ok(())
}

/// Runs `body` on a thread of its own, named `name`. The thread ends when `body` returns.
#[cfg(not(feature = "candle"))]
pub(crate) fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .map(|_| ())
}
