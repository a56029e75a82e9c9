//! `/health` and `/metrics`.

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
};
use serde_json::{Value, json};

use super::HttpState;
use crate::board::Board;

/// 200 when every check passes, else 503; each check says what it saw. That a 503 came at all tells a shallow probe that
/// the region can be reached.
pub(super) async fn health(State(state): State<HttpState>) -> (StatusCode, Json<Value>) {
    let ready = state.ready();
    // No other look at the board within this one: it would wait behind a writer that waits for this one.
    let board = state.board.borrow();
    let check = |ok: bool, detail: String| json!({"ok": ok, "detail": detail});
    let models = match &ready {
        Ok(()) => check(true, loaded(&board, state.serving.memory().len())),
        Err(why) => check(false, why.clone()),
    };
    let session = match &board.session {
        Some(endpoint) => check(true, format!("with {endpoint}")),
        None => check(false, "no coordinator has a session with this agent".to_owned()),
    };
    // Inference goes on without the control plane (I10), so a lost session alone keeps nobody from asking here.
    let ok = ready.is_ok();
    let status = if ok {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let cluster = match &board.stays_behind {
        Some(why) => check(false, why.clone()),
        None => check(
            true,
            board
                .cluster_id
                .map_or_else(|| "none yet".to_owned(), |id| id.to_string()),
        ),
    };
    let mut checks = json!({"models": models, "session": session, "cluster": cluster});
    // A database that is no door stops writers, not inference: it is said, and keeps nobody from asking here.
    for (database, standing) in &board.databases {
        let (Ok(detail) | Err(detail)) = standing;
        checks[format!("postgres/{database}")] = check(standing.is_ok(), detail.clone());
    }
    let body = json!({
        "status": if ok { "ok" } else { "unready" },
        "region": board.me.region.as_str(),
        "node": board.me.node.as_str(),
        "checks": checks,
    });
    (status, Json(body))
}

fn loaded(board: &Board, count: usize) -> String {
    let rest = board.unloaded.iter().map(|key| match board.why_unloaded(key) {
        Some(error) => format!("; {key} does not load: {error}"),
        None => format!("; {key} is on its way"),
    });
    std::iter::once(format!("{count} versions loaded"))
        .chain(rest)
        .collect()
}

pub(super) async fn metrics(State(state): State<HttpState>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, kind)], state.metrics.render())
}
