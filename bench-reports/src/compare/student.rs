//! Student's t distribution with whole degrees of freedom.
//!
//! For whole degrees of freedom the distribution is a finite sum of powers of a cosine: Abramowitz and Stegun, *Handbook of
//! Mathematical Functions*, 26.7.3 (odd) and 26.7.4 (even). Exact but for rounding, and no special functions.

use std::f64::consts::PI;

#[cfg(test)]
mod tests;

/// Steps of the bisection: enough to exhaust a double.
const BISECTIONS: u32 = 200;

/// P(T ≤ t) for `df` ≥ 1 degrees of freedom. Takes time proportional to `df`.
pub(crate) fn cdf(t: f64, df: u32) -> f64 {
    if t.is_infinite() {
        return if t > 0.0 { 1.0 } else { 0.0 };
    }
    0.5 + within(t.abs(), df) / 2.0 * t.signum()
}

/// The t with P(T ≤ t) = `p`, for 0 < `p` < 1 and `df` ≥ 1.
pub(crate) fn quantile(p: f64, df: u32) -> f64 {
    if p < 0.5 {
        return -quantile(1.0 - p, df);
    }
    let (mut low, mut high) = (0.0, 1.0);
    while cdf(high, df) < p && high < f64::MAX / 4.0 {
        low = high;
        high *= 2.0;
    }
    for _ in 0..BISECTIONS {
        let middle = f64::midpoint(low, high);
        if middle <= low || middle >= high {
            break;
        }
        if cdf(middle, df) < p {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

/// P(|T| ≤ t) for t ≥ 0: A(t|ν) of the handbook.
fn within(t: f64, df: u32) -> f64 {
    let theta = (t / f64::from(df).sqrt()).atan();
    let (sine, cosine) = theta.sin_cos();
    let square = cosine * cosine;
    let odd = !df.is_multiple_of(2);
    // Terms of the sum: cos θ (2/3) cos³ θ … for odd, 1 + (1/2) cos² θ + … for even degrees of freedom.
    let mut term = if odd { cosine } else { 1.0 };
    let mut sum = 0.0;
    let mut power = if odd { 1 } else { 0 };
    while power + 2 <= df {
        sum += term;
        term *= square * f64::from(power + 1) / f64::from(power + 2);
        power += 2;
    }
    let within = if odd { 2.0 / PI * (theta + sine * sum) } else { sine * sum };
    // Rounding may take it a little over.
    within.min(1.0)
}
