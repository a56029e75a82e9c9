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

/// Coordinators are upgraded before their callers: a new reason reaches builds that do not know it.
#[test]
fn a_reason_of_a_later_version_is_as_final_as_its_code() {
    use std::{collections::HashMap, time::Duration};

    use tonic_types::{ErrorDetails, StatusExt as _};
    let check = |code, wait: Option<Duration>, expected: Reason, retried: bool| {
        let operands = HashMap::from([("shown".to_owned(), "v7".to_owned())]);
        let mut details = ErrorDetails::with_error_info("CLOCK_STRUCK", status::DOMAIN, operands);
        details.set_retry_info(wait);
        let refusal = status::from_status(&Status::with_error_details(code, "it struck twelve", details));
        assert_eq!(
            (refusal.reason, refusal.reason.retryable()),
            (expected, retried),
            "{code:?}"
        );
        if !matches!(code, Code::Unknown | Code::DeadlineExceeded | Code::Cancelled) {
            assert_eq!(status::code(expected.category()), code);
        }
        assert!(
            refusal.message.starts_with("it struck twelve (CLOCK_STRUCK"),
            "{refusal}"
        );
        assert_eq!(refusal.operand(status::UNKNOWN_REASON), Some("CLOCK_STRUCK"));
        assert_eq!(refusal.operand("shown"), Some("v7"));
    };
    check(Code::NotFound, None, Reason::NotFound, false);
    check(Code::AlreadyExists, None, Reason::AlreadyExists, false);
    check(Code::FailedPrecondition, None, Reason::IllegalTransition, false);
    check(Code::Aborted, None, Reason::EtagMismatch, false);
    check(Code::InvalidArgument, None, Reason::InvalidArgument, false);
    check(Code::PermissionDenied, None, Reason::PermissionDenied, false);
    check(Code::ResourceExhausted, None, Reason::LimitExceeded, false);
    let soon = Some(Duration::from_millis(250));
    check(Code::ResourceExhausted, soon, Reason::Overloaded, true);
    check(Code::OutOfRange, None, Reason::Compacted, false);
    check(Code::Internal, None, Reason::Internal, false);
    check(Code::Unavailable, None, Reason::NotServing, true);
    for code in [Code::Unknown, Code::DeadlineExceeded, Code::Cancelled] {
        check(code, None, Reason::OutcomeUnknown, true);
    }
    // It may say what RECORD_GONE says: the change was made.
    assert!(!Reason::NotFound.surely_no_effect());
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
        "ExperimentService",
        "DiscoveryService",
        "PreferenceService",
        "RegionService",
        "PrimaryService",
        "WatchService",
        "SessionService",
    ] {
        assert!(services.iter().any(|s| s == name), "{name} in {services:?}");
    }
}

#[test]
fn what_is_remembered_comes_back_as_it_was_and_a_bad_one_is_named() {
    use crate::{
        convert::{history, preferences},
        v1 as pb,
    };
    use types::{
        history::{DeploymentRecord, HealthChange, Standing},
        preferences::PreferencesRecord,
    };
    let by: types::Principal = "spiffe://regent.local/user/admin".parse().unwrap();
    let moved = DeploymentRecord {
        model: "fraud.scorer".parse().unwrap(),
        revision: types::Revision(7),
        alias: "champion".parse().unwrap(),
        from: None,
        to: Some(types::ModelVersion(3)),
        reason: "better".to_owned(),
        at: types::UnixMillis(5),
        by: by.clone(),
    };
    assert_eq!(history::deployment((&moved).into()).unwrap(), moved);
    for subject in ["regions/eu", "nodes/a1"] {
        for from in [None, Some(Standing::Down)] {
            let change = HealthChange {
                subject: subject.parse().unwrap(),
                revision: types::Revision(7),
                from,
                to: Standing::Up,
                evidence: "heard".to_owned(),
                at: types::UnixMillis(5),
                by: by.clone(),
            };
            let wire: pb::HealthChange = (&change).into();
            assert_eq!(history::health_change(wire.clone()).unwrap(), change);
            let lost = pb::HealthChange {
                to: 0,
                ..wire.clone()
            };
            assert!(history::health_change(lost).is_err());
            let lost = pb::HealthChange {
                subject: "eu".to_owned(),
                ..wire
            };
            assert_eq!(
                history::health_change(lost).unwrap_err().operand("field"),
                Some("subject")
            );
        }
    }
    let wanted = PreferencesRecord {
        principal: by.clone(),
        values: [("output".to_owned(), "json".to_owned())].into(),
        changed_at: types::UnixMillis(5),
        changed_by: by,
        modified: types::Revision(7),
    };
    assert_eq!(preferences::preferences((&wanted).into()).unwrap(), wanted);
}

