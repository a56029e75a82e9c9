//! Watchers that come and go through random histories.

use super::*;

/// One watcher, as a client is one: a list, then whole revisions; it resumes where it was.
struct Watcher {
    filter: WatchFilter,
    fold: Fold,
    /// Where it began, and where it is.
    begun: Revision,
    at: Revision,
    seen: Vec<(u64, pb::Event)>,
    parts: Vec<pb::Event>,
    stream: Option<Watching<()>>,
    lists: usize,
    messages_in_parts: usize,
}

impl Watcher {
    fn new(filter: WatchFilter) -> Self {
        Self {
            filter,
            fold: Fold::new(),
            begun: Revision(0),
            at: Revision(0),
            seen: Vec::new(),
            parts: Vec::new(),
            stream: None,
            lists: 0,
            messages_in_parts: 0,
        }
    }

    fn list(&mut self, world: &World) {
        self.fold = world.listed(world.last(), &self.filter);
        (self.begun, self.at) = (world.last(), world.last());
        self.seen.clear();
        self.stream = None;
        self.lists += 1;
    }

    fn break_off(&mut self) {
        self.stream = None;
        self.parts.clear();
    }

    /// One message, as it comes.
    async fn read(&mut self, world: &World, bytes: usize) {
        if self.stream.is_none() {
            self.parts.clear();
        }
        let fresh = || watching(&world.hub, &self.filter, self.at, bytes);
        let stream = self.stream.get_or_insert_with(fresh);
        let message = match stream.next().await {
            Ok(message) => message,
            Err(status) => {
                let refusal = proto::convert::status::from_status(&status);
                assert_eq!(refusal.reason, Reason::Compacted, "{refusal}");
                let oldest: u64 = refusal.operand("oldest").unwrap().parse().unwrap();
                assert!(oldest > self.at.0, "{refusal}");
                return self.list(world);
            }
        };
        let revision = Revision(message.header.unwrap().revision);
        assert!(revision >= self.at, "{revision} after {}", self.at);
        self.messages_in_parts += usize::from(message.more);
        self.parts.extend(message.events);
        if message.more {
            return;
        }
        for event in std::mem::take(&mut self.parts) {
            let resource = event.resource.clone().unwrap();
            match event.deleted {
                true => drop(self.fold.remove(&key(&resource))),
                false => drop(self.fold.insert(key(&resource), resource)),
            }
            self.seen.push((revision.0, event));
        }
        self.at = revision;
    }

    fn check(&self, world: &World) {
        let expected = world.expected(&self.filter, self.begun, self.at);
        assert_eq!(
            self.seen, expected,
            "events after {} up to {}",
            self.begun, self.at
        );
        assert_eq!(self.fold, world.listed(self.at, &self.filter), "at {}", self.at);
    }
}

fn filters() -> Vec<WatchFilter> {
    let pattern = |text: &str| Some(text.parse().unwrap());
    let kinds = |names: &[&str]| names.iter().map(|n| n.parse().unwrap()).collect();
    let nothing = WatchFilter::default;
    vec![
        nothing(),
        WatchFilter {
            kinds: kinds(&["role", "plan"]),
            ..nothing()
        },
        WatchFilter {
            model: pattern("fraud.*"),
            ..nothing()
        },
        WatchFilter {
            model: pattern("fraud.*"),
            kinds: kinds(&["role", "alias"]),
            ..nothing()
        },
        WatchFilter {
            region: pattern("eu"),
            ..nothing()
        },
        WatchFilter {
            region: pattern("u*"),
            model: pattern("*"),
            ..nothing()
        },
        WatchFilter {
            role: pattern("primaries/*.scorer"),
            ..nothing()
        },
        WatchFilter {
            kinds: kinds(&["timing"]),
            ..nothing()
        },
        WatchFilter {
            model: pattern("nobody.*"),
            ..nothing()
        },
    ]
}

/// What happens next: a change, or a watcher reads, breaks off, or is behind for a while.
#[derive(Clone, Copy, Debug)]
enum Act {
    Change(u8, u8, u8),
    Read(u8),
    BreakOff(u8),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => any::<(u8, u8, u8)>().prop_map(|(what, a, b)| Act::Change(what, a, b)),
        2 => any::<u8>().prop_map(Act::Read),
        1 => any::<u8>().prop_map(Act::BreakOff),
    ]
}

/// Plays a history with every filter; how often somebody had to list again, and how many messages came in parts.
async fn play(acts: &[Act], bytes: usize) -> (usize, usize) {
    let mut world = World::new();
    let mut watchers: Vec<_> = filters().into_iter().map(Watcher::new).collect();
    for watcher in &mut watchers {
        watcher.list(&world);
    }
    let count = watchers.len();
    let chosen = |n: u8| usize::from(n) % count;
    for act in acts {
        match *act {
            Act::Change(what, a, b) => {
                let (actor, command) = command(&world, (what, a, b));
                world.apply(actor, command);
            }
            Act::Read(n) => watchers[chosen(n)].read(&world, bytes).await,
            Act::BreakOff(n) => watchers[chosen(n)].break_off(),
        }
    }
    for watcher in &mut watchers {
        while watcher.at < world.last() || !watcher.parts.is_empty() {
            watcher.read(&world, bytes).await;
        }
        watcher.check(&world);
    }
    let again = watchers.iter().map(|w| w.lists - 1).sum();
    (again, watchers.iter().map(|w| w.messages_in_parts).sum())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 500, ..ProptestConfig::default() })]

    #[test]
    fn what_a_filtered_watcher_folds_is_the_filtered_state_and_no_event_comes_twice(
        acts in prop::collection::vec(act(), 1..200),
        bytes in 1usize..2_000,
    ) {
        runtime().block_on(play(&acts, bytes));
    }
}

/// That the histories reach what they are meant to; else the property above would say nothing.
#[test]
fn histories_make_watchers_list_again_and_revisions_come_in_parts() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut again, mut parts) = (0, 0);
    for _ in 0..10 {
        use proptest::strategy::ValueTree as _;
        let acts = prop::collection::vec(act(), 200)
            .new_tree(&mut runner)
            .unwrap()
            .current();
        let (lists, in_parts) = runtime().block_on(play(&acts, 300));
        again += lists;
        parts += in_parts;
    }
    assert!(
        again > 10 && parts > 10,
        "listed again {again} times, {parts} messages in parts"
    );
}
