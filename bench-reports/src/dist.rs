//! Distributions: recorded in HDR histograms, reported with percentiles that have enough samples behind them.

use std::io::Cursor;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer as _, V2DeflateSerializer};
use serde::{Deserialize, Serialize};

#[cfg(test)]
mod tests;

/// Samples that must lie beyond a percentile before it is shown.
pub const SAMPLES_BEYOND_MIN: u64 = 10;

/// Largest value a [`Recorder`] keeps: one hour, in nanoseconds. Larger ones are recorded as this.
pub const VALUE_MAX_NS: u64 = 3_600_000_000_000;

/// Samples a [`Recorder`] keeps as they are before it turns to a histogram: 8 KiB, against some 200 KiB.
const FEW_MAX: usize = 1024;

/// Longest `hdr` text that is decoded; a histogram of this crate's bounds stays far below.
const HDR_TEXT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A mergeable distribution of nanoseconds with three significant digits.
///
/// Memory: up to 8 KiB for the first 1,024 samples, at most 280 KiB however many follow, so that hundreds of recorders
/// (stage × operation × worker) cost little. Sum, smallest and largest are exact.
#[derive(Debug, Clone)]
pub struct Recorder {
    samples: Samples,
    sum_ns: u128,
    min_ns: u64,
    max_ns: u64,
}

#[derive(Debug, Clone)]
enum Samples {
    Few(Vec<u64>),
    Many(Box<Histogram<u64>>),
}

/// A distribution as reported, in microseconds. A percentile with fewer than [`SAMPLES_BEYOND_MIN`] samples beyond it is
/// null, so a p50 rests on 20 samples or more.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Dist {
    /// Samples.
    pub count: u64,
    /// Smallest.
    pub min_us: Option<f64>,
    /// Mean.
    pub mean_us: Option<f64>,
    /// Standard deviation of the samples.
    pub stdev_us: Option<f64>,
    /// Median.
    pub p50_us: Option<f64>,
    /// 90th percentile.
    pub p90_us: Option<f64>,
    /// 95th percentile.
    pub p95_us: Option<f64>,
    /// 99th percentile.
    pub p99_us: Option<f64>,
    /// 99.9th percentile.
    pub p99_9_us: Option<f64>,
    /// Largest.
    pub max_us: Option<f64>,
    /// The whole histogram: base64 of HdrHistogram's V2-deflate, values in nanoseconds; empty when there are no samples.
    pub hdr: String,
}

