//! A disk that does not answer: whoever syncs a file waits until it does.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

#[derive(Default)]
pub(super) struct Gate {
    state: Mutex<State>,
    opened: Condvar,
}

#[derive(Default)]
struct State {
    shut: bool,
    waiting: usize,
}

impl Gate {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, shut: bool) {
        self.state().shut = shut;
        self.opened.notify_all();
    }

    pub(super) fn waiting(&self) -> usize {
        self.state().waiting
    }

    pub(super) fn pass(&self) {
        let mut state = self.state();
        state.waiting += 1;
        let opened = self.opened.wait_while(state, |state| state.shut);
        opened.unwrap_or_else(PoisonError::into_inner).waiting -= 1;
    }
}
