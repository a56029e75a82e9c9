//! How the command line reaches a cluster: flags, then `REGENT_…` variables, then the context file.

use std::path::PathBuf;

use client::{Client, Context, TlsFiles};
use types::{Reason, reason::Refusal};

use crate::{args::Shared, error::Failure, output::note};

/// The context of `regent dev` in the current directory.
const DEV_CONTEXT: &str = ".regent-dev/context.toml";
/// The user's own, below the home directory.
const USER_CONTEXT: &str = ".config/regent/context.toml";

/// What helps without a context that can be used.
const NAME_ONE: &str =
    "start a cluster with `regent dev`, or name a context file with --context or REGENT_CONTEXT";

/// The context that these flags mean: the file, with the endpoints of the flags where some are given.
pub(crate) fn load(shared: &Shared) -> Result<Context, Failure> {
    let path = find(shared)?;
    let mut context = Context::load(&path).map_err(|refusal| Failure::from(refusal).remedy(NAME_ONE))?;
    if !shared.endpoints.is_empty() {
        context.endpoints.clone_from(&shared.endpoints);
    }
    Ok(context)
}

/// A client for these flags; it connects when it is first used.
pub(crate) fn client(shared: &Shared) -> Result<Client, Failure> {
    connect(&load(shared)?, shared)
}

/// A client for this context, with the time limit of the flags.
pub(crate) fn connect(context: &Context, shared: &Shared) -> Result<Client, Failure> {
    check_trust(&context.tls)?;
    connect_checked(context, shared)
}

/// As [`connect`], for whoever connects several times and has looked at the own certificate once.
pub(crate) fn connect_checked(context: &Context, shared: &Shared) -> Result<Client, Failure> {
    let mut config = context.client_config();
    config.deadline = shared.timeout;
    config.attempt_timeout = config.attempt_timeout.min(shared.timeout);
    Ok(Client::new(config)?)
}

/// That servers are likely to accept the own certificate: they refuse it in the middle of the connection, and after all of the time
/// that would read as silence. One that is over is refused here; of one whose CA is another, servers may know more.
pub(crate) fn check_trust(tls: &TlsFiles) -> Result<(), Failure> {
    let credentials = tls.load()?;
    let Some(distrust) = credentials.distrust() else {
        return Ok(());
    };
    let text = distrust.explain(&tls.cert_file);
    if distrust.is_of_time {
        let file = tls.cert_file.display();
        return Err(Refusal::new(Reason::InvalidArgument, text)
            .with("file", file)
            .into());
    }
    note(&format!("warning: {text}"));
    Ok(())
}

fn find(shared: &Shared) -> Result<PathBuf, Failure> {
    if let Some(path) = &shared.context {
        return Ok(path.clone());
    }
    let home = std::env::home_dir().map(|home| home.join(USER_CONTEXT));
    let known: Vec<PathBuf> = [Some(PathBuf::from(DEV_CONTEXT)), home]
        .into_iter()
        .flatten()
        .collect();
    let found = known.iter().find(|path| path.exists()).cloned();
    found.ok_or_else(|| {
        let looked: Vec<String> = known.iter().map(|p| p.display().to_string()).collect();
        Failure::usage(format!(
            "no cluster is known: neither {} exists",
            looked.join(" nor ")
        ))
        .remedy(NAME_ONE)
    })
}

#[cfg(test)]
#[cfg(feature = "server")]
pub(crate) mod tests {
    use super::*;
    use crate::exit::Exit;

    /// A certificate that vouches for itself, with its key; over since that year.
    pub(crate) fn pair(dir: &std::path::Path, name: &str, until: i32) -> (PathBuf, PathBuf) {
        let names = ["localhost".to_owned()];
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap();
        let (cert_file, key_file) = (
            dir.join(format!("{name}.pem")),
            dir.join(format!("{name}.key.pem")),
        );
        std::fs::write(&cert_file, cert.pem()).unwrap();
        std::fs::write(&key_file, key.serialize_pem()).unwrap();
        (cert_file, key_file)
    }

    #[test]
    fn a_certificate_that_is_over_ends_a_command_and_one_of_another_ca_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let check = |until, ca: Option<&PathBuf>| {
            let (cert_file, key_file) = pair(dir.path(), "own", until);
            let ca_file = ca.unwrap_or(&cert_file).clone();
            check_trust(&TlsFiles {
                ca_file,
                cert_file,
                key_file,
            })
        };
        check(2100, None).unwrap();
        let over = check(2020, None).unwrap_err();
        assert_eq!(over.exit, Exit::Usage, "{over}");
        assert!(over.message.contains("expired"), "{over}");
        let (other, _) = pair(dir.path(), "other", 2100);
        check(2100, Some(&other)).unwrap();
    }
}