/// Why a [`Dist`]'s `hdr` could not be read.
#[derive(Debug, thiserror::Error)]
pub enum HdrError {
    /// Longer than any histogram of this crate.
    #[error("the histogram text has {bytes} bytes, more than the {HDR_TEXT_BYTES_MAX} this build reads")]
    TooLong {
        /// Length of the text.
        bytes: usize,
    },
    /// Not base64.
    #[error("the histogram is not base64")]
    Base64(#[from] base64::DecodeError),
    /// Not a V2 or V2-deflate histogram.
    #[error("the histogram is not HdrHistogram V2 or V2-deflate: {0}")]
    Format(String),
    /// `count` and the histogram contradict each other.
    #[error("the histogram holds {histogram} samples where the distribution counts {count}")]
    Count {
        /// What [`Dist::count`] says.
        count: u64,
        /// What the histogram holds.
        histogram: u64,
    },
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

impl Recorder {
    /// An empty one; allocates nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { samples: Samples::Few(Vec::new()), sum_ns: 0, min_ns: u64::MAX, max_ns: 0 }
    }

    /// Adds a sample; values outside 1 ns … 1 h are clamped.
    pub fn record_ns(&mut self, value_ns: u64) {
        self.record_n_ns(value_ns, 1);
    }

    /// Adds a sample `count` times; clamped like [`Recorder::record_ns`].
    pub(crate) fn record_n_ns(&mut self, value_ns: u64, count: u64) {
        if count == 0 {
            return;
        }
        let value = value_ns.clamp(1, VALUE_MAX_NS);
        self.sum_ns += u128::from(value) * u128::from(count);
        self.min_ns = self.min_ns.min(value);
        self.max_ns = self.max_ns.max(value);
        self.add(value, count);
    }

    /// Samples so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        match &self.samples {
            Samples::Few(values) => values.len() as u64,
            Samples::Many(histogram) => histogram.len(),
        }
    }

    /// Whether nothing was recorded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// The exact sum of all samples, in nanoseconds.
    #[must_use]
    pub fn sum_ns(&self) -> u128 {
        self.sum_ns
    }

    /// The exact mean in nanoseconds; `None` without samples.
    #[must_use]
    pub fn mean_ns(&self) -> Option<f64> {
        (!self.is_empty()).then(|| self.sum_ns as f64 / self.count() as f64)
    }

    /// The value at `quantile` (0 … 1) in nanoseconds, to three digits; `None` without samples.
    #[must_use]
    pub fn quantile_ns(&self, quantile: f64) -> Option<u64> {
        (!self.is_empty()).then(|| self.clamped_quantile(&self.histogram(), quantile))
    }

    /// Adds another recorder's samples.
    pub fn merge(&mut self, other: &Self) {
        self.sum_ns += other.sum_ns;
        self.min_ns = self.min_ns.min(other.min_ns);
        self.max_ns = self.max_ns.max(other.max_ns);
        match &other.samples {
            Samples::Few(values) => values.iter().for_each(|&value| self.add(value, 1)),
            Samples::Many(histogram) => {
                for step in histogram.iter_recorded() {
                    self.add(step.value_iterated_to(), step.count_at_value());
                }
            }
        }
    }

    /// The samples as a histogram of nanoseconds.
    #[must_use]
    pub fn histogram(&self) -> Histogram<u64> {
        match &self.samples {
            Samples::Few(values) => {
                let mut histogram = empty_histogram();
                values.iter().for_each(|&value| record_into(&mut histogram, value, 1));
                histogram
            }
            Samples::Many(histogram) => (**histogram).clone(),
        }
    }

    /// The distribution as it is reported.
    #[must_use]
    pub fn to_dist(&self) -> Dist {
        let count = self.count();
        if count == 0 {
            return Dist::default();
        }
        let histogram = self.histogram();
        let at = |per_mille: u64| {
            let shown = beyond_exceeds_minimum(count, per_mille);
            shown.then(|| us(self.clamped_quantile(&histogram, per_mille as f64 / 1000.0)))
        };
        Dist {
            count,
            min_us: Some(us(self.min_ns)),
            mean_us: self.mean_ns().map(|ns| round_us(ns / 1000.0)),
            stdev_us: Some(round_us(histogram.stdev() / 1000.0)),
            p50_us: at(500),
            p90_us: at(900),
            p95_us: at(950),
            p99_us: at(990),
            p99_9_us: at(999),
            max_us: Some(us(self.max_ns)),
            hdr: encode(&histogram),
        }
    }

    /// The recorder that a reported distribution came from, to three digits; mean, smallest and largest are taken over
    /// where the distribution has them.
    ///
    /// # Errors
    /// When `hdr` cannot be read, or holds another number of samples than `count`.
    pub fn from_dist(dist: &Dist) -> Result<Self, HdrError> {
        let mut recorder = Self::from_hdr(&dist.hdr)?;
        if recorder.count() != dist.count {
            return Err(HdrError::Count { count: dist.count, histogram: recorder.count() });
        }
        if let Some(mean) = dist.mean_us.filter(|mean| mean.is_finite() && *mean >= 0.0) {
            recorder.sum_ns = (mean * 1000.0 * dist.count as f64).round() as u128;
        }
        let ns = |value: Option<f64>| value.map(|us| (us * 1000.0).round() as u64);
        let (min_ns, max_ns) =
            (ns(dist.min_us).unwrap_or(recorder.min_ns), ns(dist.max_us).unwrap_or(recorder.max_ns));
        if min_ns <= max_ns {
            (recorder.min_ns, recorder.max_ns) = (min_ns, max_ns);
        }
        Ok(recorder)
    }

    /// Reads a base64 V2 or V2-deflate histogram of nanoseconds; the empty text is the empty recorder.
    ///
    /// # Errors
    /// When it isn't one.
    pub fn from_hdr(hdr: &str) -> Result<Self, HdrError> {
        let mut recorder = Self::new();
        if hdr.is_empty() {
            return Ok(recorder);
        }
        let decoded = decode(hdr)?;
        for step in decoded.iter_recorded() {
            let value = decoded.median_equivalent(step.value_iterated_to()).clamp(1, VALUE_MAX_NS);
            recorder.record_n_ns(value, step.count_at_value());
        }
        Ok(recorder)
    }

    fn add(&mut self, value: u64, count: u64) {
        if let Samples::Few(values) = &mut self.samples {
            if count <= (FEW_MAX - values.len()) as u64 {
                values.extend((0..count).map(|_| value));
                return;
            }
            self.samples = Samples::Many(Box::new(self.histogram()));
        }
        if let Samples::Many(histogram) = &mut self.samples {
            record_into(histogram, value, count);
        }
    }

    /// A bucket's upper edge may lie above the largest sample: no percentile is shown above the maximum.
    fn clamped_quantile(&self, histogram: &Histogram<u64>, quantile: f64) -> u64 {
        histogram.value_at_quantile(quantile).clamp(self.min_ns, self.max_ns)
    }
}

