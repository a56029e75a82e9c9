//! `transfer`: a planned switchover between living holders, and for how long nobody could act (L11): from the last accepted write under
//! the old epoch to the next holder's token, by clients in the two holders' regions. How long that client's first write then took
//! is told as well; it takes as long as any other.
//!
//! How long it takes depends on where the leader is, too: once every region had its turn as a holder, leadership moves on by one.
//!
//! Both writers begin a write every 10 ms while they have a token that is good. The moments are those of the answers. From before the
//! request on a third one, blind to its lease, goes on under the old holder's token at every door.

use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use types::{Epoch, RegionId, RoleName};

use super::{
    Report, Run, in_directory,
    journal::Said,
    report::{Setting, Stale, Trial},
    stage::{Accepted, Stage, accepted, first_accepted, token_of},
    stale::Zombie,
    wan::Measured,
    writer::Line,
};
use crate::world::World;

/// What a gap may be on one machine, where a round trip is next to nothing and the rest is not: two commits with their flushes,
/// the claim of three stores, and the pace of the writers.
const FLOOR: Duration = Duration::from_millis(150);
/// Writes of the new holder that are waited for: one of the old one that is still under way comes meanwhile, or not at all.
const WRITES_AFTER: usize = 20;

/// One trial.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Moved {
    /// Counted from 1.
    trial: u32,
    /// Who held the role, and who then did.
    from: String,
    to: String,
    /// The region of the coordinator that led.
    leader: String,
    from_epoch: Epoch,
    to_epoch: Epoch,
    /// From the last accepted write under the old epoch until the new holder gave its region's client a token.
    seconds: f64,
    /// From that last write to the first accepted one under the new epoch.
    seconds_to_write: f64,
    /// From the request for the switchover to the first write under the new epoch.
    seconds_in_all: f64,
    /// The largest that two coordinators had measured between them just before.
    round_trip_seconds: f64,
    /// Three of those, or the floor.
    limit_seconds: f64,
    /// Begun under the old epoch after a write under the new one was accepted, or by the blind one since the new token.
    #[serde(flatten)]
    stale: Stale,
}

impl Trial for Moved {
    fn seconds(&self) -> f64 {
        self.seconds
    }
    fn limit_seconds(&self) -> f64 {
        self.limit_seconds
    }
    fn stale(&self) -> Option<Stale> {
        Some(self.stale)
    }
    fn line(&self) -> String {
        format!(
            "{:>3}  {:.3} s  {} to {}, led by {} ({:.3} s to its first write, {:.3} s since the request); round trip {:.4} s",
            self.trial,
            self.seconds,
            self.from,
            self.to,
            self.leader,
            self.seconds_to_write,
            self.seconds_in_all,
            self.round_trip_seconds
        )
    }
}

/// Moves the primary again and again.
pub(crate) async fn transfer(run: &Run) -> anyhow::Result<Report<Moved>> {
    in_directory(|dir| async { Box::pin(play(run, World::found(run.world(dir)?).await?)).await }).await
}

async fn play(run: &Run, world: World) -> anyhow::Result<Report<Moved>> {
    let stage = Box::pin(Stage::set(run, world)).await?;
    let mut trials = Vec::new();
    for trial in 1..=run.trials {
        let one = Box::pin(move_once(&stage, run, trial)).await?;
        tracing::info!(trial, seconds = one.seconds, "trial");
        trials.push(one);
    }
    let whole = stage.whole().await?;
    stage.end().await?;
    let setting = Setting {
        fault: "transfer",
        policy: Some(run.policy.as_str()),
        limit: format!("three times the largest round trip that coordinators measured, at least {FLOOR:?}"),
        round_trips: Measured::of(run.round_trips, whole.round_trips()),
    };
    Ok(Report::of(setting, trials))
}

async fn move_once(stage: &Stage, run: &Run, trial: u32) -> anyhow::Result<Moved> {
    let wanted = leader_of(stage.world.regions(), trial).context("no region")?;
    let before = stage.whole_led_by(wanted).await?;
    let leader = before.statuses[before.leader].region.clone();
    let (from, old) = (before.holder.region.clone(), before.epoch);
    let to = next_region(stage.world.regions(), &from).context("no other region")?;
    let round_trip = before.round_trips().into_iter().max().unwrap_or_default();
    let zombie = Box::pin(Zombie::start(
        &stage.world,
        &from,
        old,
        &stage.version,
        Some(stage.token_for),
    ))
    .await?;
    let far = run.round_trips.is_some();
    if far {
        zombie.spare_own_store()?;
    }
    let asked = super::writer::since_boot(client::guard::BootInstant::now());
    let moving = stage.world.admin()?;
    moving.switchover(&RoleName::global(), to, Some(old)).await?;
    let what = format!("{WRITES_AFTER} writes of {to} under the next epoch");
    let said = stage
        .journal
        .find(&what, |said| {
            let after = accepted(said).filter(|write| write.epoch > old).count();
            (after >= WRITES_AFTER).then(|| said.to_vec())
        })
        .await?;
    let gap = gap(&said, old).context("no write on one side of the switchover")?;
    if far {
        zombie.go_on()?;
    }
    let zombie = zombie.end(old, gap.wall).await?;
    Ok(Moved {
        trial,
        from: from.to_string(),
        to: gap.first.said.region.to_string(),
        leader,
        from_epoch: old,
        to_epoch: gap.first.epoch,
        seconds: gap.seconds(),
        seconds_to_write: gap.first.ended.saturating_sub(gap.last.ended).as_secs_f64(),
        seconds_in_all: gap.first.ended.saturating_sub(asked).as_secs_f64(),
        round_trip_seconds: round_trip.as_secs_f64(),
        limit_seconds: limit(round_trip).as_secs_f64(),
        stale: gap.stale.and(zombie),
    })
}

