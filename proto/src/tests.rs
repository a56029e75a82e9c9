//! Round trips of the translation.

use tonic::{Code, Status};
use types::reason::{Reason, Refusal};

use crate::convert::{self, primaries, status};

#[test]
fn every_reason_survives_the_wire() {
    for &reason in Reason::ALL {
        let refusal = Refusal::new(reason, format!("because {reason}"))
            .with("shown", "g1.e6")
            .with("current", "g1.e7")
            .with("retry_after_ms", 250);
        let sent = status::to_status(&refusal);
        assert_eq!(sent.code(), status::code(reason.category()));
        assert_eq!(status::from_status(&sent), refusal);
    }
}

#[test]
fn a_foreign_status_leaves_the_outcome_unknown() {
    for code in [
        Code::Unavailable,
        Code::Internal,
        Code::Unknown,
        Code::DeadlineExceeded,
        Code::Cancelled,
    ] {
        let refusal = status::from_status(&Status::new(code, "broken pipe"));
        assert_eq!(refusal.reason, Reason::OutcomeUnknown, "{code:?}");
        assert!(!refusal.reason.surely_no_effect());
    }
}

#[test]
fn a_bad_field_is_named_with_its_value() {
    let refusal = convert::text::<types::RegionId>("region", "Not A Region").unwrap_err();
    assert_eq!(refusal.reason, Reason::InvalidArgument);
    assert_eq!(refusal.operand("field"), Some("region"));
    assert!(refusal.message.contains("Not A Region"), "{}", refusal.message);
    assert!(
        convert::request_id("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
            .unwrap_err()
            .message
            .contains("UUIDv7")
    );
    assert!(primaries::mode(99, 0).is_err());
    assert!(primaries::mode(crate::v1::FailoverMode::Paused as i32, 0).is_err());
}

#[test]
fn the_descriptor_set_names_every_service() {
    use prost::Message as _;
    let set = prost_types::FileDescriptorSet::decode(crate::FILE_DESCRIPTOR_SET).unwrap();
    let services: Vec<_> = set
        .file
        .iter()
        .flat_map(|f| f.service.iter().map(|s| s.name().to_owned()))
        .collect();
    for name in [
        "ClusterService",
        "RegistryService",
        "RegionService",
        "PrimaryService",
        "WatchService",
        "SessionService",
    ] {
        assert!(services.iter().any(|s| s == name), "{name} in {services:?}");
    }
}
