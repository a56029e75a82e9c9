//! For how long a member lacks what the leader's log has: the replication lag, in time.
//!
//! A count of entries says little: a busy log is a thousand ahead for a moment, and an idle one hides for days that a member is cut off.
//! So it is the age of the oldest entry that the member is not known to have, or its silence if that is longer; as far back as the leader
//! leads, because it knows nothing of before.

use std::{collections::VecDeque, time::Duration};

use types::Revision;

/// Ends of a log that are remembered; of a year, with two in a second, about so many are left.
const MARKS: usize = 512;
/// A lag is told too small by less than this part of it.
const PARTS: u32 = 16;

/// Where a leader's log ended, at moments since it leads.
#[derive(Clone, Debug, Default)]
pub struct LogEnds {
    /// The moment, and the last entry; both only rise.
    marks: VecDeque<(Duration, Revision)>,
}

impl LogEnds {
    /// Notes where the log ends `at` a moment; moments are counted from anywhere, and only rise.
    pub fn note(&mut self, at: Duration, end: Revision) {
        if self.marks.back().is_some_and(|(_, last)| *last >= end) {
            return;
        }
        self.marks.push_back((at, end));
        if self.marks.len() > MARKS {
            self.thin(at);
        }
    }

    /// Takes out what is told by the next mark nearly as well: what it told of counts as younger then, by less than a part of its age.
    fn thin(&mut self, now: Duration) {
        let all = std::mem::take(&mut self.marks);
        let next = all.iter().skip(1).map(|(at, _)| Some(*at)).chain([None]);
        for (mark, next) in all.iter().zip(next) {
            let near = |(before, next): (Duration, Duration)| next - before <= (now - next) / PARTS;
            let before = self.marks.back().map(|(at, _)| *at);
            if !before.zip(next).is_some_and(near) {
                self.marks.push_back(*mark);
            }
        }
    }

    /// How many moments are remembered.
    #[cfg(test)]
    pub(crate) fn marks(&self) -> usize {
        self.marks.len()
    }

    /// The lag at a moment of a member that is known to have all up to `matched` (none: nothing), and was `silent` for so long.
    pub fn lag(&self, now: Duration, matched: Option<Revision>, silent: Option<Duration>) -> Duration {
        let has = |(_, end): &(Duration, Revision)| matched.is_some_and(|matched| *end <= matched);
        let missing = self.marks.get(self.marks.partition_point(has));
        let lacking = missing.map_or(Duration::ZERO, |(at, _)| now.saturating_sub(*at));
        lacking.max(silent.unwrap_or_default())
    }
}
