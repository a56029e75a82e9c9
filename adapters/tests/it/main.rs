//! The guard in a real PostgreSQL, started by each test in a directory of its own and ended with it.
//!
//! Without the server's programs a test says that it was skipped; `REGENT_REQUIRE_TOOLS=1` makes that a failure.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; a failure must name its line"
)]

mod attach;
mod bypass;
mod guard;
mod isolation;
mod raise;
mod rebind;
mod server;
mod tls;
