//! A network namespace of this program's own: a thread that lives in it, and whatever that thread starts.
//!
//! No `ip netns`, no name below `/run`: the namespace ends with its thread and the processes in it, however this program ends.
//! Invariant: nothing but jobs given to [`Namespace::run`] runs in it.

use std::{io, thread};

use anyhow::Context as _;
use nix::sched::{CloneFlags, unshare};
use rtnetlink::LinkUnspec;
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
};

/// Jobs that wait; whoever has one more waits, too.
const JOBS: usize = 16;
/// The index of `lo`, which is the first link of every namespace.
const LOOPBACK: u32 = 1;

type Job = Box<dyn FnOnce() + Send>;

/// The namespace.
#[derive(Debug)]
pub(super) struct Namespace {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Namespace {
    /// A new one, in a runtime of tokio, in which its jobs run as well; with nothing but `lo`, which is up.
    ///
    /// Fails where the kernel does not let this user (it takes CAP_SYS_ADMIN and CAP_NET_ADMIN).
    pub(super) async fn new(name: &str) -> anyhow::Result<Self> {
        let (jobs, mut asked) = mpsc::channel::<Job>(JOBS);
        let (made, is_made) = oneshot::channel();
        let runtime = Handle::current();
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            let entered = enter();
            let failed = entered.is_err();
            // Nobody who waits: then nobody sends a job either.
            let _ = made.send(entered);
            let _guard = runtime.enter();
            while let Some(job) = asked.blocking_recv().filter(|_| !failed) {
                job();
            }
        })?;
        let namespace = Self {
            jobs: Some(jobs),
            thread: Some(thread),
        };
        is_made.await.context("its thread broke off")??;
        Ok(namespace)
    }

    /// Runs a job in it: the sockets that it opens and the processes that it starts are in it.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> anyhow::Result<T> {
        let (done, is_done) = oneshot::channel();
        let job: Job = Box::new(move || {
            // Whoever asked may be gone.
            let _ = done.send(job());
        });
        let jobs = self.jobs.as_ref().context("it is closed")?;
        jobs.send(job).await.ok().context("its thread has ended")?;
        is_done.await.context("its thread broke off")
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // It ends as soon as the job under way does; what broke it off was said then.
            let _ = thread.join();
        }
    }
}

/// Moves this thread into a new namespace.
fn enter() -> anyhow::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).context("no network namespace of its own")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        let up = LinkUnspec::new_with_index(LOOPBACK).up().build();
        let set = tokio::select! {
            set = handle.link().set(up).execute() => set.map_err(io::Error::other),
            () = connection => Err(io::Error::other("netlink closed the connection")),
        };
        set.context("lo does not come up")
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn two_of_them_have_each_their_own_ports() {
        let Ok(one) = Namespace::new("one").await else {
            eprintln!("skipped: no network namespaces for this user");
            return;
        };
        let other = Namespace::new("other").await.unwrap();
        let listen = || TcpListener::bind("127.0.0.1:7");
        let first = one.run(listen).await.unwrap().unwrap();
        let second = other.run(listen).await.unwrap().unwrap();
        assert_eq!(first.local_addr().unwrap(), second.local_addr().unwrap());
        let in_the_same = one.run(listen).await.unwrap();
        assert_eq!(in_the_same.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
