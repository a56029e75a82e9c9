//! A history in words, a line for each thing that happened: for people, and to compare two histories byte for byte.

use std::fmt;

use super::world::{Event, Msg, Who};

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Coordinator(n) => write!(f, "c{n}"),
            Self::Agent(n) => write!(f, "a{n}"),
            Self::Store(n) => write!(f, "s{n}"),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timer(timer) => write!(f, "{timer:?}"),
            Self::Message { from, msg } => write!(f, "from {from}: {msg}"),
        }
    }
}

impl fmt::Display for Msg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Append {
                term,
                at,
                slots,
                commit,
                round,
                ..
            } => {
                let terms: Vec<_> = slots.iter().map(|slot| slot.term).collect();
                write!(
                    f,
                    "Append {{ term: {term}, at: {at}, terms: {terms:?}, commit: {commit}, round: {round} }}"
                )
            }
            other => write!(f, "{other:?}"),
        }
    }
}
