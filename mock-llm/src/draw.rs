//! Seeded draws: each is a pure function of (seed, what it is for, key), so that the order of calls changes nothing.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A stream of randomness of its own for this seed, purpose and key.
pub(crate) fn stream(seed: u64, purpose: &str, key: &[u8]) -> ChaCha8Rng {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    // The length keeps ("ab", "c") apart from ("a", "bc").
    hasher.update(&(purpose.len() as u64).to_le_bytes());
    hasher.update(purpose.as_bytes());
    hasher.update(key);
    ChaCha8Rng::from_seed(*hasher.finalize().as_bytes())
}

/// One draw, uniform on [0, 1).
pub(crate) fn uniform(seed: u64, purpose: &str, key: &[u8]) -> f64 {
    stream(seed, purpose, key).random()
}

/// One standard normal draw.
pub(crate) fn normal(rng: &mut ChaCha8Rng) -> f64 {
    // Box–Muller; 1 − u lies in (0, 1], so that its logarithm is finite.
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}

/// The 64 bits that stand for some bytes where a number is needed.
pub(crate) fn hash64(bytes: &[u8]) -> u64 {
    let hash = blake3::hash(bytes);
    let mut first = [0; 8];
    first.copy_from_slice(&hash.as_bytes()[..8]);
    u64::from_le_bytes(first)
}

#[cfg(test)]
mod tests;
