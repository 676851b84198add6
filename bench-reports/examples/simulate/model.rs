//! A machine that is never as fast as it was, a server with a queue, and load from somewhere else: what comparisons are tried on.
//!
//! One first-in-first-out server; Poisson arrivals; lengths of service lognormal. The machine's slowness is the exponential of
//! an autoregressive process of first order (stationary deviation `sigma`, memory `memory_s`), and now and then the hypervisor
//! takes most of the processor away for a while: bursts in which everything takes three times as long. Times are simulated;
//! nothing is measured.

use std::collections::BTreeMap;

use mipro_bench_reports::Side;
use mipro_bench_reports::compare::{Samples, Slice};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// The name of the one endpoint there is.
pub(crate) const ENDPOINT: &str = "rollout.response";

/// Mean length of service on side A, on a machine of mean speed.
const SERVICE_S: f64 = 0.002;
/// Deviation of the logarithm of the length of service.
const SERVICE_SPREAD: f64 = 0.4;
const SLICE_S: f64 = 2.0;
const BURST_EVERY_S: f64 = 8.0;
const BURST_MEAN_S: f64 = 0.15;
const BURST_FACTOR: f64 = 3.0;

/// What is simulated.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting {
    /// Arrivals per second times mean service.
    pub(crate) load: f64,
    /// How the machine's slowness varies: deviation of its logarithm.
    pub(crate) sigma: f64,
    /// For how long the machine stays as it is, in seconds.
    pub(crate) memory_s: f64,
    /// Whether there are bursts.
    pub(crate) bursts: bool,
    /// Whether both slices of a pair have the same arrivals and lengths of service.
    pub(crate) common_random_numbers: bool,
    /// How much longer B's service takes.
    pub(crate) factor: f64,
}

/// The machine's slowness over time, asked for at rising times.
struct Machine {
    setting: Setting,
    rng: ChaCha8Rng,
    level: f64,
    at_s: f64,
    burst: (f64, f64),
}

fn uniform(rng: &mut ChaCha8Rng) -> f64 {
    1.0 - rng.random::<f64>()
}

fn exponential(rng: &mut ChaCha8Rng, mean: f64) -> f64 {
    -mean * uniform(rng).ln()
}

/// Box and Muller.
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    (-2.0 * uniform(rng).ln()).sqrt() * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}

impl Machine {
    fn new(setting: Setting, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let level = setting.sigma * normal(&mut rng);
        let first = exponential(&mut rng, BURST_EVERY_S);
        Self { setting, rng, level, at_s: 0.0, burst: (first, first + BURST_MEAN_S) }
    }

    fn slowness(&mut self, at_s: f64) -> f64 {
        let kept = (-(at_s - self.at_s).max(0.0) / self.setting.memory_s).exp();
        let fresh = self.setting.sigma * (1.0 - kept * kept).sqrt();
        self.level = self.level * kept + fresh * normal(&mut self.rng);
        self.at_s = at_s;
        while self.burst.1 < at_s {
            let start = self.burst.1 + exponential(&mut self.rng, BURST_EVERY_S);
            self.burst = (start, start + exponential(&mut self.rng, BURST_MEAN_S));
        }
        let stolen = self.setting.bursts && at_s >= self.burst.0;
        self.level.exp() * if stolen { BURST_FACTOR } else { 1.0 }
    }
}

/// Response times in nanoseconds of one slice that starts at `start_s`.
fn responses(machine: &mut Machine, start_s: f64, factor: f64, seed: u64) -> Vec<u64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let gap_s = SERVICE_S / machine.setting.load;
    let (mut arrival_s, mut free_s) = (0.0, 0.0_f64);
    let mut all = Vec::new();
    loop {
        arrival_s += exponential(&mut rng, gap_s);
        if arrival_s > SLICE_S {
            return all;
        }
        let length = (SERVICE_SPREAD * normal(&mut rng) - SERVICE_SPREAD.powi(2) / 2.0).exp();
        let begin_s = free_s.max(arrival_s);
        free_s = begin_s + SERVICE_S * length * factor * machine.slowness(start_s + begin_s);
        all.push(((free_s - arrival_s) * 1e9) as u64);
    }
}

/// The order of sides: `ABBA` or `BAAB` quads, or all of A before all of B.
fn order(pairs: u32, interleaved: bool, rng: &mut ChaCha8Rng) -> Vec<(u32, Side)> {
    if !interleaved {
        let of = |side| (0..pairs).map(move |pair| (pair, side));
        return of(Side::A).chain(of(Side::B)).collect();
    }
    let mut order = Vec::new();
    for quad in 0..pairs.div_ceil(2) {
        let (first, second) = if rng.random() { (Side::A, Side::B) } else { (Side::B, Side::A) };
        let four = [(0, first), (0, second), (1, second), (1, first)];
        order.extend(
            four.map(|(half, side)| (2 * quad + half, side)).into_iter().filter(|(pair, _)| *pair < pairs),
        );
    }
    order
}

/// One run: response times by side, pair by pair in time order.
pub(crate) struct Run {
    /// Slices as a comparison takes them.
    pub(crate) slices: Vec<Slice>,
    /// Response times of each slice, in the same order.
    pub(crate) responses_ns: Vec<Vec<u64>>,
}

/// Simulates `pairs` pairs of slices.
pub(crate) fn run(setting: Setting, pairs: u32, interleaved: bool, seed: u64) -> Run {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut machine = Machine::new(setting, rng.random());
    let base: u64 = rng.random();
    let order = order(pairs, interleaved, &mut rng);
    let (mut slices, mut responses_ns) = (Vec::new(), Vec::new());
    for (index, (pair, side)) in order.into_iter().enumerate() {
        let start_s = index as f64 * (SLICE_S + 0.5);
        let factor = if side == Side::B { setting.factor } else { 1.0 };
        let own = if setting.common_random_numbers { 0 } else { side as u64 + 1 };
        let load_seed = base.wrapping_add(u64::from(pair) * 4 + own);
        let values = responses(&mut machine, start_s, factor, load_seed);
        let mut slice = Slice::new(side, pair, &BTreeMap::new());
        slice.samples.insert(ENDPOINT.to_owned(), values.iter().copied().collect::<Samples>());
        slice.started_s = start_s;
        slices.push(slice);
        responses_ns.push(values);
    }
    Run { slices, responses_ns }
}
