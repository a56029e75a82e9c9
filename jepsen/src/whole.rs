//! When a cluster is whole: everybody follows one leader, stores what it stores and goes by its timing, every region is fit and
//! somebody holds the role, with no plan under way; and that for several looks in a row.

use std::time::Duration;

use anyhow::bail;
use client::Client;
use futures::future::join_all;
use policy::timing::{self, Choice, Pair};
use tokio::time::{Instant, sleep};
use types::{
    Epoch, NodeId, RegionId, RoleName,
    election::ElectionTiming,
    epoch::Holder,
    plan::PlanState,
    region::{Health, NodeKind, NodeStatus},
};

use crate::world::World;

/// How long a cluster may take to be whole again: one of five regions that are far apart is founded in that time.
const PATIENCE: Duration = Duration::from_secs(300);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);
/// Entries that another coordinator may lack and still count as caught up.
const CAUGHT_UP_WITHIN: u64 = 64;
/// So often in a row a cluster must look whole.
const CALM_LOOKS: u32 = 5;

/// A coordinator and how to reach it alone.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    pub(crate) client: Client,
}

/// What a coordinator says of itself.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    pub(crate) node: String,
    pub(crate) region: String,
    term: u64,
    leads: bool,
    leader: String,
    has_quorum: bool,
    /// Every member votes and stores nearly all that this one does; of a leader.
    others_caught_up: bool,
    members: usize,
    /// By which it goes.
    pub(crate) timing: ElectionTiming,
    /// By which the log says that all go, and whether that follows from the distances.
    timing_of_log: ElectionTiming,
    derived: bool,
    /// Between members, as far as this one knows.
    round_trips: Vec<Pair>,
}

/// A whole cluster.
#[derive(Clone, Debug)]
pub(crate) struct Whole {
    pub(crate) leader: usize,
    pub(crate) statuses: Vec<Standing>,
    pub(crate) holder: Holder,
    pub(crate) epoch: Epoch,
}

impl Whole {
    /// What must not change between two looks.
    fn gist(&self) -> (usize, u64, Epoch) {
        (self.leader, self.statuses[self.leader].term, self.epoch)
    }

    /// Between every two coordinators, as they measured it.
    pub(crate) fn round_trips(&self) -> Vec<Duration> {
        let all = self.statuses[self.leader].round_trips.iter();
        all.filter_map(|pair| pair.round_trip).collect()
    }
}

/// A client for each coordinator, so that none of them waits for another.
pub(crate) fn doors(world: &World, attempt: Duration) -> anyhow::Result<Vec<Door>> {
    let config = world.context()?.client_config();
    let one = |endpoint: &String| {
        let mut config = config.clone();
        config.endpoints = vec![endpoint.clone()];
        config.deadline = attempt;
        config.attempt_timeout = attempt;
        Ok(Door {
            client: Client::new(config)?,
        })
    };
    config.endpoints.iter().map(one).collect()
}

/// Waits until all is well.
pub(crate) async fn whole(world: &World, doors: &[Door]) -> anyhow::Result<Whole> {
    let admin = world.admin()?;
    let deadline = Instant::now() + PATIENCE;
    let (mut calm, mut last) = (0, None);
    loop {
        let now = Box::pin(look(world.regions(), doors, &admin)).await;
        let (gist, missing) = match &now {
            Ok(whole) => (Some(whole.gist()), String::new()),
            Err(missing) => (None, missing.clone()),
        };
        calm = if gist.is_some() && last == gist {
            calm + 1
        } else {
            0
        };
        last = gist;
        if let Ok(whole) = now
            && calm >= CALM_LOOKS
        {
            return Ok(whole);
        }
        if Instant::now() >= deadline {
            bail!("the cluster is not whole after {PATIENCE:?}: {missing}");
        }
        sleep(LOOK).await;
    }
}

/// The cluster, or the first thing that is missing.
async fn look(regions: &[RegionId], doors: &[Door], admin: &Client) -> Result<Whole, String> {
    let asked = join_all(doors.iter().map(|door| Box::pin(standing(door)))).await;
    let answers = asked.into_iter().collect::<Option<Vec<_>>>();
    let statuses = answers.ok_or("a coordinator does not answer")?;
    let leader = leader_of(&statuses)?;
    let (holder, epoch) = role(admin).await?;
    fit(regions, admin).await?;
    Ok(Whole {
        leader,
        statuses,
        holder,
        epoch,
    })
}

/// Who leads a whole membership.
fn leader_of(statuses: &[Standing]) -> Result<usize, String> {
    let leader = statuses.iter().position(|s| s.leads && s.has_quorum);
    let leader = leader.ok_or("nobody leads")?;
    let of = &statuses[leader];
    if !statuses.iter().all(|s| s.leader == of.node && s.has_quorum) {
        return Err(format!("not everybody follows {}", of.node));
    }
    if !of.others_caught_up || of.members != statuses.len() {
        return Err("not everybody votes and is caught up".to_owned());
    }
    let pairs = statuses.len() * statuses.len().saturating_sub(1) / 2;
    if of.round_trips.len() < pairs {
        return Err("not every pair has measured its distance".to_owned());
    }
    let same = |s: &Standing| s.timing == of.timing && s.timing == s.timing_of_log;
    if !statuses.iter().all(same) {
        return Err("not everybody goes by the timing of the log".to_owned());
    }
    // What is measured while a cluster is founded, or while somebody is away, is not how far it is.
    if of.derived && timing::choose(&of.timing, &of.round_trips, timing::CALM) != Choice::Keep {
        return Err(format!(
            "the timing of elections is about to follow the distances: {}",
            of.timing
        ));
    }
    Ok(leader)
}

