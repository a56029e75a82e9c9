//! Keys.

use types::{Digest, RoleName};

use crate::{ObjectKey, keys};

#[test]
fn keys_that_could_leave_their_directory_are_refused() {
    let long = "x".repeat(1025);
    for bad in [
        "", "/a", "a/", "a//b", ".", "..", "a/../b", "../a", "a/./b", "a\\b", "a\nb", "a\0b", &long,
    ] {
        let error = ObjectKey::new(bad).unwrap_err().to_string();
        assert!(error.contains("choose another key"), "{bad:?}: {error}");
    }
    for good in ["a", "a/b", "...", "a/.b", "ä ö", "..a"] {
        assert_eq!(ObjectKey::new(good).unwrap().as_str(), good);
    }
}

#[test]
fn the_layout_is_fixed() {
    let digest = Digest::of(b"");
    assert_eq!(
        keys::artifact(&digest).as_str(),
        format!("regent/artifacts/sha256/e3/{}", digest.hex())
    );
    assert_eq!(
        keys::pointer(&RoleName::global()).as_str(),
        "regent/pointers/primaries.global"
    );
    let role = RoleName::new("primaries/db.main").unwrap();
    assert_eq!(keys::pointer(&role).as_str(), "regent/pointers/primaries.db.main");
    assert_eq!(keys::probe("x").as_str(), "regent/probe/x");
}