#[test]
fn a_service_comes_back_as_it_was_and_a_bad_one_is_named() {
    use crate::{convert::services, v1 as pb};
    use types::service::{ServiceHealth, ServiceProtocol, ServiceRecord};
    let record = ServiceRecord {
        key: "feature-store/a1:7000".parse().unwrap(),
        region: "eu".parse().unwrap(),
        incarnation: types::NodeIncarnation::from_u128(7),
        address: "10.0.0.7".to_owned(),
        protocol: ServiceProtocol::Udp,
        labels: [("zone".to_owned(), "a".to_owned())].into(),
        health: ServiceHealth::Unhealthy,
        registered_at: types::UnixMillis(5),
        registered_by: "spiffe://regent.local/region/eu/node/a1".parse().unwrap(),
        modified: types::Revision(7),
    };
    let wire = pb::ServiceInstance::from(&record);
    assert_eq!(services::instance(wire.clone()).unwrap(), record);
    let bad = |change: fn(&mut pb::ServiceInstance)| {
        let mut wire = wire.clone();
        change(&mut wire);
        services::instance(wire)
            .unwrap_err()
            .operand("field")
            .unwrap()
            .to_owned()
    };
    assert_eq!(bad(|s| s.port = 0), "port");
    assert_eq!(bad(|s| s.port = 65_536), "port");
    assert_eq!(bad(|s| s.service = "a.b".to_owned()), "service");
    assert_eq!(bad(|s| s.protocol = 0), "protocol");
    assert_eq!(bad(|s| s.health = 9), "health");
}

#[test]
fn a_measured_version_comes_back_as_it_was_and_a_bad_one_is_named() {
    use crate::{convert::registry, v1 as pb};
    use types::model::{Measured, VersionRecord, VersionState};
    let record = VersionRecord {
        key: "fraud.scorer@3".parse().unwrap(),
        state: VersionState::Ready,
        state_reason: String::new(),
        source_region: "eu".parse().unwrap(),
        artifacts: Vec::new(),
        framework: "bert".to_owned(),
        metadata: Default::default(),
        datasets: ["clicks@3", "s3://lake/a=b"].map(|d| d.parse().unwrap()).into(),
        metrics: [(
            "loss".parse().unwrap(),
            Measured {
                value: types::Micros(-500_000),
                at: types::UnixMillis(5),
                by: "spiffe://regent.local/user/admin".parse().unwrap(),
            },
        )]
        .into(),
        created_at: types::UnixMillis(4),
        created_by: "spiffe://regent.local/user/admin".parse().unwrap(),
        modified: types::Revision(7),
    };
    let wire = pb::ModelVersion::from(&record);
    assert_eq!(wire.metrics["loss"].value, "-0.5");
    assert_eq!(registry::version(wire.clone()).unwrap(), record);
    let bad = |change: fn(&mut pb::ModelVersion)| {
        let mut wire = wire.clone();
        change(&mut wire);
        registry::version(wire)
            .unwrap_err()
            .operand("field")
            .map(str::to_owned)
    };
    assert_eq!(
        bad(|v| v.datasets.push("clicks@3".to_owned())),
        Some("datasets".to_owned())
    );
    assert_eq!(
        bad(|v| v.datasets.push("a b".to_owned())),
        Some("datasets".to_owned())
    );
    assert_eq!(
        bad(|v| drop(v.metrics.insert("f1".to_owned(), pb::Measured::default()))),
        Some("metrics.f1".to_owned())
    );
}

