//! Tables and properties of the vocabulary.

use std::{cmp::Ordering, collections::BTreeSet, time::Duration};

use proptest::prelude::*;

use crate::{
    epoch::{Incomparable, Outranked},
    metrics::MetricKind,
    model::{ArtifactPath, Placement},
    region::{FencingDoor, StoreBinding},
    role::{FailoverMode, RoleRecord, TimingPolicy},
    units::{format_age, format_duration, parse_duration},
    *,
};

fn token(cluster: u128, role: &str, epoch: Epoch) -> FencingToken {
    let holder = Holder {
        region: "eu".parse().unwrap(),
        node: "a1".parse().unwrap(),
        incarnation: NodeIncarnation::from_u128(7),
    };
    FencingToken {
        cluster_id: ClusterId::from_u128(cluster),
        role: role.parse().unwrap(),
        epoch,
        holder,
    }
}

#[test]
fn identifiers_accept_and_refuse_by_their_rule() {
    for good in ["us-west-2", "a", "0", &"x".repeat(63)] {
        assert_eq!(good.parse::<RegionId>().unwrap().to_string(), good);
    }
    for bad in ["", "-a", "a-", "A", "a_b", "a.b", "ü", "a b", &"x".repeat(64)] {
        let error = bad.parse::<RegionId>().unwrap_err().to_string();
        assert!(error.contains(&format!("{bad:?}")), "{error}");
    }
    for bad in ["", ".a", "a.", "a..b", "a/b", "fraud scorer"] {
        assert!(bad.parse::<ModelName>().is_err(), "{bad}");
    }
    assert!("fraud.scorer".parse::<ModelName>().is_ok());
    for good in [
        "clicks",
        "Fraud/Transactions@2026-03",
        "s3://lake/date=2026-03-01/a+b_c.csv",
        &"x".repeat(200),
    ] {
        assert_eq!(good.parse::<DatasetName>().unwrap().to_string(), good);
    }
    for bad in ["", "-a", "/a", "a b", "a*", "a,b", "ü", "a<b", &"x".repeat(201)] {
        assert!(bad.parse::<DatasetName>().is_err(), "{bad}");
    }
    assert!("primaries/global".parse::<RoleName>().is_ok());
    assert!("global".parse::<RoleName>().is_err());
    assert!("fraud.scorer@3".parse::<VersionKey>().is_ok());
    let key: service::ServiceKey = "feature-store/eu-1.a1:7000".parse().unwrap();
    assert_eq!(
        (key.port.get(), key.to_string().as_str()),
        (7000, "feature-store/eu-1.a1:7000")
    );
    for bad in [
        "store",
        "store/a1",
        "store/a1:0",
        "store/a1:65536",
        "store.v1/a1:7",
        "store/a1:7/8",
        "store/:7",
    ] {
        assert!(bad.parse::<service::ServiceKey>().is_err(), "{bad}");
    }
    assert!("fraud.scorer@0".parse::<VersionKey>().is_err());
}

