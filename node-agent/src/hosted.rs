//! Services that run beside this agent: registered under its run, as its config names them.
//!
//! Absent on purpose: looking whether they answer. What ends while the agent lives is taken out of the config, or deregistered by a
//! person. Invariant: only what this agent registered is taken back by it; what a person registered on this node stays.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use client::{Client, Complaint, calls::Offer, retry};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use types::{
    Holder, Principal,
    reason::Refusal,
    region::NodeStatus,
    service::{ServiceKey, ServiceRecord},
};

use crate::{config::ServiceSection, view::View};

/// First wait after a try failed; doubles up to [`WAIT_MAX`].
const WAIT_MIN: Duration = Duration::from_millis(200);
/// Longest wait between two tries: during a rolling upgrade the cluster may not know services for long.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// What closes the difference between the config and the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Says what is offered.
    Register(ServiceKey, Offer),
    /// Takes back what is offered no more.
    Deregister(ServiceKey),
}

/// An instance as the config has it.
pub type Wanted = (ServiceKey, Offer);

/// What the config says, under this node's name.
pub fn wanted(sections: &[ServiceSection], me: &Holder, host: &str) -> Vec<Wanted> {
    // As callers connect to it: an address in a URL stands in brackets where it is one of IPv6.
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let instance = |section: &ServiceSection| {
        let key = ServiceKey {
            service: section.name.clone(),
            node: me.node.clone(),
            port: section.port,
        };
        let offer = Offer {
            address: section.address.clone().unwrap_or_else(|| host.to_owned()),
            protocol: section.protocol,
            labels: section.labels.clone(),
        };
        (key, offer)
    };
    sections.iter().map(instance).collect()
}

/// What to do next; nothing before the registry knows this run, or while it takes it for dead: it would be refused.
pub fn next(wanted: &[Wanted], me: &Holder, view: &View) -> Vec<Step> {
    let known = view.nodes.get(&me.node);
    if !known.is_some_and(|n| n.incarnation == me.incarnation && n.status == NodeStatus::Up) {
        return Vec::new();
    }
    let own = Principal::Agent {
        region: me.region.clone(),
        node: me.node.clone(),
    };
    let is_there = |(key, offer): &&Wanted| view.services.get(key).is_some_and(|known| is_as(known, offer));
    let missing = wanted.iter().filter(|instance| !is_there(instance));
    let missing = missing.map(|(key, offer)| Step::Register(key.clone(), offer.clone()));
    let is_surplus = |known: &&ServiceRecord| {
        let is_own = known.key.node == me.node && known.registered_by == own;
        is_own && wanted.iter().all(|(key, _)| *key != known.key)
    };
    let surplus = view.services.values().filter(is_surplus);
    missing
        .chain(surplus.map(|known| Step::Deregister(known.key.clone())))
        .collect()
}

fn is_as(known: &ServiceRecord, offer: &Offer) -> bool {
    known.address == offer.address && known.protocol == offer.protocol && known.labels == offer.labels
}

/// Keeps the registry as the config says.
pub(crate) struct Hosting {
    /// This run.
    pub(crate) me: Holder,
    /// What it hosts.
    pub(crate) wanted: Vec<Wanted>,
    /// The cluster.
    pub(crate) client: Client,
    /// What the registry knows.
    pub(crate) view: watch::Receiver<Arc<View>>,
    /// What this run has registered: the view may not show it yet.
    said: BTreeSet<ServiceKey>,
}

impl Hosting {
    /// Nothing is registered yet.
    pub(crate) fn new(
        me: Holder,
        wanted: Vec<Wanted>,
        client: Client,
        view: watch::Receiver<Arc<View>>,
    ) -> Self {
        Self {
            me,
            wanted,
            client,
            view,
            said: BTreeSet::new(),
        }
    }

    /// Closes the difference whenever there is one, until `stop`; then takes back what it offers, in one short try: else it would look
    /// healthy until the session is missed.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let keep = async {
            let mut failures: u32 = 0;
            let mut complaint = Complaint::default();
            loop {
                let view = Arc::clone(&self.view.borrow_and_update());
                let steps = next(&self.wanted, &self.me, &view);
                match self.take(steps).await {
                    Ok(()) => {
                        (failures, complaint) = (0, Complaint::default());
                        if self.view.changed().await.is_err() {
                            return;
                        }
                    }
                    Err(refusal) => {
                        if let Some(why) = complaint.news("", &refusal.to_string()) {
                            tracing::warn!(node = %self.me.node, "services not registered: {why}");
                        }
                        failures = (failures + 1).min(8);
                        let wait = WAIT_MIN.saturating_mul(1 << failures).min(WAIT_MAX);
                        tokio::time::sleep(retry::jittered(wait)).await;
                    }
                }
            }
        };
        stop.run_until_cancelled(keep).await;
        self.withdraw().await;
    }

    async fn take(&mut self, steps: Vec<Step>) -> Result<(), Refusal> {
        for step in steps {
            match step {
                Step::Register(key, offer) => {
                    let run = Some(self.me.incarnation);
                    // Also of one whose answer is lost.
                    self.said.insert(key.clone());
                    self.client.register_service(&key, run, &offer).await?;
                    tracing::info!(service = %key, "registered");
                }
                Step::Deregister(key) => self.deregister(&key).await?,
            }
        }
        Ok(())
    }

    /// What is gone already is as it should be.
    async fn deregister(&self, key: &ServiceKey) -> Result<(), Refusal> {
        match self
            .client
            .deregister_service(key, Some(self.me.incarnation))
            .await
        {
            Ok(_) => tracing::info!(service = %key, "deregistered"),
            Err(refusal) if refusal.reason == types::Reason::ServiceNotFound => {}
            Err(refusal) => return Err(refusal),
        }
        Ok(())
    }

    async fn withdraw(&mut self) {
        let view = Arc::clone(&self.view.borrow());
        let seen = next(&[], &self.me, &view);
        let said = std::mem::take(&mut self.said);
        let unseen = said.into_iter().map(Step::Deregister);
        let unseen = unseen.filter(|step| !seen.contains(step)).collect::<Vec<_>>();
        let steps = seen.into_iter().chain(unseen).collect();
        let taken = tokio::time::timeout(WITHDRAW_LIMIT, self.take(steps)).await;
        if !matches!(taken, Ok(Ok(()))) {
            tracing::warn!(node = %self.me.node, "services end with the session: they could not be deregistered");
        }
    }
}

/// Time to take services back while the agent stops.
const WITHDRAW_LIMIT: Duration = Duration::from_secs(1);