fn experiment() -> types::experiment::ExperimentRecord {
    use types::experiment::{Arm, ExperimentRecord, ExperimentState, SLOTS, Slots};
    let arm = |version, percent| Arm {
        version: types::ModelVersion(version),
        percent,
        metrics: [("paid".parse().unwrap(), types::Micros(-912_500))].into(),
    };
    ExperimentRecord {
        model: "fraud.scorer".parse().unwrap(),
        name: "march".parse().unwrap(),
        description: "does it pay".to_owned(),
        state: ExperimentState::Ended,
        arms: vec![arm(3, 100), arm(4, 0)],
        slots: Slots::new(&[0; SLOTS]).unwrap(),
        reason: "3 pays".to_owned(),
        created_at: types::UnixMillis(5),
        created_by: "spiffe://regent.local/user/admin".parse().unwrap(),
        ended_at: Some(types::UnixMillis(9)),
        modified: types::Revision(7),
    }
}

#[test]
fn an_experiment_comes_back_as_it_was_and_a_bad_one_is_named() {
    use crate::{convert::experiments, v1 as pb};
    let record = experiment();
    let wire = pb::Experiment::from(&record);
    assert_eq!(wire.arms[0].metrics["paid"], "-0.9125");
    assert_eq!(experiments::experiment(wire.clone()).unwrap(), record);
    let running = types::experiment::ExperimentRecord {
        ended_at: None,
        ..record
    };
    assert_eq!(experiments::experiment((&running).into()).unwrap(), running);
    let bad = [
        (
            "slots",
            pb::Experiment {
                slots: vec![0; 99],
                ..wire.clone()
            },
        ),
        (
            "state",
            pb::Experiment {
                state: 7,
                ..wire.clone()
            },
        ),
        (
            "name",
            pb::Experiment {
                name: "March".to_owned(),
                ..wire
            },
        ),
    ];
    for (field, wire) in bad {
        let refusal = experiments::experiment(wire).unwrap_err();
        assert_eq!(refusal.operand("field"), Some(field), "{refusal}");
    }
    let split = vec![pb::Share {
        version: 0,
        percent: 100,
    }];
    assert!(
        experiments::split(split)
            .unwrap_err()
            .message
            .contains("split.version")
    );
    let metrics = [("paid".to_owned(), "0.1234567".to_owned())].into();
    assert_eq!(
        experiments::metrics(metrics).unwrap_err().operand("field"),
        Some("metrics.paid")
    );
}

/// A watcher of before there were experiments breaks off where it meets one, and then for ever: it says nothing of what it
/// can read, and must be sent what there was then.
#[test]
fn who_names_no_kinds_is_sent_those_that_they_can_read() {
    use crate::{
        convert::watch::{Resource, filter},
        v1 as pb,
    };
    use types::{WatchFilter, filter::ResourceKind};
    let sees = |wire: Option<pb::WatchFilter>| {
        let taken = filter(wire).unwrap();
        taken.takes(&Resource::Experiment(Box::new(experiment())).subject())
    };
    let old = pb::WatchFilter::default();
    assert!(!sees(None) && !sees(Some(old.clone())));
    let new = pb::WatchFilter::from(&WatchFilter::default());
    assert!(sees(Some(new.clone())));
    assert!(
        filter(Some(new.clone())).unwrap().is_everything(),
        "nothing is left out for who knows all"
    );
    let newer = pb::WatchFilter {
        newest_kind: 1_000,
        ..new
    };
    assert!(
        filter(Some(newer)).unwrap().is_everything(),
        "nor for who knows more"
    );
    let old = filter(Some(old)).unwrap();
    assert_eq!(
        old.kinds.len(),
        ResourceKind::ALL.len() - 2,
        "only what is new is left out"
    );
    let named = pb::WatchFilter {
        kinds: vec![pb::ResourceKind::KindExperiment as i32],
        ..Default::default()
    };
    assert!(sees(Some(named)), "who names a kind knows it");
}
