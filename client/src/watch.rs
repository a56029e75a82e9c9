//! The cluster's state as it changes: a list, then every event after it, across reconnects (I7).
//!
//! Invariant: what [`StateWatch::next`] gives out is either a whole state ([`Change::Reset`]) or the events of the
//! next revision that has any, in order, each exactly once.

mod parts;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    fmt,
    time::{Duration, Instant},
};

use futures::future::{BoxFuture, FutureExt as _, OptionFuture};

pub use proto::convert::watch::Resource;
use proto::{
    convert::{MEANT, status, watch::resource},
    v1::{self as pb, watch_service_client::WatchServiceClient},
};
use tokio::time::{sleep, timeout};
use tonic::{Streaming, transport::Channel};
use types::{
    ClusterId, Revision, WatchFilter,
    reason::{Reason, Refusal},
};

use self::parts::Parts;
use crate::{
    calls::{Client, Header, MAX_MESSAGE},
    reach::how_is,
    retry,
};

/// One event of a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened: `role_promoted`, `replica_changed`, …
    pub kind: String,
    /// The resource after the change; for a deletion, as it was last.
    pub resource: Resource,
    /// Whether the resource is gone.
    pub deleted: bool,
}

/// What a watch gives out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Everything at one revision: drop what was known and start from this. First of all, and after a gap.
    Reset {
        /// The cluster; another one than before means that it was restored.
        cluster_id: ClusterId,
        /// The revision of the list.
        revision: Revision,
        /// Every resource.
        resources: Vec<Resource>,
    },
    /// All events of one revision.
    Events {
        /// Their revision.
        revision: Revision,
        /// In order; never empty.
        events: Vec<Event>,
    },
    /// Nothing happened up to this revision.
    Bookmark {
        /// The revision that the state is now known at.
        revision: Revision,
    },
}

/// How long a coordinator that is not the nearest is watched before the nearest is tried again. About as long as one that was
/// silent is asked last: who watches from far away hears everything later, and pays for the way.
const HOME_AGAIN: Duration = Duration::from_secs(30);

/// A watch at a coordinator.
#[derive(Debug)]
struct Open {
    endpoint: String,
    messages: Streaming<pb::WatchResponse>,
    /// The first of them, where it was waited for.
    first: Option<pb::WatchResponse>,
    /// Since when it was not asked whether a nearer one can be watched.
    stayed: Instant,
    /// What it repeats: it was asked for before another one gave out this revision.
    known: Option<Revision>,
}

impl Open {
    /// The next message, if it comes within `patience`. Safe to drop.
    async fn next(&mut self, patience: Duration) -> Result<pb::WatchResponse, Refusal> {
        if let Some(first) = self.first.take() {
            return Ok(first);
        }
        let message = timeout(patience, self.messages.message())
            .await
            .map_err(|_| silent(patience))?;
        let ended = || Refusal::new(Reason::NotServing, "the coordinator ended the watch");
        message.map_err(|s| status::from_status(&s))?.ok_or_else(ended)
    }
}

/// A watch that is being opened at the nearest coordinator, while another one goes on.
struct Returning(BoxFuture<'static, Result<Open, Refusal>>);

impl fmt::Debug for Returning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Returning")
    }
}

/// A watch that resumes where it was, at another coordinator if need be, and returns to the nearest one.
#[derive(Debug)]
pub struct StateWatch {
    client: Client,
    /// Silence after which another coordinator is asked; bookmarks come about every second.
    patience: Duration,
    /// What is wanted. The coordinator sends nothing else; one that does not know filters sends all, so it is asked here too.
    filter: WatchFilter,
    position: Option<(ClusterId, Revision)>,
    stream: Option<Open>,
    returning: Option<Returning>,
    home_again: Duration,
    /// The first events of a revision that comes in parts.
    begun: Parts,
    ready: VecDeque<Change>,
    turn: usize,
    failures: u32,
}

impl StateWatch {
    /// Starts with a list. `patience` is the silence after which another coordinator is asked.
    pub fn new(client: Client, patience: Duration) -> Self {
        Self {
            client,
            patience,
            filter: WatchFilter::default(),
            position: None,
            stream: None,
            returning: None,
            home_again: HOME_AGAIN,
            begun: Parts::default(),
            ready: VecDeque::new(),
            turn: 0,
            failures: 0,
        }
    }

    /// Starts after a known position, without a list.
    pub fn resume(client: Client, patience: Duration, cluster_id: ClusterId, after: Revision) -> Self {
        Self {
            position: Some((cluster_id, after)),
            ..Self::new(client, patience)
        }
    }

    /// Of these resources alone: the list has no others, a revision that touches none of them is a [`Change::Bookmark`].
    #[must_use]
    pub fn filtered(self, filter: WatchFilter) -> Self {
        Self { filter, ..self }
    }

