//! Entries about preferences: mostly of whoever asks, sometimes of others.

use super::picks::{Pick, choose};
use crate::{
    command::{Command, Entry},
    tests::world::{World, actor},
};

pub(super) fn preferences(world: &mut World, Pick { a, b, c, .. }: Pick) -> Entry {
    let users = ["eve", "mallory", "admin"];
    world.actor = actor(choose(&users, a));
    let owner = if c % 4 == 0 { b } else { a };
    let known: Vec<_> = world.state.preferences.keys().cloned().collect();
    if !known.is_empty() && b % 4 == 1 {
        world.actor = choose(&known, a);
        let (principal, remove) = (world.actor.clone(), ["output", "page"].map(str::to_owned).into());
        return world.entry(Command::SetPreferences {
            principal,
            set: [].into(),
            remove,
        });
    }
    let key = |by| choose(&["output", "page"], by).to_owned();
    let (set, remove) = match b % 2 {
        0 => (
            [(key(c / 4), choose(&["1", "2"], a / 4).to_owned())].into(),
            [].into(),
        ),
        _ => ([].into(), [key(0), key(1)].into()),
    };
    world.entry(Command::SetPreferences {
        principal: actor(choose(&users, owner)),
        set,
        remove,
    })
}
