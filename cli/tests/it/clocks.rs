//! Wall clocks that are hours off, in real processes: the coordinators' are set forward and back while a role is held
//! (`coordinator::planted`). State time follows the voters' median (L10), and no lease follows it (L8, L9).

use std::{fs, time::Duration};

use client::Client;
use tokio::runtime::Runtime;
use types::{
    FencingToken, RegionId, RoleName,
    model::Placement,
    role::TimingPolicy,
    time::{Clock as _, SystemClock},
};

use crate::{
    dev::Dev,
    harness::{turn, until},
    recovery::held,
};

const REGIONS: [&str; 3] = ["us-west-2", "eu-west-1", "ap-southeast-1"];
const HOUR: Duration = Duration::from_secs(3600);
/// How far a clock is off.
const AHEAD: &str = "18000s";
const BEHIND: &str = "-18000s";
/// Looks at the role after each jump; the leader's loop looks at it twice a second and after each write.
const LOOKS: usize = 8;

struct World {
    dev: Dev,
    runtime: Runtime,
    admin: Client,
    held: FencingToken,
    plans: usize,
}

impl World {
    fn begin() -> Self {
        let dev = Dev::start_with(3, &[("REGENT_PLANTED_CLOCK", "1")]);
        let runtime = Runtime::new().unwrap();
        let mut config = dev.context().client_config();
        config.deadline = Duration::from_secs(30);
        let admin = runtime.block_on(async { Client::new(config).unwrap() });
        // No silence on a busy machine is as long as a holder's must be here; every jump of a clock is far longer.
        let patient = TimingPolicy::conservative();
        let role = RoleName::global();
        let set = admin.set_role_timing(&role, &patient);
        runtime.block_on(set).unwrap();
        let mut token = None;
        until("the role is held", || {
            token = held(&dev.context());
            token.is_some()
        });
        let mut world = Self {
            dev,
            runtime,
            admin,
            held: token.unwrap(),
            plans: 0,
        };
        world.plans = world.plans();
        world
    }

    /// Sets the clocks of the three coordinators, and has the next leadership ask for them.
    fn jump(&self, clocks: [&str; 3], leader: &str) {
        for (region, off) in REGIONS.iter().zip(clocks) {
            let data = self
                .dev
                .path()
                .join("regions")
                .join(region)
                .join("coordinator/data");
            assert!(data.is_dir(), "{}", data.display());
            fs::write(data.join("wall-clock"), off).unwrap();
        }
        let to = format!("{leader}-c1").parse().unwrap();
        until("another one leads", || {
            let moved = self
                .runtime
                .block_on(self.admin.transfer_leadership(Some(&to), false));
            moved.is_ok_and(|done| done.leader == to.to_string())
        });
    }

    fn plans(&self) -> usize {
        let plans = self.admin.list_plans(Some(&self.held.role), 100);
        self.runtime.block_on(plans).unwrap().len()
    }

    /// A write, and how many hours it was stamped ahead of the machine's clock.
    fn stamped(&self, name: &str) -> u64 {
        let (name, placement) = (name.parse().unwrap(), Placement::default());
        let create = self.admin.create_model(&name, "", Default::default(), &placement);
        let made = self.runtime.block_on(create).unwrap();
        let off = made.created_at.since(SystemClock.now()) + HOUR / 2;
        off.as_secs() / HOUR.as_secs()
    }
}

#[test]
fn coordinators_whose_wall_clocks_jump_by_hours_leave_a_role_with_its_holder() {
    let _turn = turn();
    let mut world = World::begin();
    // Who leads with which clocks, and how many hours state time is ahead in the end: back it never goes.
    let jumps = [
        ("the-leaders-is-ahead", [AHEAD, "", ""], 0, 0),
        ("the-leaders-is-behind", ["", BEHIND, ""], 1, 0),
        ("all-are-ahead", [AHEAD, AHEAD, AHEAD], 2, 5),
        ("all-are-behind", [BEHIND, BEHIND, BEHIND], 0, 5),
        ("all-are-right-again", ["", "", ""], 1, 5),
    ];
    for (what, clocks, leader, hours) in jumps {
        world.jump(clocks, REGIONS[leader]);
        assert_eq!(world.stamped(what), hours, "{what}");
        for look in 0..LOOKS {
            assert_eq!(held(&world.dev.context()), Some(world.held.clone()), "{what}");
            world.stamped(&format!("{what}-{look}"));
        }
        assert_eq!(world.plans(), world.plans, "{what}: somebody moved the role");
    }
    // Its holder renews as ever: it gives the role up when it is asked, and nobody waits a lease out.
    let others = REGIONS.map(|region| region.parse::<RegionId>().unwrap());
    let to = others.iter().find(|r| **r != world.held.holder.region).unwrap();
    let old = &world.held;
    let switch = world.admin.switchover(&old.role, to, Some(old.epoch));
    world.runtime.block_on(switch).unwrap();
    until("the other region holds the role", || {
        let now = held(&world.dev.context());
        now.is_some_and(|now| now.epoch > old.epoch && now.holder.region == *to)
    });
    assert_eq!(world.dev.stop(), Some(0));
}
