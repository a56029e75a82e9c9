//! Before what cannot be undone: a person types what it is about; a script says so with a flag.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use crate::error::Failure;

/// Asks for `what` to be typed, after `blast` was told. `given`: the flag `flag` was.
pub(crate) fn confirm(what: &str, blast: &str, given: bool, flag: &str) -> Result<(), Failure> {
    if given {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::usage(format!("{blast}: nobody is there to confirm it"))
            .remedy(format!("{flag} confirms it in a script")));
    }
    let mut err = io::stderr().lock();
    let asked = writeln!(err, "{blast}.").and_then(|()| write!(err, "Type {what} to go on: "));
    let asked = asked.and_then(|()| err.flush());
    let mut typed = String::new();
    let read = asked.and_then(|()| io::stdin().lock().read_line(&mut typed));
    read.map_err(|e| Failure::other(format!("could not ask for a confirmation: {e}")))?;
    check(what, typed.trim())
}

fn check(what: &str, typed: &str) -> Result<(), Failure> {
    if typed == what {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "{typed:?} was typed, and not {what}: nothing was done"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_words_confirm() {
        check("c3", "c3").unwrap();
        for typed in ["", "c", "yes", "C3", "c33"] {
            assert!(check("c3", typed).is_err(), "{typed}");
        }
        confirm("c3", "takes c3 out", true, "--yes").unwrap();
    }
}
