//! Which calls share permits.

use super::*;

#[test]
fn calls_that_wait_take_no_permit_of_a_lease_or_a_session() {
    let layer = AuthLayer::new(2, Arc::new(|| None));
    let others = METHODS
        .iter()
        .map(|(path, _)| *path)
        .filter(|p| !VITAL.contains(p));
    for path in others {
        let held: Vec<_> = (0..2).map(|_| layer.permit(path).unwrap()).collect();
        let refused = layer.permit(path).unwrap_err();
        assert_eq!(refused.reason, Reason::Overloaded, "{path}");
        for vital in VITAL {
            let two = [layer.permit(vital).unwrap(), layer.permit(vital).unwrap()];
            assert!(layer.permit(vital).is_err(), "{vital}: they are bounded too");
            drop(two);
        }
        drop(held);
    }
}

#[test]
fn what_is_vital_is_served() {
    for path in VITAL {
        assert!(METHODS.iter().any(|(method, _)| method == path), "{path}");
    }
}
