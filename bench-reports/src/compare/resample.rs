//! The pair-block bootstrap: how far the ratio of two quantiles moves when the pairs are drawn again.
//!
//! Requests of one slice resemble each other (they queue behind one another, and the machine is as fast as it is just then), so
//! resampling requests takes the same few slices for thousands of independent observations. What is independent are the pairs,
//! so whole pairs are drawn, with replacement, as many as there are; where neighbouring pairs still resemble each other,
//! whole quads. Sums and quantiles are taken anew for each draw. See docs/statistics.md.

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::cells::{Samples, Sums};
use super::pairs::Pair;
use super::student;

/// Draws of a bootstrap. The standard error they give is off by 1/√(2·2,000), or 1.6 %, itself.
pub(crate) const DRAWS: usize = 2000;

/// Autocorrelation of neighbouring pairs above which quads are drawn.
const LAG1_MAX: f64 = 0.3;

/// The smallest quantile in nanoseconds, so that it has a logarithm.
const FLOOR_NS: f64 = 0.5;

/// What the pairs say about one quantile.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Estimate {
    /// The quantile of each side's pairs together.
    pub(crate) a_ns: f64,
    pub(crate) b_ns: f64,
    /// ln(b / a).
    pub(crate) theta: f64,
    /// Standard error of `theta`.
    pub(crate) se: f64,
    /// Standard error of ln b.
    pub(crate) se_b: f64,
    pub(crate) blocks: u32,
    pub(crate) block_pairs: u32,
    pub(crate) lag1: Option<f64>,
}

impl Estimate {
    /// Half the width of the interval of ln(b / a) that leaves `alpha` on each side.
    pub(crate) fn half_width(&self, alpha: f64) -> f64 {
        self.t(1.0 - alpha) * self.se
    }

    /// The same of ln b.
    pub(crate) fn half_width_b(&self, alpha: f64) -> f64 {
        self.t(1.0 - alpha) * self.se_b
    }

    /// One-sided probability of `theta` or more if the sides were alike.
    pub(crate) fn p_value(&self) -> f64 {
        if self.se > 0.0 {
            1.0 - student::cdf(self.theta / self.se, self.blocks - 1)
        } else if self.theta > 0.0 {
            0.0
        } else {
            1.0
        }
    }

    /// The ln-ratio that is told from none with probability `power`.
    pub(crate) fn detectable(&self, alpha: f64, power: f64) -> f64 {
        (self.t(1.0 - alpha) + self.t(power)) * self.se
    }

    fn t(&self, p: f64) -> f64 {
        student::quantile(p, self.blocks - 1)
    }
}

/// The estimate of `name` at `quantile`. Every pair must have samples of it on both sides; `None` with fewer than two blocks.
pub(crate) fn estimate(pairs: &[Pair<'_>], name: &str, quantile: f64, seed: u64) -> Option<Estimate> {
    let a: Vec<&Samples> = pairs.iter().filter_map(|pair| pair.a.samples.get(name)).collect();
    let b: Vec<&Samples> = pairs.iter().filter_map(|pair| pair.b.samples.get(name)).collect();
    let lag1 = lag1(&differences(&a, &b, quantile));
    let block_pairs = if lag1.is_some_and(|r| r > LAG1_MAX) { 2 } else { 1 };
    let numbers: Vec<u32> = pairs.iter().map(|pair| pair.number / block_pairs).collect();
    let blocks = blocks(&numbers);
    if blocks.len() < 2 {
        return None;
    }
    let (sums_a, sums_b) = (Sums::of(&a), Sums::of(&b));
    let ln = |weights: &[u16]| {
        [&sums_a, &sums_b].map(|sums| sums.quantile_ns(weights, quantile).max(FLOOR_NS).ln())
    };
    let [ln_a, ln_b] = ln(&vec![1; pairs.len()]);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut weights = vec![0_u16; pairs.len()];
    let (mut spread, mut spread_b) = (Spread::default(), Spread::default());
    for _ in 0..DRAWS {
        draw(&mut rng, &blocks, &mut weights);
        let [drawn_a, drawn_b] = ln(&weights);
        spread.add(drawn_b - drawn_a);
        spread_b.add(drawn_b);
    }
    // Drawing g of g blocks spreads by (g − 1)/g less than the blocks themselves do.
    let g = blocks.len() as f64;
    let corrected = |spread: &Spread| spread.sd() * (g / (g - 1.0)).sqrt();
    Some(Estimate {
        a_ns: ln_a.exp(),
        b_ns: ln_b.exp(),
        theta: ln_b - ln_a,
        se: corrected(&spread),
        se_b: corrected(&spread_b),
        blocks: blocks.len() as u32,
        block_pairs,
        lag1,
    })
}

/// Each pair's own ln-ratio.
fn differences(a: &[&Samples], b: &[&Samples], quantile: f64) -> Vec<f64> {
    let ln = |samples: &Samples| samples.quantile_ns(quantile).map(|ns| ns.max(FLOOR_NS).ln());
    a.iter().zip(b).filter_map(|(a, b)| Some(ln(b)? - ln(a)?)).collect()
}

/// Lag-1 autocorrelation; `None` below four values, or where they are all the same.
fn lag1(values: &[f64]) -> Option<f64> {
    if values.len() < 4 {
        return None;
    }
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let square: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let product: f64 = values.windows(2).map(|two| (two[0] - mean) * (two[1] - mean)).sum();
    (square > 0.0).then(|| product / square)
}

/// Runs of equal numbers, as index ranges.
fn blocks(numbers: &[u32]) -> Vec<std::ops::Range<usize>> {
    let mut start = 0;
    numbers
        .chunk_by(|a, b| a == b)
        .map(|same| {
            let range = start..start + same.len();
            start = range.end;
            range
        })
        .collect()
}

fn draw(rng: &mut ChaCha8Rng, blocks: &[std::ops::Range<usize>], weights: &mut [u16]) {
    weights.fill(0);
    for _ in blocks {
        let block = &blocks[rng.random_range(0..blocks.len())];
        weights[block.clone()].iter_mut().for_each(|weight| *weight += 1);
    }
}

/// Mean and squared distance from it, one value after the other (Welford).
#[derive(Debug, Default)]
struct Spread {
    n: f64,
    mean: f64,
    m2: f64,
}

impl Spread {
    fn add(&mut self, value: f64) {
        self.n += 1.0;
        let off = value - self.mean;
        self.mean += off / self.n;
        self.m2 += off * (value - self.mean);
    }

    fn sd(&self) -> f64 {
        if self.n > 1.0 { (self.m2 / (self.n - 1.0)).sqrt() } else { 0.0 }
    }
}

#[cfg(test)]
mod tests;
