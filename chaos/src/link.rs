//! What a packet meets on its way between two regions: pure, so that every rule of it stands in a table.
//!
//! The terms are those of netem (`man tc-netem`), which not every kernel has.
//! Absent on purpose: duplicates and flipped bits, which TCP takes back without anybody above it noticing.

use std::{collections::BTreeMap, num::NonZeroU64, time::Duration};

use serde::{Deserialize, Serialize};

/// Bytes that wait where the rate is limited; more are lost, as at a router whose queue is full.
const QUEUE_BYTES: u64 = 256 * 1024;

/// What makes a way worse than its distance alone, as plain data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Disturbance {
    /// Nothing arrives.
    pub cut: bool,
    /// So much longer, one way, in milliseconds.
    pub delay_millis: u32,
    /// Up to so much longer still, evenly spread, in milliseconds. Nothing overtakes anything by it.
    pub jitter_millis: u32,
    /// Of a thousand packets so many are lost.
    pub loss_per_mille: u16,
    /// Of a thousand packets so many do not wait for the distance and overtake those before them.
    pub reorder_per_mille: u16,
    /// No more than so many bytes a second; none: no limit.
    pub bytes_per_second: Option<NonZeroU64>,
}

/// The state of a way, as all disturbances on it together make it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Link {
    is_cut: bool,
    delay: Duration,
    jitter: Duration,
    /// The probability that a packet arrives.
    arrives: f64,
    /// The probability that a packet overtakes.
    overtakes: f64,
    bytes_per_second: Option<NonZeroU64>,
}

impl Link {
    /// A way of this length, one way, with everything that disturbs it: delays add up, each loses of what the others let
    /// through, and the narrowest limit counts.
    pub fn new<'a>(delay: Duration, disturbances: impl IntoIterator<Item = &'a Disturbance>) -> Self {
        let mut link = Self {
            delay,
            arrives: 1.0,
            ..Self::default()
        };
        for one in disturbances {
            link.is_cut |= one.cut;
            link.delay += Duration::from_millis(one.delay_millis.into());
            link.jitter += Duration::from_millis(one.jitter_millis.into());
            link.arrives *= 1.0 - share(one.loss_per_mille);
            link.overtakes = link.overtakes.max(share(one.reorder_per_mille));
            link.bytes_per_second = match (link.bytes_per_second, one.bytes_per_second) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
        link
    }

    /// Whether nothing arrives.
    pub const fn is_cut(&self) -> bool {
        self.is_cut
    }
}

fn share(per_mille: u16) -> f64 {
    f64::from(per_mille.min(1_000)) / 1_000.0
}

/// Three numbers below one, drawn for one packet.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Draw {
    /// Whether it is lost.
    pub loss: f64,
    /// How much of the jitter it gets.
    pub jitter: f64,
    /// Whether it overtakes.
    pub reorder: f64,
}

/// What is under way on one directed way; times count from any one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Way {
    /// When the last byte that was let onto it has left; a limited rate lets the next one on no earlier.
    free_at: Duration,
    /// When the last packet in order arrives; the next one arrives no earlier.
    last_due: Duration,
}

impl Way {
    /// When a packet that is sent now arrives; none where it never does.
    pub fn send(&mut self, link: &Link, now: Duration, bytes: u64, draw: Draw) -> Option<Duration> {
        if link.is_cut || draw.loss >= link.arrives {
            return None;
        }
        let sent = match link.bytes_per_second {
            None => now,
            Some(rate) => {
                let begins = self.free_at.max(now);
                if begins - now > at_rate(QUEUE_BYTES, rate) {
                    return None;
                }
                self.free_at = begins + at_rate(bytes, rate);
                self.free_at
            }
        };
        if draw.reorder < link.overtakes {
            return Some(sent);
        }
        let due = sent + link.delay + link.jitter.mul_f64(draw.jitter);
        self.last_due = due.max(self.last_due);
        Some(self.last_due)
    }
}

fn at_rate(bytes: u64, rate: NonZeroU64) -> Duration {
    let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.get());
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// Every disturbance that is in force, by the number under which it can be taken back.
#[derive(Clone, Debug, Default)]
pub struct Disturbances {
    last: u64,
    active: BTreeMap<u64, (Vec<(usize, usize)>, Disturbance)>,
}

impl Disturbances {
    /// Puts one on some ways, each from a region to a region.
    pub fn add(&mut self, ways: Vec<(usize, usize)>, disturbance: Disturbance) -> u64 {
        self.last += 1;
        self.active.insert(self.last, (ways, disturbance));
        self.last
    }

    /// Takes it back; whether there was one.
    pub fn remove(&mut self, number: u64) -> bool {
        self.active.remove(&number).is_some()
    }

