//! How much memory and time the generator's own books take: `cargo run --release --workspace --example books -- 10000000`.

#![expect(clippy::print_stdout, reason = "its figures are all it is for")]

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mipro_loadgen::{Progress, synthetic};

const LANES: usize = 64;

/// Prints the resident memory whenever another tenth is done.
struct Memory {
    total: u64,
    next: AtomicU64,
}

impl Progress for Memory {
    fn started(&self, _total: Option<u64>) {}

    fn tick(&self, done: u64, _errors: u64, _in_flight: u64) {
        let next = self.next.load(Ordering::Relaxed);
        if done >= next {
            self.next.store(next + self.total / 10, Ordering::Relaxed);
            println!("{done} recorded: {} resident", resident().unwrap_or_default());
        }
    }

    fn finished(&self) {}
}

fn resident() -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().to_owned())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let total = std::env::args().nth(1).map_or(Ok(10_000_000), |text| text.parse())?;
    let memory = Arc::new(Memory { total, next: AtomicU64::new(0) });
    let outcome = synthetic::run(total, LANES, memory).await?;
    let wall = outcome.wall.as_secs_f64();
    println!("{} rollouts in {wall:.1} s: {:.2} µs each", outcome.accounting.ok, wall * 1e6 / total as f64);
    println!("at the end: {} resident", resident().unwrap_or_default());
    Ok(())
}
