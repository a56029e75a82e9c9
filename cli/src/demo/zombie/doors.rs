//! One writer per door: each knows how to write there once, and what the answer means.

use std::{collections::BTreeMap, time::Duration};

use client::{AgentClient, Callee, Credentials, channel::lazy_channel, retry::mint_request_id};
use proto::{
    convert::status,
    v1::{self as pb, registry_service_client::RegistryServiceClient},
};
use tonic::transport::Channel;
use types::{
    Epoch, FencingToken, VersionKey,
    reason::{Category, Reason, Refusal},
};

use super::{
    DEADLINE,
    config::ZombieConfig,
    log::{Begun, Told},
};
use crate::{
    demo::doors::{Attempt, Outcome, REGISTRY},
    error::Failure,
};

/// The tag that the registry's writer counts in.
const FENCE_TAG: &str = "demo.fence";

/// A door as its writer sees it.
pub(super) trait Door: Send {
    /// Writes once under `token`; none if there was nothing to write with.
    fn write(&mut self, token: &FencingToken) -> impl Future<Output = Option<Attempt>> + Send;
}

/// What a refusal of `regent.v1` told.
fn told(refusal: &Refusal) -> Told {
    let named = || refusal.operand("current").and_then(|t| t.parse::<Epoch>().ok());
    match refusal.reason {
        Reason::StaleEpoch => Told::stale(named(), refusal.reason),
        reason if reason.category() == Category::Unknown || reason == Reason::Internal => {
            Told::new(Outcome::Unknown, &refusal.message)
        }
        reason => Told::new(Outcome::NoEffect, reason),
    }
}

/// SetModelTags at the leader, a fresh request id each.
#[derive(Debug)]
pub(super) struct RegistryDoor {
    tls: Credentials,
    endpoints: Vec<String>,
    open: BTreeMap<String, Channel>,
    /// Whom to ask: the leader as far as the last answer told, else the next in turn.
    ask: String,
    turn: usize,
    model: String,
    sequence: u64,
}

impl RegistryDoor {
    pub(super) fn new(config: &ZombieConfig) -> Result<Self, Failure> {
        let ask = config.coordinators.first().cloned();
        Ok(Self {
            tls: config.tls.load()?,
            ask: ask.ok_or_else(|| Failure::usage("`coordinators` names none"))?,
            endpoints: config.coordinators.clone(),
            open: BTreeMap::new(),
            turn: 0,
            model: config.version.model.to_string(),
            sequence: 0,
        })
    }

    fn channel(&mut self) -> Result<Channel, Refusal> {
        if let Some(channel) = self.open.get(&self.ask) {
            return Ok(channel.clone());
        }
        let channel = lazy_channel(&self.ask, &self.tls, Callee::AnyCoordinator)?;
        self.open.insert(self.ask.clone(), channel.clone());
        Ok(channel)
    }

    async fn call(&mut self, id: &str, token: &FencingToken) -> Result<(), Refusal> {
        self.sequence += 1;
        let mut request = tonic::Request::new(pb::SetModelTagsRequest {
            request_id: id.to_owned(),
            model: self.model.clone(),
            set: [(FENCE_TAG.to_owned(), self.sequence.to_string())].into(),
            remove: Vec::new(),
            etag: String::new(),
            token: Some(token.into()),
            validate_only: false,
        });
        request.set_timeout(DEADLINE);
        let mut client = RegistryServiceClient::new(self.channel()?);
        match tokio::time::timeout(DEADLINE, client.set_model_tags(request)).await {
            Ok(answer) => answer.map(drop).map_err(|s| status::from_status(&s)),
            Err(_) => Err(Refusal::new(Reason::OutcomeUnknown, "no answer in time")),
        }
    }

    /// Follows the hint; without one asks the next.
    fn turn_to_another(&mut self, refusal: &Refusal) {
        let hint = refusal
            .operand("leader_api_endpoint")
            .or_else(|| refusal.operand("leader_api"));
        match hint.filter(|h| h.starts_with("https://") && *h != self.ask) {
            Some(leader) => leader.clone_into(&mut self.ask),
            None => {
                self.turn = (self.turn + 1) % self.endpoints.len();
                self.ask.clone_from(&self.endpoints[self.turn]);
            }
        }
    }
}

impl Door for RegistryDoor {
    async fn write(&mut self, token: &FencingToken) -> Option<Attempt> {
        let id = mint_request_id().to_string();
        let begun = Begun::now(REGISTRY, &id, token);
        let told = match self.call(&id, token).await {
            Ok(()) => Told::new(Outcome::Accepted, ""),
            Err(refusal) => {
                if refusal.reason.retryable() {
                    self.turn_to_another(&refusal);
                }
                told(&refusal)
            }
        };
        Some(begun.ended(told))
    }
}

/// ServeVersion at one agent.
#[derive(Debug)]
pub(super) struct AgentDoor {
    door: String,
    client: AgentClient,
    version: VersionKey,
    count: u64,
}

impl AgentDoor {
    pub(super) fn new(door: String, endpoint: &str, config: &ZombieConfig) -> Result<Self, Failure> {
        Ok(Self {
            door,
            client: AgentClient::new(endpoint, &config.tls, DEADLINE)?,
            version: config.version.clone(),
            count: 0,
        })
    }
}

impl Door for AgentDoor {
    async fn write(&mut self, token: &FencingToken) -> Option<Attempt> {
        self.count += 1;
        let begun = Begun::now(&self.door, self.count, token);
        let told = match self.client.serve_version(token, &self.version).await {
            Ok(_) => Told::new(Outcome::Accepted, ""),
            Err(refusal) => told(&refusal),
        };
        Some(begun.ended(told))
    }
}

/// How long a writer waits between the beginnings of two writes.
pub(super) const INTERVAL: Duration = Duration::from_millis(20);
