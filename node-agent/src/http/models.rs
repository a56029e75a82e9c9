//! Loading and unloading by hand. Changes what this node keeps in memory, so it is for callers on this machine only.

use std::{net::SocketAddr, time::Instant};

use axum::{
    Json,
    extract::{ConnectInfo, Path, State},
    http::{HeaderMap, StatusCode},
};
use serde_json::{Value, json};
use types::{ModelName, Reason, VersionKey};

use super::{
    HttpError, HttpState,
    request::{self, Call},
};

pub(super) async fn load(
    State(state): State<HttpState>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, HttpError> {
    let (call, key) = begin(&state, peer, &id, &headers)?;
    let (mut added, mut freed) = (false, false);
    state.wishes.send_modify(|wishes| {
        freed = wishes.unload.remove(&key);
        added = wishes.load.insert(key.clone());
    });
    let loaded = wait_until(&state, &call, &key, true).await;
    if let Err(error) = &loaded
        && error.reason == Reason::ModelInvalid.as_str()
    {
        // Nobody goes on trying what the caller was told has failed.
        take_back(&state, &key, added, freed);
    }
    loaded?;
    Ok(Json(
        json!({"model": key.model.as_str(), "version": key.version.to_string(), "loaded": true}),
    ))
}

pub(super) async fn unload(
    State(state): State<HttpState>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, HttpError> {
    let (call, key) = begin(&state, peer, &id, &headers)?;
    state.wishes.send_modify(|wishes| {
        wishes.load.remove(&key);
        wishes.unload.insert(key.clone());
    });
    wait_until(&state, &call, &key, false).await?;
    Ok(Json(
        json!({"model": key.model.as_str(), "version": key.version.to_string(), "loaded": false}),
    ))
}

/// Leaves the wishes as they were before a call that failed.
fn take_back(state: &HttpState, key: &VersionKey, added: bool, freed: bool) {
    state.wishes.send_if_modified(|wishes| {
        // Another call may have wished for the opposite meanwhile, and that stands.
        let taken = added && wishes.load.remove(key);
        if taken && freed {
            wishes.unload.insert(key.clone());
        }
        taken
    });
}

fn begin(
    state: &HttpState,
    peer: SocketAddr,
    id: &str,
    headers: &HeaderMap,
) -> Result<(Call, VersionKey), HttpError> {
    if !peer.ip().is_loopback() {
        let text = format!("models are loaded and unloaded from this machine only, and {peer} is another");
        return Err(HttpError::new(
            StatusCode::FORBIDDEN,
            Reason::PermissionDenied.as_str(),
            text,
        ));
    }
    Ok((Call::begin(state, headers)?, which(state, id)?))
}

/// `name@version` as it says; `name` alone is its champion, else its newest version here.
fn which(state: &HttpState, id: &str) -> Result<VersionKey, HttpError> {
    let (model, version) = request::split(id)?;
    let board = state.board.borrow();
    let known = || {
        board
            .copies
            .keys()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let not_found = |what: String| {
        let text = format!(
            "{what} has no verified copy in this region; known are: {}",
            known()
        );
        HttpError::new(StatusCode::NOT_FOUND, Reason::ModelNotFound.as_str(), text)
    };
    let name = ModelName::new(model).map_err(|e| HttpError::invalid(e.to_string()))?;
    let of_model = || board.copies.keys().filter(|k| k.model == name);
    let champion = board.champions.get(&name).copied();
    let version = version
        .or(champion)
        .or_else(|| of_model().map(|k| k.version).max())
        .ok_or_else(|| not_found(format!("model {model:?}")))?;
    let key = VersionKey { model: name, version };
    if board.copies.contains_key(&key) {
        Ok(key)
    } else {
        Err(not_found(key.to_string()))
    }
}

async fn wait_until(state: &HttpState, call: &Call, key: &VersionKey, loaded: bool) -> Result<(), HttpError> {
    let mut changes = state.serving.changes();
    let mut board = state.board.clone();
    let done = async {
        loop {
            changes.borrow_and_update();
            let gone = !state.serving.memory().contains_key(key);
            if if loaded {
                state.serving.is_loaded(key)
            } else {
                gone
            } {
                return Ok(());
            }
            if let Some(error) = board.borrow_and_update().load_errors.get(key).filter(|_| loaded) {
                return Err(HttpError::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    Reason::ModelInvalid.as_str(),
                    error.clone(),
                ));
            }
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return Err(stopping()) },
                changed = board.changed() => if changed.is_err() { return Err(stopping()) },
            }
        }
    };
    let left = call.deadline.saturating_duration_since(Instant::now());
    tokio::time::timeout(left, done).await.unwrap_or_else(|_| {
        let text = format!("{key} was not there in time; the work goes on, ask again");
        Err(HttpError::new(
            StatusCode::GATEWAY_TIMEOUT,
            "DEADLINE_EXCEEDED",
            text,
        ))
    })
}

fn stopping() -> HttpError {
    HttpError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        Reason::NotServing.as_str(),
        "this agent is stopping",
    )
}
