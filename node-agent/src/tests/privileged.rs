//! The effect of a privileged call, when it fails half way.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use inference::{Signature, fake::FakeEngine};
use tokio::sync::watch;
use types::{Reason, Revision};

use super::records::{key, v};
use crate::{
    desired::LocalWishes,
    metrics::Metrics,
    pins::{Pin, Pins},
    privileged::{Called, activate, repin},
    serving::Serving,
};

async fn serving(names: &[&str]) -> Serving {
    let serving = Serving::new(8, Metrics::default());
    for name in names {
        let engine = Arc::new(FakeEngine::new(Signature::digits(64, 16.0, 10, 32)));
        serving
            .start(key(name), engine, Duration::from_secs(5))
            .await
            .unwrap();
    }
    serving
}

#[tokio::test]
async fn a_version_that_is_not_loaded_is_not_pinned() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pins.json");
    let (pins, wishes) = (
        Mutex::new(Pins::open(&path).unwrap()),
        watch::Sender::new(LocalWishes::default()),
    );
    let refused = activate(&serving(&[]).await, &pins, &wishes, &key("m@2"), Revision(3)).unwrap_err();
    assert_eq!(refused.reason, Reason::ModelNotLoaded);
    assert!(pins.lock().unwrap().all().is_empty() && !path.exists());
    assert_eq!(*wishes.borrow(), LocalWishes::default());
}

#[tokio::test]
async fn a_pin_that_cannot_be_kept_changes_nothing_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    // The directory of the file is missing.
    let path = dir.path().join("gone").join("pins.json");
    let (pins, wishes) = (
        Mutex::new(Pins::open(&path).unwrap()),
        watch::Sender::new(LocalWishes::default()),
    );
    let serving = serving(&["m@1", "m@2"]).await;
    let model = key("m@1").model;
    for before in [None, Some(v(1))] {
        if let Some(version) = before {
            serving.activate(&model, version);
        }
        let refused = activate(&serving, &pins, &wishes, &key("m@2"), Revision(3)).unwrap_err();
        assert_eq!(refused.reason, Reason::Internal);
        assert_eq!(serving.active().get(&model).copied(), before);
    }
    assert!(pins.lock().unwrap().all().is_empty());
    assert_eq!(*wishes.borrow(), LocalWishes::default());
}

#[test]
fn a_version_stays_wanted_until_the_last_call_for_it_has_ended() {
    let wishes = watch::Sender::new(LocalWishes::default());
    let first = Called::new(&wishes, &key("m@1"));
    let second = Called::new(&wishes, &key("m@1"));
    drop(first);
    assert!(wishes.borrow().called.contains_key(&key("m@1")));
    drop(second);
    assert_eq!(*wishes.borrow(), LocalWishes::default());
}

#[tokio::test]
async fn a_pin_that_is_over_leaves_the_disk_and_the_wishes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pins.json");
    let pins = Mutex::new(Pins::open(&path).unwrap());
    let wishes = watch::Sender::new(LocalWishes::default());
    let (serving, model) = (serving(&["m@2"]).await, key("m@2").model);
    activate(&serving, &pins, &wishes, &key("m@2"), Revision(3)).unwrap();
    let pin = Pin {
        version: v(2),
        after: Some(Revision(3)),
    };
    assert_eq!(wishes.borrow().pins[&model], pin);
    let other = Pin {
        after: Some(Revision(2)),
        ..pin
    };
    repin(&pins, &wishes, &[(model.clone(), (other, None))].into());
    assert_eq!(Pins::open(&path).unwrap().all()[&model], pin);
    repin(&pins, &wishes, &[(model, (pin, None))].into());
    assert!(Pins::open(&path).unwrap().all().is_empty());
    assert_eq!(*wishes.borrow(), LocalWishes::default());
}

#[tokio::test]
async fn a_pin_that_does_not_say_what_it_overruled_is_dated_on_disk_and_in_the_wishes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pins.json");
    std::fs::write(&path, include_bytes!("../../testdata/pins-v1.json")).unwrap();
    let pins = Mutex::new(Pins::open(&path).unwrap());
    let model = key("fraud.scorer@2").model;
    let undated = pins.lock().unwrap().all()[&model];
    let wishes = watch::Sender::new(LocalWishes {
        pins: pins.lock().unwrap().all().clone(),
        ..LocalWishes::default()
    });
    let dated = Pin {
        after: Some(Revision(3)),
        ..undated
    };
    repin(&pins, &wishes, &[(model.clone(), (undated, Some(dated)))].into());
    assert_eq!(wishes.borrow().pins[&model], dated);
    assert_eq!(Pins::open(&path).unwrap().all()[&model], dated);
}
