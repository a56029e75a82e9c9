//! Over TCP: the server's certificate must follow from the CA that was named and be for the host, and the password is read anew
//! at each connect.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
};

use adapters::postgres::{Postgres, PostgresConfig, RaiseError, Trouble};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::server::{SOON, Server, role, token};

fn ca() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

#[tokio::test]
async fn only_a_server_that_the_named_ca_vouches_for_is_told_the_password() {
    let Some(mut server) = Server::guarded(3).await else {
        return;
    };
    let (right, wrong) = (ca(), ca());
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &right).unwrap();
    let dir = server.dir.path().to_owned();
    for (name, text) in [
        ("server.crt", certificate.pem()),
        ("server.key", key.serialize_pem()),
        ("right.pem", right.pem()),
        ("wrong.pem", wrong.pem()),
        ("empty.pem", String::new()),
        ("password", "correct horse\n".to_owned()),
    ] {
        let path = dir.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        if rustix::process::getuid().is_root() {
            chown(&path, Some(65534), Some(65534)).unwrap();
        }
    }
    let port = server
        .listen(
            &format!(
                "ssl = on\nssl_cert_file = '{0}/server.crt'\nssl_key_file = '{0}/server.key'",
                dir.display()
            ),
            "hostssl all regent_fence 127.0.0.1/32 scram-sha-256",
        )
        .await;
    let admin = server.connect("postgres").await;
    admin
        .batch_execute("ALTER ROLE regent_fence PASSWORD 'correct horse'")
        .await
        .unwrap();

    let raise = |host: &str, ca: Option<&str>, counter| {
        let config = PostgresConfig {
            password_file: Some(dir.join("password")),
            ca_file: ca.map(|ca| dir.join(ca)),
            ..PostgresConfig::new(format!("postgres://{host}:{port}/shop"))
        };
        let postgres = Postgres::new(config).unwrap();
        async move { postgres.raise(&token(counter, "b1"), SOON).await }
    };
    let unusable = |error: RaiseError, said: &str| match error {
        RaiseError::Trouble(Trouble::Unusable(why)) => {
            assert!(why.contains(said) && !why.contains("horse"), "{why}");
        }
        other => panic!("{other:?}"),
    };
    raise("localhost", Some("right.pem"), 4).await.unwrap();
    unusable(
        raise("localhost", Some("wrong.pem"), 5).await.unwrap_err(),
        "certificate",
    );
    unusable(
        raise("127.0.0.1", Some("right.pem"), 5).await.unwrap_err(),
        "certificate",
    );
    unusable(
        raise("localhost", Some("empty.pem"), 5).await.unwrap_err(),
        "holds no certificate",
    );
    // The server takes nobody without TLS.
    unusable(raise("localhost", None, 5).await.unwrap_err(), "no encryption");

    // A password that was changed counts from the next call on.
    admin
        .batch_execute("ALTER ROLE regent_fence PASSWORD 'battery staple'")
        .await
        .unwrap();
    unusable(
        raise("localhost", Some("right.pem"), 5).await.unwrap_err(),
        "password authentication failed",
    );
    fs::write(dir.join("password"), "battery staple").unwrap();
    raise("localhost", Some("right.pem"), 5).await.unwrap();
    let standing = server.regent().read(&role(), SOON).await.unwrap().unwrap();
    assert_eq!(standing.fence.epoch, types::Epoch::new(1, 5));
}
