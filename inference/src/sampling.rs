//! Which token comes next. Pure: logits and a seeded generator in, a token id out.

use crate::request::Sampling;

/// Small seeded generator (SplitMix64). Our own, so that the same seed gives the same text across releases of crates.
#[derive(Clone, Debug)]
pub struct SeededRng(u64);

impl SeededRng {
    /// A generator that always gives the same numbers for the same seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number in `[0, 1)`.
    pub fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        // The 53 high bits are exactly the precision of an f64.
        (z >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Picks the next token from the logits `[vocabulary]`. `None` if there are none or one is not finite.
#[must_use]
pub fn next_token(logits: &[f32], sampling: &Sampling, rng: &mut SeededRng) -> Option<u32> {
    if logits.iter().any(|logit| !logit.is_finite()) {
        return None;
    }
    let index = if sampling.temperature > 0.0 {
        sample(logits, sampling, rng)
    } else {
        argmax(logits)
    }?;
    u32::try_from(index).ok()
}

/// Index of the largest value; the lowest index wins a tie, so that the answer depends on the numbers alone.
#[must_use]
pub fn argmax(values: &[f32]) -> Option<usize> {
    let mut best: Option<(usize, f32)> = None;
    for (index, &value) in values.iter().enumerate() {
        if best.is_none_or(|(_, top)| value > top) {
            best = Some((index, value));
        }
    }
    best.map(|(index, _)| index)
}

fn sample(logits: &[f32], sampling: &Sampling, rng: &mut SeededRng) -> Option<usize> {
    let top = f64::from(logits[argmax(logits)?]);
    let temperature = f64::from(sampling.temperature);
    let mut weights: Vec<(usize, f64)> = logits
        .iter()
        .map(|&logit| ((f64::from(logit) - top) / temperature).exp())
        .enumerate()
        .collect();
    // Likeliest first; equal weights by id, so that the order is total.
    weights.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let total: f64 = weights.iter().map(|(_, weight)| weight).sum();
    let bound = total * f64::from(sampling.top_p);
    let mut kept = 0.0;
    let nucleus = weights.iter().take_while(|(_, weight)| {
        let wanted = kept < bound;
        kept += weight;
        wanted
    });
    pick(&nucleus.copied().collect::<Vec<_>>(), rng)
}

fn pick(weights: &[(usize, f64)], rng: &mut SeededRng) -> Option<usize> {
    let total: f64 = weights.iter().map(|(_, weight)| weight).sum();
    let mut left = rng.unit() * total;
    for (index, weight) in weights {
        left -= weight;
        if left < 0.0 {
            return Some(*index);
        }
    }
    weights.last().map(|(index, _)| *index)
}

#[cfg(test)]
mod tests {
    use super::{SeededRng, argmax, next_token};
    use crate::request::Sampling;

    fn draw(logits: &[f32], temperature: f32, top_p: f32, count: usize) -> Vec<u32> {
        let sampling = Sampling {
            temperature,
            top_p,
            ..Sampling::default()
        };
        let mut rng = SeededRng::new(9);
        (0..count)
            .map(|_| next_token(logits, &sampling, &mut rng).unwrap())
            .collect()
    }

    #[test]
    fn ties_go_to_the_lowest_id() {
        assert_eq!(argmax(&[1.0, 3.0, 3.0, 2.0]), Some(1));
        assert_eq!(argmax(&[]), None);
        assert_eq!(draw(&[0.5, 0.5, 0.5], 0.0, 1.0, 1), [0]);
    }

    #[test]
    fn sampling_follows_the_probabilities() {
        // Probabilities 0.9 and 0.1.
        let drawn = draw(&[9.0_f32.ln(), 0.0], 1.0, 1.0, 10_000);
        let first = drawn.iter().filter(|id| **id == 0).count();
        assert!((8_800..9_200).contains(&first), "{first}");
    }

    #[test]
    fn top_p_keeps_only_the_likeliest() {
        let drawn = draw(&[1.0, 3.0, 2.9, -4.0], 1.0, 0.6, 1_000);
        assert!(drawn.iter().all(|id| *id == 1 || *id == 2));
        assert!(
            draw(&[1.0, 3.0, 2.9, -4.0], 1.0, 0.01, 100)
                .iter()
                .all(|id| *id == 1)
        );
    }

    #[test]
    fn logits_that_are_not_finite_give_no_token() {
        let mut rng = SeededRng::new(1);
        assert_eq!(next_token(&[1.0, f32::NAN], &Sampling::default(), &mut rng), None);
        assert_eq!(next_token(&[], &Sampling::default(), &mut rng), None);
    }
}