    /// The next change; waits as long as it takes, through reconnects. Safe to drop between calls and while waiting.
    pub async fn next(&mut self) -> Change {
        loop {
            if let Some(change) = self.ready.pop_front() {
                return change;
            }
            if let Err(refusal) = self.advance().await {
                (self.stream, self.returning) = (None, None);
                if must_list(&refusal) {
                    tracing::info!(reason = %refusal.reason, "watch must list again: {refusal}");
                    // Once at once. A list that is refused so, or a watch right behind one, waits its turn as whatever else fails.
                    if self.position.take().is_some() && self.failures == 0 {
                        self.failures = 1;
                        continue;
                    }
                }
                if is_too_large(&refusal) {
                    tracing::error!(
                        coordinator_turn = self.turn,
                        "watch cannot go on: message too large: {refusal}"
                    );
                } else {
                    tracing::debug!(reason = %refusal.reason, "watch interrupted: {refusal}");
                }
                self.turn += 1;
                self.failures = (self.failures + 1).min(6);
                sleep(retry::jittered(
                    retry::WAIT_MIN
                        .saturating_mul(1 << self.failures)
                        .min(retry::WAIT_MAX),
                ))
                .await;
            }
        }
    }

    /// One step: list if there is no position, connect if there is no stream, else read one message.
    async fn advance(&mut self) -> Result<(), Refusal> {
        match (self.position, self.stream.is_some()) {
            (None, _) => self.list().await,
            (Some(position), false) => self.connect(position).await,
            (Some(position), true) => self.read(position).await,
        }
    }

    /// Goes on at another coordinator, from a list: what this one gave out cannot be used.
    pub fn elsewhere(&mut self) {
        (self.position, self.stream, self.returning) = (None, None, None);
        self.ready.clear();
        self.turn += 1;
    }

    async fn list(&mut self) -> Result<(), Refusal> {
        let (endpoint, channel) = self.client.channels().pick(self.turn, false)?;
        let mut service = WatchServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
        let mut request = tonic::Request::new(pb::ListRequest {
            read: None,
            filter: Some((&self.filter).into()),
        });
        request.set_timeout(self.patience.saturating_mul(10));
        self.client.channels().name_cluster(request.metadata_mut());
        let answer = timeout(self.patience, service.list(request))
            .await
            .map_err(|_| silent(self.patience))?;
        let mut chunks = answer
            .map_err(|s| refused(&self.client, &endpoint, &s))?
            .into_inner();
        let mut resources = Vec::new();
        loop {
            let chunk = timeout(self.patience, chunks.message())
                .await
                .map_err(|_| silent(self.patience))?;
            let Some(chunk) = chunk.map_err(|s| status::from_status(&s))? else {
                return Err(Refusal::new(
                    Reason::Unreachable,
                    "a list ended before its last chunk",
                ));
            };
            for item in chunk.resources {
                let item = resource(Some(item))?;
                if self.filter.takes(&item.subject()) {
                    resources.push(item);
                }
            }
            if chunk.last {
                let header = Header::read(chunk.header)?;
                self.position = Some((header.cluster_id, header.revision));
                self.stream = None;
                self.ready.push_back(Change::Reset {
                    cluster_id: header.cluster_id,
                    revision: header.revision,
                    resources,
                });
                return Ok(());
            }
        }
    }

    async fn connect(&mut self, position: (ClusterId, Revision)) -> Result<(), Refusal> {
        let at = self.client.channels().pick(self.turn, false)?;
        let opened = open(
            self.client.clone(),
            at,
            self.filter.clone(),
            self.patience,
            position,
        )
        .await?;
        // The server begins again with the first part of what was not whole.
        self.begun.forget();
        self.stream = Some(opened);
        Ok(())
    }

    /// Begins to open a watch at the nearest coordinator, where one that is farther away was watched for long enough.
    fn go_home(&mut self, position: (ClusterId, Revision)) {
        let Some(from) = self.stream.as_mut() else {
            return;
        };
        if self.returning.is_some() || from.stayed.elapsed() < self.home_again {
            return;
        }
        from.stayed = Instant::now();
        if let Some(nearer) = self.client.channels().nearer_than(&from.endpoint) {
            let (client, filter) = (self.client.clone(), self.filter.clone());
            let opening = open_if_fit(client, nearer, filter, self.patience, position);
            self.returning = Some(Returning(opening.boxed()));
        }
    }

    /// The nearest one answered: it is watched from here, unless it cannot be.
    fn come_home(&mut self, opened: Result<Open, Refusal>, known: Revision) {
        self.returning = None;
        match opened {
            Ok(opened) => {
                tracing::debug!(
                    endpoint = opened.endpoint,
                    "watching the nearest coordinator again"
                );
                self.begun.forget();
                (self.turn, self.failures) = (0, 0);
                self.stream = Some(Open {
                    known: Some(known),
                    ..opened
                });
            }
            Err(refusal) => tracing::debug!("the nearest coordinator cannot be watched yet: {refusal}"),
        }
    }

