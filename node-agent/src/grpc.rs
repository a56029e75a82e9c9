//! `AgentService`: status, the token of a held role, pointers that may be used (I5), and the privileged `ServeVersion` behind the
//! door (L13).

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use artifact_store::pointer::PointerBody;
use client::guard::BootInstant;
use proto::{
    convert::{self, regions, registry, status::to_status},
    v1::{self as pb, agent_service_server::AgentService},
};
use tokio::{sync::watch, time::timeout};
use tonic::{Request, Response, Status};
use types::{Principal, Reason, Revision, VersionKey, reason::Refusal};

use crate::{
    board::Board,
    desired::LocalWishes,
    door::Door,
    identity,
    pins::Pins,
    pointer_room::PointerRoom,
    pointers::Pointers,
    privileged::{Called, activate},
    roles::Roles,
    serving::Serving,
};

/// How long a privileged call waits for a version to be loaded.
const LOAD_LIMIT: Duration = Duration::from_secs(30);

/// What the service answers from; clones share it.
#[derive(Clone)]
pub struct AgentApi(Arc<Parts>);

/// See [`AgentApi`].
pub struct Parts {
    /// How this node stands.
    pub board: watch::Receiver<Board>,
    /// Roles held.
    pub roles: Roles,
    /// The door.
    pub door: Door,
    /// Readers of pointers.
    pub pointers: Pointers,
    /// Models in memory.
    pub serving: Serving,
    /// What to keep in memory.
    pub wishes: watch::Sender<LocalWishes>,
    /// Versions pinned by privileged calls.
    pub pins: Arc<Mutex<Pins>>,
    /// Room for reads of pointers.
    pub pointer_room: PointerRoom,
}

impl AgentApi {
    /// Takes what the service answers from.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
}

#[tonic::async_trait]
impl AgentService for AgentApi {
    async fn get_agent_status(
        &self,
        request: Request<pb::GetAgentStatusRequest>,
    ) -> Result<Response<pb::GetAgentStatusResponse>, Status> {
        identity::of_request(&request).map_err(|r| to_status(&r))?;
        Ok(Response::new(self.0.status().await))
    }

    async fn get_token(
        &self,
        request: Request<pb::GetTokenRequest>,
    ) -> Result<Response<pb::GetTokenResponse>, Status> {
        let answer = identity::of_request(&request).and_then(|caller| {
            self.0.may_have_tokens(&caller)?;
            let asked = request.get_ref();
            let role = convert::text("role", &asked.role)?;
            match asked.at_most_millis {
                0 => self.0.roles.token(&role),
                millis => self.0.roles.token_for(&role, Duration::from_millis(millis)),
            }
        });
        let (token, valid_until) = answer.map_err(|r| to_status(&r))?;
        Ok(Response::new(pb::GetTokenResponse {
            token: Some((&token).into()),
            lease_left_millis: millis(valid_until.since(BootInstant::now())),
        }))
    }

    async fn read_pointer(
        &self,
        request: Request<pb::ReadPointerRequest>,
    ) -> Result<Response<pb::ReadPointerResponse>, Status> {
        let caller = identity::of_request(&request).map_err(|r| to_status(&r))?;
        let body = self.0.read_pointer(&caller, request.get_ref()).await;
        let pointer = body.map_err(|r| to_status(&r))?.as_ref().map(pointer);
        Ok(Response::new(pb::ReadPointerResponse { pointer }))
    }

    async fn serve_version(
        &self,
        request: Request<pb::ServeVersionRequest>,
    ) -> Result<Response<pb::ServeVersionResponse>, Status> {
        let caller = identity::of_request(&request).map_err(|r| to_status(&r))?;
        let answer = self.0.serve_version(&caller, request.into_inner()).await;
        let floor_epoch = answer.map_err(|r| to_status(&r))?;
        Ok(Response::new(pb::ServeVersionResponse { floor_epoch }))
    }
}

impl Parts {
    /// Tokens are for processes of this region, which act through this holder (L2), and for operators.
    fn may_have_tokens(&self, caller: &Principal) -> Result<(), Refusal> {
        let own = &self.board.borrow().me.region;
        match caller {
            Principal::Agent { region, .. } if region == own => Ok(()),
            Principal::User { .. } => Ok(()),
            Principal::Agent { .. } | Principal::Coordinator { .. } => {
                let text =
                    format!("{caller} is not of region {own}; tokens are given to its own processes only");
                Err(Refusal::new(Reason::PermissionDenied, text))
            }
        }
    }

    async fn read_pointer(
        &self,
        caller: &Principal,
        request: &pb::ReadPointerRequest,
    ) -> Result<Option<PointerBody>, Refusal> {
        may_read_pointers(caller)?;
        let role = convert::text("role", &request.role)?;
        let region = convert::text("region", &request.region)?;
        let _place = self.pointer_room.enter(&region)?;
        self.pointers.read(&role, &region).await
    }

    async fn serve_version(
        &self,
        caller: &Principal,
        request: pb::ServeVersionRequest,
    ) -> Result<u64, Refusal> {
        let token = regions::token(request.token)?;
        let key = registry::version_key(&request.model, request.version)?;
        let entry = self.door.enter("ServeVersion", &key.model, caller, token).await?;
        let called = match self.bring_in(&key).await {
            Ok(called) => called,
            Err(refusal) => return Err(self.door.fail(entry, refusal).await),
        };
        let activate = || {
            let after = self.champion_moved(&key)?;
            activate(&self.serving, &self.pins, &self.wishes, &key, after)
        };
        let ((), epoch) = self.door.commit(entry, activate).await?;
        // The pin keeps the version from here on.
        drop(called);
        Ok(epoch.as_u64())
    }