    /// What disturbs the way from one region to another.
    pub fn on(&self, from: usize, to: usize) -> impl Iterator<Item = &Disturbance> {
        let active = self.active.values();
        active
            .filter(move |(ways, _)| ways.contains(&(from, to)))
            .map(|(_, disturbance)| disturbance)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn link(of: Disturbance) -> Link {
        Link::new(40 * MS, [&of])
    }

    #[test]
    fn a_way_is_as_long_as_its_distance_and_all_delays() {
        let slow = Disturbance {
            delay_millis: 7,
            ..Disturbance::default()
        };
        for (link, expected) in [
            (Link::new(Duration::ZERO, []), Duration::ZERO),
            (Link::new(40 * MS, []), 40 * MS),
            (Link::new(40 * MS, [&slow, &slow]), 54 * MS),
        ] {
            let due = Way::default().send(&link, 1_000 * MS, 100, Draw::default());
            assert_eq!(due, Some(1_000 * MS + expected));
        }
    }

    #[test]
    fn nothing_crosses_a_cut_and_all_that_is_drawn_below_the_loss() {
        let cut = link(Disturbance {
            cut: true,
            ..Disturbance::default()
        });
        let fifth = Disturbance {
            loss_per_mille: 200,
            ..Disturbance::default()
        };
        let all = Disturbance {
            loss_per_mille: 1_000,
            ..Disturbance::default()
        };
        for (link, loss, arrives) in [
            (cut, 0.0, false),
            (link(fifth), 0.79, true),
            (link(fifth), 0.81, false),
            // 0.8 of 0.8.
            (Link::new(MS, [&fifth, &fifth]), 0.63, true),
            (Link::new(MS, [&fifth, &fifth]), 0.65, false),
            (link(all), 0.0, false),
            (link(Disturbance::default()), 0.999, true),
        ] {
            let draw = Draw {
                loss,
                ..Draw::default()
            };
            let due = Way::default().send(&link, MS, 100, draw);
            assert_eq!(due.is_some(), arrives, "{link:?} {loss}");
        }
    }

    #[test]
    fn what_is_reordered_overtakes_and_the_order_of_the_rest_stays() {
        let link = link(Disturbance {
            jitter_millis: 30,
            reorder_per_mille: 100,
            ..Disturbance::default()
        });
        let mut way = Way::default();
        let mut send = |now, jitter, reorder| {
            let draw = Draw {
                loss: 0.0,
                jitter,
                reorder,
            };
            way.send(&link, now, 100, draw)
        };
        assert_eq!(send(Duration::ZERO, 0.9, 0.5), Some(67 * MS));
        assert_eq!(send(MS, 0.9, 0.05), Some(MS), "ahead of it");
        assert_eq!(send(2 * MS, 0.0, 0.5), Some(67 * MS), "not ahead of it");
    }

    #[test]
    fn a_limited_rate_spreads_packets_and_loses_what_its_queue_cannot_hold() {
        let rate = NonZeroU64::new(1_000_000);
        let narrow = Disturbance {
            bytes_per_second: rate,
            ..Disturbance::default()
        };
        let wide = Disturbance {
            bytes_per_second: NonZeroU64::new(9_000_000),
            ..Disturbance::default()
        };
        let link = Link::new(Duration::ZERO, [&wide, &narrow, &Disturbance::default()]);
        let mut way = Way::default();
        let mut send = |now| way.send(&link, now, 1_000, Draw::default());
        assert_eq!([send(MS), send(MS), send(MS)], [2, 3, 4].map(|n| Some(n * MS)));
        let accepted = (0..1_000).filter(|_| send(MS).is_some()).count();
        assert!(
            (255..=265).contains(&accepted),
            "{accepted}: what the queue holds"
        );
        assert_eq!(send(10_000 * MS), Some(10_001 * MS), "and it drains");
    }

    #[test]
    fn a_disturbance_is_on_its_own_ways_only_until_it_is_taken_back() {
        let mut all = Disturbances::default();
        let cut = Disturbance {
            cut: true,
            ..Disturbance::default()
        };
        let one_way = all.add(vec![(0, 1)], cut);
        let both = all.add(vec![(0, 1), (1, 0)], Disturbance::default());
        let on = |all: &Disturbances, from, to| all.on(from, to).count();
        assert_eq!([on(&all, 0, 1), on(&all, 1, 0), on(&all, 0, 2)], [2, 1, 0]);
        assert!(all.remove(one_way) && !all.remove(one_way));
        assert_eq!([on(&all, 0, 1), on(&all, 1, 0)], [1, 1]);
        assert!(all.remove(both));
        assert_eq!(on(&all, 0, 1), 0);
    }

    proptest! {
        /// Whatever is drawn: without reordering nothing overtakes, and nothing arrives before its distance is over.
        #[test]
        fn order_and_distance_are_kept(
            packets in prop::collection::vec((0u64..50, 1u64..3_000, 0.0..1.0f64, 0.0..1.0f64), 1..200),
            jitter_millis in 0u32..50,
            loss_per_mille in 0u16..1_001,
            rate in prop::option::of(10_000u64..10_000_000),
        ) {
            let link = link(Disturbance {
                jitter_millis,
                loss_per_mille,
                bytes_per_second: rate.and_then(NonZeroU64::new),
                ..Disturbance::default()
            });
            let (mut way, mut now, mut last) = (Way::default(), Duration::ZERO, Duration::ZERO);
            for (after, bytes, loss, jitter) in packets {
                now += Duration::from_millis(after);
                let draw = Draw { loss, jitter, reorder: 0.0 };
                if let Some(due) = way.send(&link, now, bytes, draw) {
                    prop_assert!(due >= now + 40 * MS && due >= last);
                    last = due;
                }
            }
        }
    }
}