fn limit(round_trip: Duration) -> Duration {
    (round_trip * 3).max(FLOOR)
}

/// The one after it, so that every region has its turn.
fn next_region<'a>(regions: &'a [RegionId], of: &RegionId) -> Option<&'a RegionId> {
    let at = regions.iter().position(|r| r == of)?;
    regions.iter().cycle().nth(at + 1).filter(|next| *next != of)
}

/// Where leadership is to be: it stays while the role goes round once, so that it is moved everywhere from everywhere.
fn leader_of(regions: &[RegionId], trial: u32) -> Option<&RegionId> {
    let rounds = (trial.saturating_sub(1) as usize).checked_div(regions.len())?;
    regions.iter().cycle().nth(rounds)
}

/// What lies between two holders' writes.
#[derive(Debug)]
struct Gap {
    last: Accepted,
    first: Accepted,
    /// When the next holder's client was given its token: from then on somebody may act again.
    token: Duration,
    /// The same by this machine's clock.
    wall: Duration,
    stale: Stale,
}

impl Gap {
    fn seconds(&self) -> f64 {
        self.token.saturating_sub(self.last.ended).as_secs_f64()
    }
}

/// Of what the writers said.
fn gap(said: &[Said], old: Epoch) -> Option<Gap> {
    let first = first_accepted(said, |epoch| epoch > old)?;
    let before = accepted(said).filter(|write| write.epoch == old);
    let last = before.max_by_key(|write| write.ended)?;
    let (token, wall) = token_of(said, first.epoch)?;
    let mut stale = Stale::default();
    for said in said {
        if let Line::Write {
            begun,
            epoch,
            accepted,
            ..
        } = said.line
            && epoch <= old
            && begun > first.ended
        {
            stale.attempted += 1;
            stale.accepted += usize::from(accepted);
            // A writer that obeys its lease gave this one up, or a door refused it: the proof is the blind one's.
            stale.unanswered += usize::from(!accepted);
        }
    }
    Some(Gap {
        last,
        first,
        token,
        wall,
        stale,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: u64 = 7;

    fn write(begun: u64, ended: u64, epoch: u64, accepted: bool) -> Said {
        Said {
            region: "us".parse().unwrap(),
            line: Line::Write {
                begun: Duration::from_millis(begun),
                ended: Duration::from_millis(ended),
                epoch: Epoch::from_u64(epoch),
                accepted,
                reason: String::new(),
            },
        }
    }

    fn token(at: u64, epoch: u64) -> Said {
        Said {
            region: "eu".parse().unwrap(),
            line: Line::Token {
                at: Duration::from_millis(at),
                wall: Duration::ZERO,
                epoch: Epoch::from_u64(epoch),
            },
        }
    }

    fn of(said: &[Said]) -> Gap {
        gap(said, Epoch::from_u64(OLD)).unwrap()
    }

    #[test]
    fn a_gap_is_from_the_last_answer_before_to_the_token_after() {
        let said = [
            write(100, 110, OLD, true),
            token(150, OLD + 1),
            write(160, 220, OLD + 1, true),
            write(150, 200, OLD + 1, true),
            // Of no use to anybody.
            write(120, 140, OLD, false),
            write(115, 130, OLD, true),
        ];
        let found = of(&said);
        assert!((found.seconds() - 0.02).abs() < 1e-9, "{found:?}");
        assert_eq!(found.first.ended, Duration::from_millis(200));
        assert_eq!(found.stale, Stale::default());
    }

    /// What was begun before and is answered late is what was under way, and no stale write.
    #[test]
    fn only_what_began_after_the_next_holders_write_is_stale() {
        let mut said = vec![
            write(100, 110, OLD, true),
            token(150, OLD + 1),
            write(150, 200, OLD + 1, true),
            write(190, 230, OLD, true),
            write(210, 230, OLD, false),
        ];
        assert_eq!((of(&said).stale.attempted, of(&said).stale.accepted), (1, 0));
        said.push(write(211, 230, OLD, true));
        assert_eq!((of(&said).stale.attempted, of(&said).stale.accepted), (2, 1));
    }

    #[test]
    fn one_side_alone_is_no_gap() {
        let old = Epoch::from_u64(OLD);
        assert!(gap(&[write(1, 2, OLD, true)], old).is_none());
        assert!(gap(&[token(1, OLD + 1), write(1, 2, OLD + 1, true)], old).is_none());
    }

    #[test]
    fn every_region_has_its_turn_and_the_floor_counts_where_nothing_is_far() {
        let regions = ["a", "b", "c"].map(|name| RegionId::new(name).unwrap());
        assert_eq!(next_region(&regions, &regions[0]), Some(&regions[1]));
        assert_eq!(next_region(&regions, &regions[2]), Some(&regions[0]));
        assert_eq!(next_region(&regions[..1], &regions[0]), None);
        for (trial, leads) in [(1, 0), (3, 0), (4, 1), (6, 1), (7, 2), (10, 0)] {
            assert_eq!(leader_of(&regions, trial), Some(&regions[leads]), "{trial}");
        }
        assert_eq!(leader_of(&[], 1), None);
        assert_eq!(limit(Duration::from_micros(300)), FLOOR);
        assert_eq!(limit(Duration::from_millis(250)), Duration::from_millis(750));
    }
}
