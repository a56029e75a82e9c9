//! `jepsen`: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    jepsen::main()
}
