//! Who a node is: one run of it at a time, proved over TLS 1.3.

use std::{future::pending, net::SocketAddr, sync::Arc, time::Duration};

use client::TlsFiles;
use node_agent::agent::AgentError;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use types::NodeIncarnation;

use crate::{
    records::stores_attached,
    warnings::Warnings,
    world::{World, predict},
};

#[tokio::test]
async fn a_run_whose_place_another_process_took_ends_and_says_so() {
    let world = World::new().await;
    let agent = world.agent().await;
    stores_attached(&world).await;
    let (me, inference) = (agent.holder().clone(), agent.addresses().inference);
    assert_eq!(predict(&agent).await.0, 404);
    let later = NodeIncarnation::from_u128(me.incarnation.as_u128() + 1);
    world.coordinator.lock().taken_over_by = Some(later);
    let ended = tokio::time::timeout(Duration::from_secs(20), agent.run_until(pending())).await;
    let error = ended.unwrap().unwrap_err();
    assert!(
        matches!(&error, AgentError::Superseded { node, shown, current }
            if *node == me.node && *shown == me.incarnation && *current == later.to_string()),
        "{error:?}"
    );
    assert!(
        error.to_string().contains("another process took over as node a1"),
        "{error}"
    );
    // Its ports are free for whoever is the node now.
    tokio::net::TcpListener::bind(inference).await.unwrap();
}

/// The version of TLS that a server agrees to, with a client that offers `versions` and shows a good certificate.
fn agreed(
    address: SocketAddr,
    files: &TlsFiles,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> std::io::Result<Option<rustls::ProtocolVersion>> {
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(&files.ca_file).unwrap())
        .unwrap();
    let certificate = CertificateDer::from_pem_file(&files.cert_file).unwrap();
    let key = PrivateKeyDer::from_pem_file(&files.key_file).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let mut connection =
        rustls::ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    let mut socket = std::net::TcpStream::connect(address)?;
    socket.set_read_timeout(Some(Duration::from_secs(20)))?;
    while connection.is_handshaking() {
        connection.complete_io(&mut socket)?;
    }
    Ok(connection.protocol_version())
}

#[tokio::test]
async fn the_agents_port_speaks_no_older_tls_than_1_3() {
    let world = World::new().await;
    let agent = world.agent().await;
    let (port, files) = (agent.addresses().agent, world.ca.issue("region/west/node/a1"));
    let tried = tokio::task::spawn_blocking(move || {
        let old = agreed(port, &files, &[&rustls::version::TLS12]);
        (old, agreed(port, &files, rustls::ALL_VERSIONS).unwrap())
    });
    let (old, new) = tried.await.unwrap();
    let refused = old.unwrap_err().to_string();
    assert!(refused.contains("ProtocolVersion"), "{refused}");
    assert_eq!(new, Some(rustls::ProtocolVersion::TLSv1_3));
    agent.shutdown().await.unwrap();
}

/// Each of the three files, missing and of another kind, before anything is made on the disk.
#[tokio::test]
async fn a_tls_file_that_cannot_be_used_is_named_with_its_key_and_what_it_should_hold() {
    let world = World::new().await;
    let good = world.config.tls.clone();
    type Pick = fn(&mut TlsFiles) -> &mut std::path::PathBuf;
    let cases: [(&str, &str, Pick); 3] = [
        ("tls.ca_file", "certificate of the cluster's CA", |f| {
            &mut f.ca_file
        }),
        ("tls.cert_file", "this agent's PEM certificate", |f| {
            &mut f.cert_file
        }),
        ("tls.key_file", "private key of tls.cert_file", |f| {
            &mut f.key_file
        }),
    ];
    for (key, holds, file) in cases {
        let mut other = if key == "tls.key_file" {
            good.cert_file.clone()
        } else {
            good.key_file.clone()
        };
        for problem in [": No such file or directory", ", which holds a "] {
            let mut config = world.config.clone();
            if problem.contains("No such") {
                *file(&mut config.tls) = "/nowhere/x.pem".into();
            } else {
                std::mem::swap(file(&mut config.tls), &mut other);
            }
            let path = file(&mut config.tls).display().to_string();
            let started = node_agent::Agent::builder(config).start().await;
            let error = started.err().unwrap().to_string();
            assert!(error.starts_with(&format!("{key} is {path}{problem}")), "{error}");
            assert!(error.contains(holds), "{error}");
            assert!(!world.config.data_dir.exists());
        }
    }
}

/// With another's certificate each call would be refused by itself, and the node would only look unwell.
#[tokio::test]
async fn an_agent_with_another_nodes_certificate_does_not_start() {
    let world = World::new().await;
    for other in ["region/east/node/another", "user/admin"] {
        let mut config = world.config.clone();
        config.tls = world.ca.issue(other);
        let own = format!(
            "spiffe://regent.local/region/{}/node/{}",
            config.region, config.node
        );
        let error = node_agent::Agent::builder(config).start().await.err().unwrap();
        let error = error.to_string();
        assert!(error.starts_with("tls.cert_file is "), "{error}");
        assert!(
            error.contains(&format!("names spiffe://regent.local/{other}")) && error.contains(&own),
            "{error}"
        );
        assert!(!world.config.data_dir.exists());
    }
}

/// With such a pair no handshake succeeds: it would be up and reach nobody.
#[tokio::test]
async fn an_agent_with_the_key_of_another_certificate_does_not_start() {
    let world = World::new().await;
    let mut config = world.config.clone();
    config.tls.key_file = world.ca.issue("user/admin").key_file;
    let (cert, key) = (
        config.tls.cert_file.display().to_string(),
        config.tls.key_file.display().to_string(),
    );
    let error = node_agent::Agent::builder(config).start().await.err().unwrap();
    let said = format!(
        "tls.key_file is {key}, which is not the key of tls.cert_file, {cert}; name a certificate and the key"
    );
    assert!(error.to_string().starts_with(&said), "{error}");
    assert!(!world.config.data_dir.exists());
}

/// Its ports answer and its log would say no more than that it has started.
#[tokio::test]
async fn an_agent_that_reaches_no_coordinator_says_whom_it_asked_and_why() {
    let mut warnings = Warnings::listen();
    let mut world = World::new().await;
    let mut closed = Vec::new();
    for _ in 0..2 {
        closed.push(tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap());
    }
    let address = |listener: tokio::net::TcpListener| format!("https://{}", listener.local_addr().unwrap());
    let mut dead: Vec<String> = closed.into_iter().map(address).collect();
    dead.sort();
    world.config.coordinators.clone_from(&dead);
    let agent = world.agent().await;
    for endpoint in dead {
        let words = [
            "no session",
            &format!("endpoint=\"{endpoint}\""),
            "onnection refused",
        ];
        let said = warnings.next_with(&words);
        tokio::time::timeout(Duration::from_secs(20), said).await.unwrap();
    }
    agent.shutdown().await.unwrap();
}
