//! Jobs in hand.

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::records::*;
use crate::{jobs::JobError, observed::Job, running::Running};

#[tokio::test]
async fn a_job_that_panics_fails_and_the_others_go_on_running() {
    let mut running = Running::default();
    let stop = CancellationToken::new();
    let (end, ends) = oneshot::channel();
    let (slow, broken) = (Job::Copy(key("m@1")), Job::Load(key("m@2")));
    running.start(slow.clone(), stop.clone(), async move {
        drop(ends.await);
        Ok(None)
    });
    running.start(broken.clone(), stop.clone(), async { panic!("as tests do") });
    let (job, outcome) = running.ended().await.unwrap();
    assert_eq!(job, broken);
    assert!(
        matches!(&outcome, Some(Err(JobError::Failed(why))) if why.contains("as tests do")),
        "{:?}",
        outcome.is_some()
    );
    assert_eq!(running.all(), [slow.clone()].into());
    end.send(()).unwrap();
    let (job, outcome) = running.ended().await.unwrap();
    assert!(job == slow && matches!(outcome, Some(Ok(None))));
    assert!(running.all().is_empty() && running.ended().await.is_none());
}

#[tokio::test]
async fn a_job_that_is_stopped_ends_without_an_outcome() {
    let mut running = Running::default();
    let stop = CancellationToken::new();
    running.start(Job::Copy(key("m@1")), stop.clone(), std::future::pending());
    stop.cancel();
    assert!(matches!(running.ended().await, Some((_, None))));
}
