//! Compiles what stands before libc in processes under test (`shim/shim.c`) to a shared library, which `src/shim.rs` carries along.

use std::{env, error::Error, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=shim/shim.c");
    let library = PathBuf::from(env::var("OUT_DIR")?).join("libshim.so");
    let compiler = cc::Build::new().opt_level(2).try_get_compiler()?;
    let status = compiler
        .to_command()
        .args(["-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-o"])
        .arg(&library)
        .args(["shim/shim.c", "-ldl"])
        .status()?;
    if !status.success() {
        return Err(format!("shim/shim.c could not be compiled: {status}").into());
    }
    Ok(())
}
