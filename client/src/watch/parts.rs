//! A revision that comes in parts, put together.
//!
//! Invariant: what is given out is every event of one revision, and of no other (I7).

use proto::v1 as pb;
use types::{
    Revision,
    reason::{Reason, Refusal},
};

/// The first parts of a revision, until its last one is here.
#[derive(Debug, Default)]
pub(super) struct Parts {
    /// Of which revision; none where nothing is begun.
    of: Option<Revision>,
    events: Vec<pb::Event>,
}

impl Parts {
    /// What came on a connection that broke off comes again on the next one.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// All events of `revision`, once its last part is here. A part of another revision than the one that was begun is
    /// refused: its parts could not be told apart any more.
    pub(super) fn add(
        &mut self,
        revision: Revision,
        events: Vec<pb::Event>,
        more: bool,
    ) -> Result<Option<Vec<pb::Event>>, Refusal> {
        if let Some(begun) = self.of
            && begun != revision
        {
            let text = format!("a part of {revision} came before the last one of {begun}");
            return Err(Refusal::new(Reason::Internal, text));
        }
        self.events.extend(events);
        self.of = more.then_some(revision);
        Ok((!more).then(|| std::mem::take(&mut self.events)))
    }
}
