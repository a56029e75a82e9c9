//! Which addresses are taken, and what is said of the others.

use crate::postgres::{Postgres, PostgresConfig};

fn check(url: &str, ca: bool, expected: Result<(), &str>) {
    let config = PostgresConfig {
        ca_file: ca.then(|| "ca.pem".into()),
        ..PostgresConfig::new(url)
    };
    match (Postgres::new(config), expected) {
        (Ok(_), Ok(())) => {}
        (Err(bad), Err(expected)) => {
            assert!(bad.to_string().contains(expected), "{url}: {bad}");
            assert!(!bad.to_string().contains("hunter2"), "{url}: {bad}");
        }
        (found, _) => panic!("{url}: {:?}", found.map(|_| ())),
    }
}

#[test]
fn nothing_goes_out_in_plain_text() {
    check("postgres://127.0.0.1:5432/orders", false, Ok(()));
    check("postgres://localhost/orders", false, Ok(()));
    check("postgres://[::1]:5432/orders", false, Ok(()));
    check("postgres://%2Frun%2Fpostgresql/orders", false, Ok(()));
    check("postgres://db.example:5432/orders", true, Ok(()));
    check("postgres://localhost:5432/orders", true, Ok(()));
    check(
        "postgres://db.example:5432/orders",
        false,
        Err("ca_file must be set"),
    );
    check(
        "postgres://localhost,db.example/orders",
        false,
        Err("names db.example"),
    );
    check(
        "postgres://db.example/orders?sslmode=disable",
        false,
        Err("ca_file must be set"),
    );
    check(
        "postgres://localhost/orders?hostaddr=10.0.0.1",
        false,
        Err("hostaddr"),
    );
    check(
        "postgres://%2Frun%2Fpostgresql/orders",
        true,
        Err("leave ca_file out"),
    );
}

#[test]
fn the_user_is_the_fences_owner_and_the_password_is_in_a_file() {
    check("postgres://regent_fence@localhost/orders", false, Ok(()));
    check(
        "postgres://app@localhost/orders",
        false,
        Err("leave the user out"),
    );
    check(
        "postgres://regent_fence:hunter2@localhost/orders",
        false,
        Err("password_file"),
    );
    check("postgres://localhost", false, Err("names no database"));
    check("dbname=orders", false, Err("names no host"));
    check("hunter2://", false, Err("cannot be read"));
    // Never shown, also where it stands in the wrong place.
    check(
        "postgres://localhost:hunter2/orders",
        false,
        Err("cannot be read"),
    );
}