async fn role(admin: &Client) -> Result<(Holder, Epoch), String> {
    let global = RoleName::global();
    let said = |refusal: types::reason::Refusal| refusal.to_string();
    let plans = admin.list_plans(Some(&global), 1).await.map_err(said)?;
    if plans.iter().any(|plan| plan.state == PlanState::Running) {
        return Err("a plan runs".to_owned());
    }
    let (record, _) = admin.get_role(&global).await.map_err(said)?;
    let holder = record.holder.filter(|_| record.reservation.is_none());
    Ok((holder.ok_or("nobody holds the role")?, record.epoch))
}

async fn fit(regions: &[RegionId], admin: &Client) -> Result<(), String> {
    let said = |refusal: types::reason::Refusal| refusal.to_string();
    let records = admin.list_regions().await.map_err(said)?;
    let nodes = admin.list_nodes(None).await.map_err(said)?;
    for region in regions {
        let is_up = |n: &&types::region::NodeRecord| {
            n.region == *region && n.kind == NodeKind::Agent && n.status == NodeStatus::Up
        };
        if nodes.iter().filter(is_up).count() != 1 {
            return Err(format!("{region} has no agent that is up"));
        }
        let record = records.iter().find(|r| r.region == *region);
        let record = record.ok_or_else(|| format!("{region} is not registered"))?;
        if record.health != Health::Healthy || record.store.is_none() {
            return Err(format!(
                "{region} is {}: {}",
                record.health, record.health_evidence
            ));
        }
    }
    Ok(())
}

async fn standing(door: &Door) -> Option<Standing> {
    let s = door.client.status().await.ok()?;
    let near = |at: u64| at + CAUGHT_UP_WITHIN >= s.last_log_index;
    let goes_by = s.election_timing.as_ref()?;
    let goes_by = timing_of([
        goes_by.heartbeat_millis,
        goes_by.election_min_millis,
        goes_by.election_max_millis,
    ]);
    let setting = s.election_setting.as_ref()?;
    let of_log = setting.timing.as_ref()?;
    let of_log = timing_of([
        of_log.heartbeat_millis,
        of_log.election_min_millis,
        of_log.election_max_millis,
    ]);
    let round_trips = s
        .round_trips
        .iter()
        .map(|r| pair(&r.from_node, &r.to_node, r.micros));
    Some(Standing {
        leads: s.raft_state == "LEADER",
        others_caught_up: s
            .members
            .iter()
            .all(|m| m.voter && m.matched_index.is_some_and(near)),
        members: s.members.len(),
        timing: goes_by,
        timing_of_log: of_log,
        derived: setting.derived,
        round_trips: round_trips.collect::<Option<_>>()?,
        node: s.node,
        region: s.region,
        term: s.term,
        leader: s.leader_node,
        has_quorum: s.has_quorum,
    })
}

fn timing_of([heartbeat, min, max]: [u64; 3]) -> ElectionTiming {
    ElectionTiming {
        heartbeat: Duration::from_millis(heartbeat),
        election_min: Duration::from_millis(min),
        election_max: Duration::from_millis(max),
    }
}

fn pair(from: &str, to: &str, micros: u64) -> Option<Pair> {
    Some(Pair {
        a: NodeId::new(from).ok()?,
        b: NodeId::new(to).ok()?,
        round_trip: Some(Duration::from_micros(micros)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(node: &str, leader: &str) -> Standing {
        Standing {
            node: node.to_owned(),
            region: "us".to_owned(),
            term: 3,
            leads: node == leader,
            leader: leader.to_owned(),
            has_quorum: true,
            others_caught_up: true,
            members: 3,
            timing: ElectionTiming::default(),
            timing_of_log: ElectionTiming::default(),
            derived: true,
            round_trips: vec![measured(1); 3],
        }
    }

    fn measured(millis: u64) -> Pair {
        Pair {
            a: NodeId::new("c1").unwrap(),
            b: NodeId::new("c2").unwrap(),
            round_trip: Some(Duration::from_millis(millis)),
        }
    }

    fn judged(change: impl FnOnce(&mut [Standing])) -> Result<usize, String> {
        let mut all = ["c1", "c2", "c3"].map(|node| standing(node, "c2"));
        change(&mut all);
        leader_of(&all)
    }

    #[test]
    fn a_whole_membership_follows_one_leader_by_one_timing() {
        assert_eq!(judged(|_| {}), Ok(1));
        let longer = ElectionTiming {
            heartbeat: Duration::from_millis(300),
            election_min: Duration::from_millis(900),
            election_max: Duration::from_millis(1440),
        };
        for wrong in [
            judged(|all| all[1].leads = false),
            judged(|all| all[1].has_quorum = false),
            judged(|all| all[0].leader = "c3".to_owned()),
            judged(|all| all[1].others_caught_up = false),
            judged(|all| all[1].members = 4),
            judged(|all| all[1].round_trips.truncate(2)),
            judged(|all| all[2].timing = longer),
            judged(|all| all[2].timing_of_log = longer),
            // Too long for what was measured, and too short.
            judged(|all| {
                all.iter_mut()
                    .for_each(|s| (s.timing, s.timing_of_log) = (longer, longer))
            }),
            judged(|all| all[1].round_trips[0] = measured(200)),
        ] {
            wrong.unwrap_err();
        }
        // What a person fixed is not judged by the distances.
        let fixed = judged(|all| {
            all.iter_mut().for_each(|s| s.derived = false);
            all[1].round_trips[0] = measured(200);
        });
        assert_eq!(fixed, Ok(1));
    }
}
