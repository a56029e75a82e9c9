//! Which statement is meant, and what is said of those that there are.

use super::*;

fn id(n: u128) -> ClusterId {
    ClusterId::from_u128(n)
}

fn rebind((cluster, supersedes, generation): (u128, u128, u32), signature: &[u8]) -> SignedRebind {
    SignedRebind {
        statement: Rebind {
            cluster: id(cluster),
            supersedes: id(supersedes),
            generation,
        },
        signature: signature.to_vec(),
    }
}

type Said = (u128, u128, u32);

/// Cluster 9 of generation 4 has these statements; which one is meant where `supersedes` is named, or how that ends.
fn check(signed: &[Said], open: &[Said], supersedes: Option<u128>, expected: Result<Said, (Exit, &str)>) {
    let signed = signed.iter().map(|said| rebind(*said, b"signed"));
    let standing = Standing {
        cluster: id(9),
        generation: 4,
        rebinds: signed.chain(open.iter().map(|said| rebind(*said, b""))).collect(),
    };
    let supersedes = supersedes.map(id);
    let chosen = choose(&standing, &WhichArgs { supersedes });
    match (chosen, expected) {
        (Ok(chosen), Ok(said)) => assert_eq!(chosen, rebind(said, b"").statement),
        (Err(failure), Err((exit, words))) => {
            assert_eq!(failure.exit, exit, "{}", failure.message);
            assert!(failure.message.contains(words), "{}", failure.message);
            assert!(failure.remedy.contains("`regent cluster rebind list`"));
        }
        (chosen, expected) => panic!("{:?} instead of {expected:?}", chosen.map_err(|f| f.message)),
    }
}

#[test]
fn the_only_statement_without_a_signature_is_meant() {
    let (first, second, third) = ((9, 1, 4), (9, 2, 4), (9, 3, 4));
    check(&[], &[first], None, Ok(first));
    check(&[first, second], &[third], None, Ok(third));
    let none = Err((Exit::Precondition, "no statement of this cluster waits"));
    check(&[], &[], None, none);
    check(&[first], &[], None, none);
    let several = Err((Exit::Usage, "several statements wait"));
    check(&[first], &[second, third], None, several);
}

#[test]
fn the_statement_about_a_named_cluster_is_the_one_that_is_there_or_a_new_one() {
    check(&[], &[(9, 1, 4), (9, 2, 4)], Some(2), Ok((9, 2, 4)));
    check(&[], &[(9, 1, 4)], Some(7), Ok((9, 7, 4)));
    // Another cluster ended it, and this one goes on from that.
    check(&[], &[(8, 7, 3)], Some(7), Ok((8, 7, 3)));
    // What that one did is signed for; what this one does is not.
    check(&[(8, 7, 3)], &[], Some(7), Ok((9, 7, 4)));
}

#[test]
fn whether_doors_may_follow_is_said_of_each_statement() {
    let told = text(id(9), 4, &[rebind((9, 1, 4), b"signed"), rebind((9, 2, 4), b"")]);
    let line = |supersedes: u128| {
        let supersedes = id(supersedes).to_string();
        let mut lines = told.lines().filter(|line| line.contains(&supersedes));
        lines.next().unwrap().trim_end()
    };
    assert!(line(1).ends_with("  yes"), "{told}");
    assert!(line(2).ends_with("  no: doors of the old one stay"), "{told}");
    assert!(text(id(9), 4, &[]).ends_with("it goes on from no other cluster"));
}
