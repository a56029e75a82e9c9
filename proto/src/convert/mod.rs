//! pb ↔ types: `TryFrom`-like functions inwards that name the field at fault, `From` outwards.

use std::{str::FromStr, time::Duration};

use types::reason::{Reason, Refusal};

pub mod experiments;
pub mod history;
pub mod preferences;
pub mod primaries;
pub mod rebinds;
pub mod regions;
pub mod registry;
pub mod services;
pub mod status;
pub mod watch;

/// The header by which a caller says which cluster it means. A coordinator of another one refuses the call, whatever it asks for, with
/// an operand [`MEANT`].
pub const CLUSTER_HEADER: &str = "regent-cluster";
/// The operand of WRONG_CLUSTER that names the cluster which the caller meant: another coordinator may be of that one.
pub const MEANT: &str = "meant";

/// A conversion inwards: the value, or an INVALID_ARGUMENT that names the field.
pub type Parsed<T> = Result<T, Refusal>;

/// The refusal for a field that is not well formed.
pub fn invalid(field: &str, why: impl std::fmt::Display) -> Refusal {
    Refusal::new(Reason::InvalidArgument, format!("{field}: {why}")).with("field", field)
}

/// Reads a text field with the type's own parser.
pub fn text<T: FromStr<Err: std::fmt::Display>>(field: &str, value: &str) -> Parsed<T> {
    value.parse().map_err(|e| invalid(field, e))
}

/// Takes a message field that must be there.
pub fn required<T>(field: &str, value: Option<T>) -> Parsed<T> {
    value.ok_or_else(|| invalid(field, "is missing"))
}

/// Reads an etag: empty means unconditional.
pub fn etag(value: &str) -> Parsed<Option<types::Revision>> {
    if value.is_empty() {
        return Ok(None);
    }
    let revision = value
        .parse()
        .map_err(|_| invalid("etag", format!("{value:?} is no revision number")))?;
    Ok(Some(types::Revision(revision)))
}

/// Reads a request id, which must be a UUIDv7.
pub fn request_id(value: &str) -> Parsed<types::RequestId> {
    let id: types::RequestId = text("request_id", value)?;
    if id.is_v7() {
        Ok(id)
    } else {
        Err(invalid("request_id", format!("{id} is no UUIDv7")))
    }
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// 0 on the wire means none.
pub(crate) fn optional_time(time: Option<types::UnixMillis>) -> u64 {
    time.map_or(0, |t| t.0)
}

pub(crate) fn time_from(millis: u64) -> Option<types::UnixMillis> {
    (millis != 0).then_some(types::UnixMillis(millis))
}

/// Two-way table between a wire enum and one of ours; an unspecified or unknown number names the field.
macro_rules! enum_table {
    ($to:ident, $from:ident, $field:literal, $ours:ty, $pb:ty, { $($o:path = $p:path,)* }) => {
        #[doc = concat!("Our ", stringify!($ours), " on the wire.")]
        pub fn $to(value: $ours) -> i32 {
            match value { $($o => $p as i32,)* }
        }
        #[doc = concat!("Reads a ", stringify!($ours), "; the error names the field.")]
        pub fn $from(value: i32) -> $crate::convert::Parsed<$ours> {
            $(if value == $p as i32 { return Ok($o); })*
            Err($crate::convert::invalid($field, format!("unknown value {value}")))
        }
    };
}
pub(crate) use enum_table;