impl Extend<u64> for Recorder {
    fn extend<I: IntoIterator<Item = u64>>(&mut self, values_ns: I) {
        values_ns.into_iter().for_each(|value| self.record_ns(value));
    }
}

impl FromIterator<u64> for Recorder {
    fn from_iter<I: IntoIterator<Item = u64>>(values_ns: I) -> Self {
        let mut recorder = Self::new();
        recorder.extend(values_ns);
        recorder
    }
}

impl Dist {
    /// The value in microseconds that `percentile` (above 0, below 100) of the samples do not exceed: as it is reported where it
    /// is, else from the histogram. `None` with fewer than [`SAMPLES_BEYOND_MIN`] samples beyond it, or without a histogram.
    #[must_use]
    pub fn percentile_us(&self, percentile: f64) -> Option<f64> {
        let reported = [
            (50.0, self.p50_us),
            (90.0, self.p90_us),
            (95.0, self.p95_us),
            (99.0, self.p99_us),
            (99.9, self.p99_9_us),
        ];
        if let Some((_, value)) = reported.into_iter().find(|(of, _)| (of - percentile).abs() < 1e-9) {
            return value;
        }
        if self.count < Self::samples_needed(percentile) {
            return None;
        }
        let value_ns = Recorder::from_dist(self).ok()?.quantile_ns(percentile / 100.0)?;
        Some(us(value_ns))
    }

    /// Samples without which a percentile is not shown.
    #[must_use]
    pub fn samples_needed(percentile: f64) -> u64 {
        // A thousandth of a sample more or less is rounding.
        (SAMPLES_BEYOND_MIN as f64 / (1.0 - percentile / 100.0) - 1e-3).ceil() as u64
    }

    /// The distribution that a base64 V2 or V2-deflate histogram of nanoseconds holds.
    ///
    /// # Errors
    /// When `hdr` isn't one.
    pub fn from_hdr(hdr: &str) -> Result<Self, HdrError> {
        Ok(Recorder::from_hdr(hdr)?.to_dist())
    }

    /// The whole histogram, in nanoseconds; empty without samples.
    ///
    /// # Errors
    /// When `hdr` isn't one.
    pub fn decode(&self) -> Result<Histogram<u64>, HdrError> {
        if self.hdr.is_empty() { Ok(empty_histogram()) } else { decode(&self.hdr) }
    }
}

fn empty_histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three significant digits are within 0 … 5")
}

fn record_into(histogram: &mut Histogram<u64>, value: u64, count: u64) {
    histogram.record_n(value, count).expect("values up to one hour fit a histogram that grows");
}

/// Whether at least [`SAMPLES_BEYOND_MIN`] of `count` samples lie beyond the percentile; in integers, since 100 × (1 − 0.9)
/// falls short of 10 in floating point.
fn beyond_exceeds_minimum(count: u64, per_mille: u64) -> bool {
    u128::from(count) * u128::from(1000 - per_mille) >= u128::from(SAMPLES_BEYOND_MIN) * 1000
}

fn us(ns: u64) -> f64 {
    ns as f64 / 1000.0
}

fn round_us(us: f64) -> f64 {
    (us * 1000.0).round() / 1000.0
}

pub(crate) fn encode(histogram: &Histogram<u64>) -> String {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new()
        .serialize(histogram, &mut bytes)
        .expect("writing a histogram of these bounds to memory cannot fail");
    BASE64.encode(bytes)
}

fn decode(hdr: &str) -> Result<Histogram<u64>, HdrError> {
    if hdr.len() > HDR_TEXT_BYTES_MAX {
        return Err(HdrError::TooLong { bytes: hdr.len() });
    }
    let bytes = BASE64.decode(hdr)?;
    Deserializer::new()
        .deserialize(&mut Cursor::new(bytes))
        .map_err(|error| HdrError::Format(error.to_string()))
}