    async fn read(&mut self, (cluster_id, after): (ClusterId, Revision)) -> Result<(), Refusal> {
        self.go_home((cluster_id, after));
        let Some(stream) = self.stream.as_mut() else {
            return Ok(());
        };
        let returning: OptionFuture<_> = self.returning.as_mut().map(|r| &mut r.0).into();
        let message = tokio::select! {
            message = stream.next(self.patience) => message?,
            Some(opened) = returning => {
                self.come_home(opened, after);
                return Ok(());
            }
        };
        let known = stream.known;
        self.failures = 0;
        let header = Header::read(message.header)?;
        if header.cluster_id != cluster_id {
            let text = format!("watch of cluster {cluster_id} answered by {}", header.cluster_id);
            return Err(Refusal::new(Reason::WrongCluster, text));
        }
        if known.is_some_and(|known| header.revision <= known) {
            return Ok(());
        }
        let part = self.begun.add(header.revision, message.events, message.more)?;
        let Some(events) = part else {
            return Ok(());
        };
        let Some(change) = step(&self.filter, after, header.revision, events)? else {
            return Ok(());
        };
        self.position = Some((cluster_id, header.revision));
        self.ready.push_back(change);
        Ok(())
    }
}

/// Opens a watch from `after` on, within `patience`.
async fn open(
    client: Client,
    (endpoint, channel): (String, Channel),
    filter: WatchFilter,
    patience: Duration,
    (cluster_id, after): (ClusterId, Revision),
) -> Result<Open, Refusal> {
    let mut request = tonic::Request::new(pb::WatchRequest {
        cluster_id: cluster_id.to_string(),
        after_revision: after.0,
        filter: Some((&filter).into()),
    });
    client.channels().name_cluster(request.metadata_mut());
    let mut service = WatchServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
    let answer = timeout(patience, service.watch(request))
        .await
        .map_err(|_| silent(patience))?;
    let messages = answer.map_err(|s| refused(&client, &endpoint, &s))?.into_inner();
    Ok(Open {
        endpoint,
        messages,
        first: None,
        stayed: Instant::now(),
        known: None,
    })
}

/// The same at a coordinator that hears a leader, once it has said something: whoever is well where it is does not leave for one that
/// knows of nothing new, or falls silent.
async fn open_if_fit(
    client: Client,
    endpoint: String,
    filter: WatchFilter,
    patience: Duration,
    position: (ClusterId, Revision),
) -> Result<Open, Refusal> {
    let unfit = |why: &str| Refusal::new(Reason::Unreachable, format!("{endpoint} {why}"));
    let (_, status) = how_is(client.channels(), endpoint.clone(), patience)
        .await
        .ok_or_else(|| unfit("does not say how it is"))?;
    if !status.has_quorum {
        return Err(unfit("has no quorum"));
    }
    let channel = client.channels().open(&endpoint)?;
    let mut opened = open(client, (endpoint, channel), filter, patience, position).await?;
    opened.first = Some(opened.next(patience).await?);
    Ok(opened)
}

fn refused(client: &Client, endpoint: &str, status: &tonic::Status) -> Refusal {
    let refusal = status::from_status(status);
    if refusal.operand(MEANT).is_some() {
        client.channels().stranger(endpoint);
    }
    refusal
}

fn silent(patience: Duration) -> Refusal {
    Refusal::new(Reason::Unreachable, format!("no message within {patience:?}"))
}

/// Whether the position is none to go on from. So is what a later version refuses as out of range, for whatever reason: from
/// there it is refused for ever. One of another cluster than the own says nothing of where this watch stands.
fn must_list(refusal: &Refusal) -> bool {
    let is_lost = matches!(
        refusal.reason,
        Reason::Compacted | Reason::WrongCluster | Reason::FutureRevision
    );
    is_lost && refusal.operand(MEANT).is_none()
}

/// Whether a message was larger than it may be: asking again brings the same, and somebody has to be told.
fn is_too_large(refusal: &Refusal) -> bool {
    refusal.operand("grpc_code") == Some("OutOfRange")
}

/// What a message means for a watch that stands at `after`: nothing, if it was seen already.
fn step(
    filter: &WatchFilter,
    after: Revision,
    revision: Revision,
    events: Vec<pb::Event>,
) -> Result<Option<Change>, Refusal> {
    if !events.is_empty() && revision <= after {
        let text = format!("events of {revision} came after those of {after}");
        return Err(Refusal::new(Reason::Compacted, text));
    }
    let read = |e: pb::Event| {
        Ok(Event {
            kind: e.kind,
            resource: resource(e.resource)?,
            deleted: e.deleted,
        })
    };
    let mut events = events
        .into_iter()
        .map(read)
        .collect::<Result<Vec<_>, Refusal>>()?;
    events.retain(|event| filter.takes(&event.resource.subject()));
    if events.is_empty() {
        return Ok((revision > after).then_some(Change::Bookmark { revision }));
    }
    Ok(Some(Change::Events { revision, events }))
}
