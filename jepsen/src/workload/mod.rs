//! What clients do while processes are hurt; one workload per file.

pub(crate) mod lists;
pub(crate) mod pointers;
pub(crate) mod primary;
pub(crate) mod process;
pub(crate) mod registers;
pub(crate) mod watches;

use clap::ValueEnum;

/// What clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// Tokens, and writes under them through every door.
    Primary,
    /// Aliases as registers.
    Registers,
    /// Versions as lists.
    Lists,
    /// Aliases as registers, and watches of them.
    Watches,
}

impl Workload {
    /// Each of them gets its share of a suite.
    pub(crate) const ALL: [Self; 4] = [Self::Primary, Self::Registers, Self::Lists, Self::Watches];

    /// The name in a verdict.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Registers => "registers",
            Self::Lists => "lists",
            Self::Watches => "watches",
        }
    }
}
