//! Which version of a model a user gets while an experiment runs.
//!
//! **The slot of a user**, byte for byte, so that any program comes to the same: take SHA-256 of the UTF-8 bytes of the model's
//! name, one byte 0, the experiment's name, one byte 0, and the user's id as the caller writes it. Read its first eight bytes
//! as an unsigned number, the big end first. The slot is what remains of it divided by 100. No name has a byte 0 in it, so no
//! two triples give the same bytes.
//!
//! **The arm of a slot** stands in the experiment's record ([`types::experiment::Slots`]). When a split changes, an arm that
//! shrinks gives up its highest slots, and those that grow take the freed ones, the lowest first, in the order of the arms.
//! So whoever changes arms goes from one that shrank to one that grew, no more users do than must, and an arm that grows
//! loses nobody.
//!
//! Absent on purpose: where a user is. The answer depends on names, the user's id and the record alone, so it is the same in
//! every region, after every restart and under every leader. Which versions can be served is the caller's to say.
//! Invariant: equal arguments give equal answers, for ever: what a user got must not change with a release.

use types::{
    Digest, ExperimentName, ModelName, ModelVersion,
    experiment::{ExperimentRecord, SLOTS, Slots},
};

/// What a user gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The user's slot, below [`SLOTS`].
    pub slot: usize,
    /// The version of the arm that the slot belongs to.
    pub arm: ModelVersion,
    /// The version that answers: the arm's; that of the first arm where the arm's cannot be served; none where neither can.
    pub version: Option<ModelVersion>,
}

/// The slot of a user in an experiment, as the module says. Below [`SLOTS`].
pub fn slot(model: &ModelName, experiment: &ExperimentName, user: &str) -> usize {
    let parts = [
        model.as_str().as_bytes(),
        experiment.as_str().as_bytes(),
        user.as_bytes(),
    ];
    let digest = Digest::of(&parts.join(&0));
    let (first, _) = digest.as_bytes().split_at(8);
    let number = first.iter().fold(0_u64, |n, byte| (n << 8) | u64::from(*byte));
    // The rest of a division by 100 fits any number.
    usize::try_from(number % SLOTS as u64).unwrap_or(0)
}

/// What a user gets of an experiment; none where the record has no arm for the slot, which no rule of the registry allows.
pub fn assign(
    experiment: &ExperimentRecord,
    user: &str,
    is_servable: impl Fn(ModelVersion) -> bool,
) -> Option<Assignment> {
    let slot = slot(&experiment.model, &experiment.name, user);
    let owner = experiment.slots.owners().get(slot)?;
    let arm = experiment.arms.get(usize::from(*owner))?.version;
    let first = experiment.arms.first()?.version;
    let version = [arm, first].into_iter().find(|version| is_servable(*version));
    Some(Assignment { slot, arm, version })
}

/// The slots of arms with these percents, as near as can be to those of `before`; none: nobody had any. Percents must add up
/// to [`SLOTS`], and there may be 255 arms; otherwise there is no such layout.
pub fn lay_out(before: Option<&Slots>, percents: &[u32]) -> Option<Slots> {
    let mut owners: [Option<u8>; SLOTS] = [None; SLOTS];
    if let Some(before) = before {
        owners = before.owners().map(Some);
    }
    let wanted = |arm: u8| percents.get(usize::from(arm)).map_or(0, |n| *n as usize);
    let mut kept = [0_usize; 256];
    for owner in &mut owners {
        let Some(arm) = *owner else { continue };
        let count = kept.get_mut(usize::from(arm))?;
        *count += 1;
        if *count > wanted(arm) {
            *owner = None;
        }
    }
    let mut free = owners.iter_mut().filter(|owner| owner.is_none());
    for arm in 0..percents.len() {
        let arm = u8::try_from(arm).ok()?;
        let had = kept.get(usize::from(arm)).copied().unwrap_or(0);
        for _ in had..wanted(arm) {
            *free.next()? = Some(arm);
        }
    }
    let owners: Option<Vec<u8>> = owners.into_iter().collect();
    Slots::new(&owners?)
}