#[test]
fn artifact_paths_stay_inside_their_directory() {
    for good in ["model.safetensors", "1_Pooling/config.json"] {
        assert!(ArtifactPath::new(good).is_ok());
    }
    for bad in [
        "",
        "/etc/passwd",
        "../x",
        "a/../b",
        "a//b",
        "./a",
        "a\\b",
        "a\0b",
        "a\nb",
    ] {
        assert!(ArtifactPath::new(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn tokens_of_other_roles_or_clusters_do_not_compare() {
    let mine = token(1, "primaries/global", Epoch::new(1, 7));
    assert_eq!(
        mine.compare(&token(1, "primaries/global", Epoch::new(1, 8))),
        Ok(Ordering::Less)
    );
    let other_role = mine.compare(&token(1, "primaries/orders", Epoch::new(1, 1)));
    assert!(matches!(other_role, Err(Incomparable::Role { .. })));
    let other_cluster = mine.compare(&token(2, "primaries/global", Epoch::new(1, 1)));
    assert!(matches!(other_cluster, Err(Incomparable::Cluster { .. })));
}

#[test]
fn a_token_follows_a_lower_one_and_its_own_and_no_other() {
    let at = |epoch, run| FencingToken {
        holder: Holder {
            incarnation: NodeIncarnation::from_u128(run),
            ..token(1, "primaries/global", Epoch::ZERO).holder
        },
        ..token(1, "primaries/global", Epoch::new(1, epoch))
    };
    let table = [
        (at(3, 1), at(2, 9), None),
        (at(3, 1), at(3, 1), None),
        (at(3, 1), at(3, 9), Some(Outranked::ByHolder)),
        (at(3, 1), at(4, 1), Some(Outranked::ByEpoch)),
        (at(3, 1), at(4, 9), Some(Outranked::ByEpoch)),
    ];
    for (mine, stands, outranked) in table {
        assert_eq!(mine.outranked_by(&stands), Ok(outranked), "{mine} over {stands}");
    }
    let other = token(2, "primaries/global", Epoch::new(1, 2));
    assert!(at(3, 1).outranked_by(&other).is_err());
}

#[test]
fn an_epoch_ends_with_its_generation() {
    assert_eq!(Epoch::new(1, u32::MAX).next(), None);
    assert_eq!(Epoch::new(1, 6).next(), Some(Epoch::new(1, 7)));
    assert!(Epoch::new(2, 0) > Epoch::new(1, u32::MAX));
    assert_eq!(Epoch::new(1, 7).to_string(), "g1.e7");
}

#[test]
fn principals_round_trip_through_their_uri() {
    for text in [
        "spiffe://regent.local/region/eu/node/a1",
        "spiffe://regent.local/region/eu/coordinator/c1",
        "spiffe://regent.local/user/admin",
    ] {
        assert_eq!(text.parse::<Principal>().unwrap().to_string(), text);
    }
    for bad in [
        "",
        "spiffe://other/user/admin",
        "spiffe://regent.local/user/",
        "spiffe://regent.local/user/a/b",
    ] {
        assert!(bad.parse::<Principal>().is_err(), "{bad}");
    }
}

#[test]
fn named_timings_are_valid_and_relations_are_checked() {
    for timing in [
        TimingPolicy::fast(),
        TimingPolicy::standard(),
        TimingPolicy::conservative(),
    ] {
        assert_eq!(timing.validate(), Ok(()), "{}", timing.name);
    }
    let bad = TimingPolicy {
        renew_interval: Duration::from_secs(2),
        ..TimingPolicy::fast()
    };
    assert!(bad.validate().unwrap_err().contains("renew_interval"));
}

#[test]
fn every_reason_has_one_text_and_metrics_have_unique_names_with_units() {
    let texts: BTreeSet<_> = Reason::ALL.iter().map(|r| r.as_str()).collect();
    assert_eq!(texts.len(), Reason::ALL.len());
    for reason in Reason::ALL {
        assert_eq!(reason.as_str().parse::<Reason>().unwrap(), *reason);
    }
    let names: BTreeSet<_> = metrics::ALL.iter().map(|m| m.name).collect();
    assert_eq!(names.len(), metrics::ALL.len());
    for metric in metrics::ALL {
        assert!(metric.name.starts_with("regent_"), "{}", metric.name);
        assert_eq!(
            metric.name.ends_with("_total"),
            metric.kind == MetricKind::Counter,
            "{}",
            metric.name
        );
    }
}

#[test]
fn digests_of_known_bytes() {
    let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(Digest::of(b"").to_string(), empty);
    let mut hasher = DigestHasher::new();
    hasher.update(b"ab");
    hasher.update(b"c");
    assert_eq!(hasher.finish(), Digest::of(b"abc"));
}

#[test]
fn ages_get_coarser_as_they_grow_and_are_never_rounded_up() {
    for (millis, shown) in [
        (0, "0s"),
        (350, "350ms"),
        (1000, "1s"),
        (2999, "2.9s"),
        (3041, "3s"),
        (9999, "9.9s"),
        (17_232, "17s"),
        (60_500, "1m"),
        (61_900, "61s"),
    ] {
        assert_eq!(format_age(Duration::from_millis(millis)), shown, "{millis}");
    }
}

/// What programs read: states as the protocol spells them, times with their zone, durations with their unit.
#[test]
fn documents_spell_states_times_and_durations_one_way() {
    let mut role = RoleRecord {
        role: RoleName::global(),
        epoch: Epoch::new(1, 2),
        holder: None,
        reservation: None,
        candidates: Vec::new(),
        mode: FailoverMode::Automatic,
        timing: TimingPolicy::fast(),
        outstanding_ttl: Duration::from_secs(2),
        changed_at: UnixMillis(1_763_710_114_123),
        reason: String::new(),
        modified: Revision(1),
    };
    let document = serde_json::to_value(&role).unwrap();
    assert_eq!(document["mode"], "AUTOMATIC");
    assert_eq!(document["outstanding_ttl"], "2s");
    assert_eq!(document["changed_at"], "2025-11-21T07:28:34.123Z");
    role.mode = FailoverMode::Paused {
        until: UnixMillis(951_782_400_000),
    };
    let document = serde_json::to_value(&role).unwrap();
    assert_eq!(document["mode"], "PAUSED");
    assert_eq!(document["paused_until"], "2000-02-29T00:00:00.000Z");
    assert_eq!(serde_json::from_value::<RoleRecord>(document).unwrap(), role);

    let store = StoreBinding {
        endpoint: "http://127.0.0.1:1".to_owned(),
        bucket: "models".to_owned(),
        fencing_door: FencingDoor::Refused {
            reason: "two writers won".to_owned(),
        },
    };
    let document = serde_json::to_value(&store).unwrap();
    assert_eq!(document["fencing_door"], "REFUSED");
    assert_eq!(document["fencing_refusal"], "two writers won");
    assert_eq!(serde_json::from_value::<StoreBinding>(document).unwrap(), store);

    let everywhere = serde_json::to_value(Placement::Everywhere).unwrap();
    assert_eq!(everywhere["kind"], "EVERYWHERE");
    let there = Placement::Regions(vec!["eu-west-1".parse().unwrap()]);
    let document = serde_json::to_value(&there).unwrap();
    assert_eq!(
        (&document["kind"], &document["regions"][0]),
        (&"REGIONS".into(), &"eu-west-1".into())
    );
    assert_eq!(serde_json::from_value::<Placement>(document).unwrap(), there);
}

/// Documents on disks hold the number of milliseconds.
#[test]
fn a_time_is_read_in_its_older_form_too() {
    let read = |text: &str| serde_json::from_str::<UnixMillis>(text).ok();
    assert_eq!(read("1763710114123"), Some(UnixMillis(1_763_710_114_123)));
    assert_eq!(
        read("\"2025-11-21T07:28:34.123Z\""),
        Some(UnixMillis(1_763_710_114_123))
    );
    for bad in ["-1", "1.5", "true", "{}", "\"yesterday\""] {
        assert_eq!(read(bad), None, "{bad}");
    }
}

#[test]
fn times_that_do_not_exist_are_refused() {
    for good in [
        "1970-01-01T00:00:00.000Z",
        "2024-02-29T23:59:59.999Z",
        "9999-12-31T23:59:59.999Z",
    ] {
        assert_eq!(good.parse::<UnixMillis>().unwrap().rfc3339(), good);
    }
    for bad in [
        "",
        "2023-02-29T00:00:00.000Z",
        "2024-13-01T00:00:00.000Z",
        "2024-04-31T00:00:00.000Z",
        "2024-01-01T24:00:00.000Z",
        "2024-01-01T00:00:60.000Z",
        "2024-01-01T00:00:00Z",
        "2024-01-01T00:00:00.000+01:00",
        "+024-01-01T00:00:00.000Z",
        "1969-12-31T23:59:59.999Z",
    ] {
        assert!(bad.parse::<UnixMillis>().is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn times_print_and_parse_and_keep_their_order(a in 0u64..253_402_300_800_000, b in 0u64..253_402_300_800_000) {
        let (a, b) = (UnixMillis(a), UnixMillis(b));
        prop_assert_eq!(a.rfc3339().parse::<UnixMillis>().unwrap(), a);
        prop_assert_eq!(a.cmp(&b), a.rfc3339().cmp(&b.rfc3339()));
    }


    #[test]
    fn epochs_print_and_parse_and_keep_their_order(a: u64, b: u64) {
        let (a, b) = (Epoch::from_u64(a), Epoch::from_u64(b));
        prop_assert_eq!(a.to_string().parse::<Epoch>().unwrap(), a);
        prop_assert_eq!(a.cmp(&b), (a.generation(), a.counter()).cmp(&(b.generation(), b.counter())));
    }

    #[test]
    fn digests_and_ids_print_and_parse(bytes: [u8; 32], bits: u128) {
        let digest = Digest::from_bytes(bytes);
        prop_assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        let id = ClusterId::from_u128(bits);
        prop_assert_eq!(id.to_string().parse::<ClusterId>().unwrap(), id);
        prop_assert_eq!(ClusterId::from_slice(&id.to_bytes()).unwrap(), id);
    }

    #[test]
    fn request_ids_carry_their_time(millis in 0u64..(1 << 48), low: u128) {
        let id = RequestId::v7_from_parts(millis, low);
        prop_assert!(id.is_v7());
        prop_assert_eq!(id.unix_millis(), millis);
    }

    #[test]
    fn durations_print_and_parse(millis in 0u64..10_000_000) {
        let duration = Duration::from_millis(millis);
        prop_assert_eq!(parse_duration(&format_duration(duration)).unwrap(), duration);
    }

    #[test]
    fn no_text_makes_a_parser_panic(text: String) {
        let _ = (text.parse::<Epoch>(), text.parse::<Digest>(), text.parse::<ByteCount>(), parse_duration(&text));
        let _ = (text.parse::<Principal>(), text.parse::<VersionKey>(), text.parse::<RequestId>(), text.parse::<UnixMillis>());
    }
}
