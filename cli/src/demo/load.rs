//! The inference load: open-loop, to every region, about every model, nothing sent twice.
//!
//! Absent on purpose: any knowledge of which region is up. Requests go everywhere all the time; the checker decides by
//! the fault windows which of them count.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use types::RegionId;

use super::{
    ask::{Endpoint, Question},
    micros::Micros,
    record::{LoadRequest, LoadSeen},
};

/// Between the intended times of two requests to a region: a little more than the 20 a second that are promised.
const INTERVAL: Duration = Duration::from_millis(48);
/// From the intended time on.
const DEADLINE: Duration = Duration::from_secs(1);

type Seen = Arc<Mutex<Vec<LoadRequest>>>;

/// A load under way.
#[derive(Debug)]
pub(super) struct Load {
    seen: BTreeMap<RegionId, Seen>,
    /// When the end was asked for; none while it goes on.
    stop: watch::Sender<Option<Instant>>,
    tasks: JoinSet<()>,
}

impl Load {
    /// Starts it, to every region at once but not in step.
    pub(super) fn start(endpoints: &[(RegionId, Endpoint)], questions: &[Question]) -> Self {
        let mut load = Self {
            seen: BTreeMap::new(),
            stop: watch::Sender::new(None),
            tasks: JoinSet::new(),
        };
        let regions = u32::try_from(endpoints.len()).unwrap_or(u32::MAX).max(1);
        for (n, (region, endpoint)) in (0u32..).zip(endpoints) {
            let seen = Seen::default();
            load.seen.insert(region.clone(), seen.clone());
            let first = Instant::now() + INTERVAL * n / regions;
            let stop = load.stop.subscribe();
            let sender = send(endpoint.clone(), questions.to_vec(), first, seen, stop);
            load.tasks.spawn(sender);
        }
        load
    }

    /// Every request so far that has its answer, by intended time.
    pub(super) fn so_far(&self) -> Vec<LoadSeen> {
        let of = |(region, seen): (&RegionId, &Seen)| {
            let mut requests = seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
            requests.sort_by_key(|r| r.at);
            LoadSeen {
                region: region.clone(),
                requests,
            }
        };
        self.seen.iter().map(of).collect()
    }

    /// Sends every region one more request, and waits for the answers that are due.
    ///
    /// One more, for the record must show that the load outlasted what it accompanied: a region's next request may be an
    /// interval away, and the last act ended since the one before it.
    pub(super) async fn finish(mut self) -> Vec<LoadSeen> {
        self.stop.send_replace(Some(Instant::now()));
        while self.tasks.join_next().await.is_some() {}
        self.so_far()
    }
}

/// At most a deadline's worth of requests is under way: each ends by itself.
async fn send(
    endpoint: Endpoint,
    questions: Vec<Question>,
    first: Instant,
    seen: Seen,
    stop: watch::Receiver<Option<Instant>>,
) {
    let mut under_way = JoinSet::new();
    let mut intended = first;
    for (place, question) in questions.iter().cycle().enumerate() {
        sleep_until(intended).await;
        while under_way.try_join_next().is_some() {}
        under_way.spawn(one(
            place,
            question.clone(),
            endpoint.clone(),
            intended,
            seen.clone(),
        ));
        if stop.borrow().is_some_and(|asked| intended > asked) {
            break;
        }
        intended += INTERVAL;
    }
    while under_way.join_next().await.is_some() {}
}

/// One request. What was late before it was sent counts as lateness of the answer.
async fn one(place: usize, question: Question, endpoint: Endpoint, intended: Instant, seen: Seen) {
    let late = intended.elapsed();
    let at = Micros(Micros::now().0.saturating_sub(micros(late)));
    let left = DEADLINE.saturating_sub(late);
    let error = question.ask(&endpoint, left).await.err();
    let request = LoadRequest {
        place,
        at,
        took: micros(intended.elapsed()),
        error,
    };
    seen.lock().unwrap_or_else(PoisonError::into_inner).push(request);
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::{ask, samples::Fixtures};

    #[tokio::test]
    async fn a_load_outlasts_what_it_accompanied_in_every_region() {
        // Nobody answers there, which is an answer to the load.
        let endpoint = ask::Endpoint::new(&ask::client().unwrap(), "http://127.0.0.1:1");
        let regions = ["eu-west-1", "us-east-1", "us-west-2"].map(|r| RegionId::new(r).unwrap());
        let endpoints: Vec<_> = regions.iter().cloned().map(|r| (r, endpoint.clone())).collect();
        let questions = Question::all(&Arc::new(Fixtures::load().unwrap()));
        for _ in 0..5 {
            let load = Load::start(&endpoints, &questions);
            let ended = Micros::now();
            let seen = load.finish().await;
            assert_eq!(seen.len(), regions.len());
            for load in seen {
                let last = load.requests.last().map(|r| r.at);
                assert!(last > Some(ended), "{}: {last:?}, {ended:?}", load.region);
            }
        }
    }
}