    /// When `champion` was moved last, as far as this node knows; refused until it knows anything, because what it is told
    /// then would look like a later move.
    fn champion_moved(&self, key: &VersionKey) -> Result<Revision, Refusal> {
        let board = self.board.borrow();
        if board.cluster_id.is_none() {
            let text = "this agent has not read the registry yet; try again in a moment";
            return Err(Refusal::new(Reason::NotServing, text).with("version", key));
        }
        Ok(board.moved.get(&key.model).copied().unwrap_or_default())
    }

    /// Has the version brought into memory, and kept there for as long as the call lasts.
    async fn bring_in(&self, key: &VersionKey) -> Result<Called<'_>, Refusal> {
        let called = Called::new(&self.wishes, key);
        if self.serving.is_loaded(key) {
            return Ok(called);
        }
        if !self.board.borrow().copies.contains_key(key) {
            let text = format!("{key} has no verified copy in this region");
            return Err(Refusal::new(Reason::VersionNotFound, text).with("version", key));
        }
        let loaded = timeout(LOAD_LIMIT, self.loaded(key)).await;
        let loaded = loaded.unwrap_or_else(|_| {
            let text = format!("{key} was not loaded within {LOAD_LIMIT:?}");
            Err(Refusal::new(Reason::ModelInvalid, text).with("version", key))
        });
        loaded.map(|()| called)
    }

    /// Waits until a version is loaded, or failed to.
    async fn loaded(&self, key: &VersionKey) -> Result<(), Refusal> {
        let (mut changes, mut board) = (self.serving.changes(), self.board.clone());
        loop {
            changes.borrow_and_update();
            if self.serving.is_loaded(key) {
                return Ok(());
            }
            if let Some(error) = board.borrow_and_update().load_errors.get(key) {
                return Err(Refusal::new(Reason::ModelInvalid, error.clone()).with("version", key));
            }
            let alive = tokio::select! {
                changed = changes.changed() => changed.is_ok(),
                changed = board.changed() => changed.is_ok(),
            };
            if !alive {
                return Err(Refusal::new(Reason::NotServing, "this agent is stopping"));
            }
        }
    }

    async fn status(&self) -> pb::GetAgentStatusResponse {
        let floors = self.door.floors().await;
        let held = self.roles.held();
        let board = self.board.borrow();
        pb::GetAgentStatusResponse {
            region: board.me.region.to_string(),
            node: board.me.node.to_string(),
            incarnation: board.me.incarnation.to_string(),
            cluster_id: board.cluster_id.map(|id| id.to_string()).unwrap_or_default(),
            revision: board.revision.0,
            stays_behind: board.stays_behind.clone().unwrap_or_default(),
            session_open: board.session.is_some(),
            session_with: board.session.clone().unwrap_or_default(),
            ready: board.ready.is_ok(),
            not_ready_reason: board.ready.as_ref().err().cloned().unwrap_or_default(),
            held: held
                .iter()
                .filter(|h| !h.lease_left.is_zero())
                .map(held_role)
                .collect(),
            floors: floors.iter().map(floor).collect(),
            served: self.served(&board),
        }
    }

    fn served(&self, board: &Board) -> Vec<pb::ServedVersion> {
        let loaded: BTreeSet<_> = self
            .serving
            .describe()
            .into_iter()
            .map(|(key, _, _)| key)
            .collect();
        // The board may not know yet of what has just been loaded.
        let unloaded = (board.unloaded.iter().chain(&board.missing)).filter(|key| !loaded.contains(key));
        let version = |key: &VersionKey, loaded: bool| pb::ServedVersion {
            model: key.model.to_string(),
            version: key.version.0,
            loaded,
            error: (board.why_unloaded(key).filter(|_| !loaded))
                .unwrap_or_default()
                .to_owned(),
            defective: !loaded && board.defective.contains(key),
        };
        let answers = loaded.iter().map(|key| version(key, true));
        answers.chain(unloaded.map(|key| version(key, false))).collect()
    }
}

/// Pointers are for whoever follows them: agents of every region, because a role's pointers stand in all of them, and people
/// and programs. No coordinator does: they touch nothing in stores, and each read asks one of them, so that one which waited
/// for an answer here would wait for itself.
fn may_read_pointers(caller: &Principal) -> Result<(), Refusal> {
    match caller {
        Principal::Agent { .. } | Principal::User { .. } => Ok(()),
        Principal::Coordinator { .. } => {
            let text = format!("{caller} is a coordinator; pointers are read for agents and users only");
            Err(Refusal::new(Reason::PermissionDenied, text).with("caller", caller))
        }
    }
}

fn held_role(held: &crate::roles::Held) -> pb::HeldRole {
    pb::HeldRole {
        role: held.token.role.to_string(),
        epoch: held.token.epoch.as_u64(),
        lease_left_millis: millis(held.lease_left),
        active: held.active,
    }
}

fn pointer(body: &PointerBody) -> pb::Pointer {
    pb::Pointer {
        token: Some((&body.token()).into()),
        sequence: body.sequence,
        nonce: body.nonce.clone(),
        target: body.target.map(|target| target.to_string()).unwrap_or_default(),
        tombstone: body.tombstone,
    }
}

fn floor(floor: &policy::fence::Floor) -> pb::Floor {
    pb::Floor {
        role: floor.role.to_string(),
        epoch: floor.epoch.as_u64(),
        holder: floor.holder.as_ref().map(Into::into),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
