//! Samples as few numbers, and quantiles of any weighted sum of slices in logarithmic time.
//!
//! A slice's histogram takes some 200 KiB however few samples it holds, and a bootstrap asks for the quantile of thousands of
//! weighted sums of slices. So samples are kept sparsely, as counts of cells of 1,024 to the octave (three significant
//! digits, HdrHistogram's own grid), and the slices of one side are laid out as running sums: cell by cell, how many samples
//! each slice has up to there. The quantile of a weighted sum of slices is then a binary search over cells, each step a
//! product of two short rows; within the cell it falls in, the quantile is interpolated.

use hdrhistogram::Histogram;

#[cfg(test)]
mod tests;

/// Cells of an octave, as a power of two.
const OCTAVE_BITS: u32 = 10;
const OCTAVE: u64 = 1 << OCTAVE_BITS;

/// Samples of nanoseconds, to three significant digits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Samples {
    /// Cell and count, by rising cell, no count 0.
    cells: Vec<(u32, u64)>,
    count: u64,
}

impl From<&Histogram<u64>> for Samples {
    fn from(histogram: &Histogram<u64>) -> Self {
        let mut cells: Vec<(u32, u64)> = Vec::new();
        for step in histogram.iter_recorded() {
            let middle = histogram.median_equivalent(step.value_iterated_to());
            let (cell, count) = (cell_of(middle), step.count_at_value());
            match cells.last_mut() {
                Some((last, total)) if *last == cell => *total += count,
                _ => cells.push((cell, count)),
            }
        }
        Self { count: cells.iter().map(|(_, count)| count).sum(), cells }
    }
}

impl FromIterator<u64> for Samples {
    fn from_iter<I: IntoIterator<Item = u64>>(values_ns: I) -> Self {
        let mut values: Vec<u32> = values_ns.into_iter().map(cell_of).collect();
        values.sort_unstable();
        let cells: Vec<(u32, u64)> =
            values.chunk_by(|a, b| a == b).map(|same| (same[0], same.len() as u64)).collect();
        Self { count: values.len() as u64, cells }
    }
}

impl Samples {
    /// How many.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The value at `quantile` (0 … 1) in nanoseconds, interpolated; `None` without samples.
    #[must_use]
    pub fn quantile_ns(&self, quantile: f64) -> Option<f64> {
        (!self.is_empty()).then(|| Sums::of(&[self]).quantile_ns(&[1], quantile))
    }

    /// As a histogram of nanoseconds with three significant digits.
    #[must_use]
    pub fn histogram(&self) -> Histogram<u64> {
        let mut recorder = crate::Recorder::new();
        for (cell, count) in &self.cells {
            recorder.record_n_ns(lowest_ns(*cell), *count);
        }
        recorder.histogram()
    }
}

/// The cell of a value: values up to 2,047 have their own, above that the eleven highest bits count.
fn cell_of(value_ns: u64) -> u32 {
    let octave = (value_ns | OCTAVE).ilog2() - OCTAVE_BITS;
    octave * OCTAVE as u32 + (value_ns >> octave) as u32
}

/// The smallest value of a cell.
fn lowest_ns(cell: u32) -> u64 {
    let octave = (cell >> OCTAVE_BITS).saturating_sub(1);
    u64::from(cell - octave * OCTAVE as u32) << octave
}

/// A cell's width.
fn width_ns(cell: u32) -> u64 {
    1 << (cell >> OCTAVE_BITS).saturating_sub(1)
}

/// The slices of one side, as running sums.
#[derive(Debug)]
pub(crate) struct Sums {
    /// Cells in which any slice has a sample, rising.
    cells: Vec<u32>,
    /// For each of them, one row: how many samples each slice has up to and in this cell.
    rows: Vec<u64>,
    slices: usize,
}

impl Sums {
    /// Takes time and memory proportional to slices × different cells.
    pub(crate) fn of(slices: &[&Samples]) -> Self {
        let mut cells: Vec<u32> =
            slices.iter().flat_map(|slice| slice.cells.iter().map(|(cell, _)| *cell)).collect();
        cells.sort_unstable();
        cells.dedup();
        let width = slices.len();
        let mut rows = vec![0; cells.len() * width];
        for (column, slice) in slices.iter().enumerate() {
            let (mut sum, mut counts) = (0, slice.cells.iter().peekable());
            for (row, cell) in cells.iter().enumerate() {
                if let Some((_, count)) = counts.next_if(|(next, _)| next == cell) {
                    sum += count;
                }
                rows[row * width + column] = sum;
            }
        }
        Self { cells, rows, slices: width }
    }

    /// Samples of the sum in which slice i counts `weights[i]` times.
    pub(crate) fn count(&self, weights: &[u16]) -> u64 {
        self.cells.len().checked_sub(1).map_or(0, |last| self.up_to(last, weights))
    }

    /// The `quantile` of that sum, in nanoseconds; there must be samples.
    ///
    /// Interpolated as if a cell's samples lay evenly in it, so that it moves smoothly and has no steps of a cell.
    pub(crate) fn quantile_ns(&self, weights: &[u16], quantile: f64) -> f64 {
        let target = quantile * self.count(weights) as f64;
        let (mut low, mut high) = (0, self.cells.len() - 1);
        while low < high {
            let middle = usize::midpoint(low, high);
            if (self.up_to(middle, weights) as f64) < target {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let before = low.checked_sub(1).map_or(0, |previous| self.up_to(previous, weights)) as f64;
        let within = self.up_to(low, weights) as f64 - before;
        let share = if within > 0.0 { ((target - before) / within).clamp(0.0, 1.0) } else { 0.5 };
        let cell = self.cells[low];
        lowest_ns(cell) as f64 + share * width_ns(cell) as f64
    }

    fn up_to(&self, row: usize, weights: &[u16]) -> u64 {
        let row = &self.rows[row * self.slices..(row + 1) * self.slices];
        row.iter().zip(weights).map(|(count, weight)| count * u64::from(*weight)).sum()
    }
}
