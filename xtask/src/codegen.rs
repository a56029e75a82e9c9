//! Protobuf to Rust, without protoc: protox parses, prost and tonic write. The output is committed, so that a build
//! needs none of this.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};
use prost::Message as _;

/// Files with services and messages for the wire; their code goes to `proto`.
const WIRE: &[&str] = &[
    "resources.proto",
    "cluster.proto",
    "registry.proto",
    "experiments.proto",
    "services.proto",
    "preferences.proto",
    "regions.proto",
    "primaries.proto",
    "watch.proto",
    "session.proto",
    "agent.proto",
    "raft.proto",
];
/// Entries and snapshots; their code goes to `state`.
const LOG: &[&str] = &["log.proto"];

/// The peer's calls that the benchmark makes; their code goes to `bench`.
const PEER: &[&str] = &["etcd.proto"];

/// Writes the generated code, or with `check` says whether the committed code is what would be written.
pub(crate) fn run(root: &Path, check: bool) -> anyhow::Result<()> {
    let protos = root.join("proto");
    let mut files = BTreeMap::new();
    for (path, text) in generate(&protos, WIRE, Services::BothHalves)? {
        files.insert(root.join("proto/src/gen").join(path), text);
    }
    files.insert(root.join("proto/src/gen/descriptor.bin"), descriptor(&protos)?);
    if LOG.iter().all(|f| protos.join(f).exists()) {
        for (path, text) in generate(&protos, LOG, Services::None)? {
            files.insert(root.join("state/src/gen").join(path), text);
        }
        let described = compile(&protos, LOG)?.encode_to_vec();
        files.insert(root.join("state/src/gen/descriptor.bin"), described);
    }
    for (path, text) in generate(&root.join("bench"), PEER, Services::Clients)? {
        files.insert(root.join("bench/src/gen").join(path), text);
    }
    if check { compare(&files) } else { write(&files) }
}

fn existing(protos: &Path, files: &[&str]) -> Vec<PathBuf> {
    files
        .iter()
        .map(|f| protos.join(f))
        .filter(|p| p.exists())
        .collect()
}

fn compile(protos: &Path, files: &[&str]) -> anyhow::Result<prost_types::FileDescriptorSet> {
    let files = existing(protos, files);
    protox::compile(&files, [protos]).with_context(|| format!("cannot compile {files:?}"))
}

/// The descriptor set that server reflection serves: what clients may call, so not the traffic between coordinators.
fn descriptor(protos: &Path) -> anyhow::Result<Vec<u8>> {
    let public: Vec<_> = WIRE.iter().copied().filter(|f| *f != "raft.proto").collect();
    Ok(compile(protos, &public)?.encode_to_vec())
}

/// What is made of the services in a file.
enum Services {
    None,
    /// Behind the features `client` and `server`.
    BothHalves,
    Clients,
}

fn generate(protos: &Path, files: &[&str], services: Services) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let set = compile(protos, files)?;
    let out = tempfile::tempdir()?;
    let mut config = prost_build::Config::new();
    config.btree_map(["."]).out_dir(out.path());
    let grpc = tonic_prost_build::configure().btree_map(".").out_dir(out.path());
    match services {
        Services::None => config.compile_fds(set)?,
        Services::Clients => grpc.build_server(false).compile_fds(set)?,
        Services::BothHalves => grpc
            .server_mod_attribute(".", "#[cfg(feature = \"server\")]")
            .client_mod_attribute(".", "#[cfg(feature = \"client\")]")
            .compile_fds(set)?,
    }
    let mut written = Vec::new();
    for entry in fs::read_dir(out.path())? {
        let path = entry?.path();
        let status = Command::new("rustfmt")
            .args(["--edition", "2024"])
            .arg(&path)
            .status();
        if !status.context("rustfmt must be installed")?.success() {
            bail!("rustfmt refused {}", path.display());
        }
        let name = path
            .file_name()
            .context("a file has a name")?
            .to_string_lossy()
            .into_owned();
        written.push((name, fs::read(&path)?));
    }
    Ok(written)
}

fn write(files: &BTreeMap<PathBuf, Vec<u8>>) -> anyhow::Result<()> {
    for (path, text) in files {
        fs::create_dir_all(path.parent().context("a file lies in a folder")?)?;
        if fs::read(path).ok().as_ref() != Some(text) {
            fs::write(path, text)?;
        }
    }
    Ok(())
}

fn compare(files: &BTreeMap<PathBuf, Vec<u8>>) -> anyhow::Result<()> {
    let differ: Vec<_> = files
        .iter()
        .filter(|(p, text)| fs::read(p).ok().as_ref() != Some(*text))
        .collect();
    if differ.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = differ.iter().map(|(p, _)| p.display().to_string()).collect();
    bail!(
        "generated code differs; run `cargo xtask codegen`: {}",
        names.join(", ")
    )
}
