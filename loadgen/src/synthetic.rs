//! Rollouts without any network, for measuring the generator's own books: time and memory per recorded rollout.

use std::sync::Arc;
use std::time::Duration;

use mipro_telemetry::Breakdown;
use mipro_telemetry::server_timing::{HEADER, breakdown_from, parse};
use reqwest::header::{HeaderMap, HeaderValue};
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::join;
use crate::outcome::Outcome;
use crate::progress::Progress;
use crate::run::{Pass, run_pass};
use crate::schedule::Schedule;
use crate::session::{Books, Call, Finished, Session, Step};

/// What a service says of a rollout's first call, and of its last.
const BOOKS: [&str; 2] = [
    "queue;dur=0.004;n=1, policy.suggest;dur=0.021;n=1, log.append;dur=0.006;n=1, prompt.render;dur=0.009;n=1, \
     llm.connect;dur=0.2;n=1, llm.first_byte;dur=14.1;n=1, llm.body;dur=5.9;n=1, gate.wait;dur=0.1;n=1;ov=0.1, \
     other;dur=0.06, total;dur=20.4;op=start_rollout",
    "queue;dur=0.003;n=1, policy.observe;dur=0.012;n=1, log.append;dur=0.005;n=1, gate.wait;dur=0.21;n=1, \
     other;dur=0.03, total;dur=0.26;op=status_reward_done",
];

struct Synthetic {
    books: [Option<Breakdown>; 2],
}

impl Session for Synthetic {
    const CONNECTIONS_PER_LANE: usize = 0;

    async fn once(&self, index: u64) -> Finished {
        // Times that differ, so that histograms fill as they do in a run: from 20 ms up to 85 ms.
        let service_ns = 20_000_000 + (index.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 38);
        let steps = [Step::Rollout, Step::StatusRewardDone];
        let calls = steps.into_iter().zip(&self.books).map(|(step, books)| {
            let mut books: Vec<Breakdown> = books.iter().cloned().collect();
            if let Some(entry) = books.first_mut().and_then(|b| b.entries.first_mut()) {
                entry.exclusive_ns += service_ns / 1_000;
            }
            Call { step, service_ns: service_ns + 1_000_000, books, failure: None }
        });
        let calls = calls.collect();
        // Nothing here waits, and the one who tells progress has to get its turn.
        if index.is_multiple_of(64) {
            tokio::task::yield_now().await;
        }
        Finished { calls, reward: Some(1.0), acknowledged: true, planned_us: None }
    }

    fn system(&self, _index: u64) -> usize {
        0
    }

    fn books(&self) -> Books {
        Books::Expected
    }
}

/// The headers of the answer to a rollout's first call.
#[must_use]
pub fn headers() -> HeaderMap {
    [(HEADER.parse().expect("it is a header's name"), HeaderValue::from_static(BOOKS[0]))]
        .into_iter()
        .collect()
}

/// What the generator reads in an answer's headers: requests behind it, whether one's times don't add up, and the LLM's part in
/// nanoseconds.
#[must_use]
pub fn join(headers: &HeaderMap) -> (usize, bool, u64) {
    let books = join::books(headers);
    (books.len(), books.iter().any(join::sum_is_off), books.iter().map(join::llm_ns).sum())
}

/// Makes and records so many on so many lanes.
///
/// # Errors
/// As [`crate::run()`].
pub async fn run(rollouts: u64, lanes: usize, progress: Arc<dyn Progress>) -> Result<Outcome, Error> {
    let session = Arc::new(Synthetic { books: BOOKS.map(|header| breakdown_from(&parse(header))) });
    let pass = Pass {
        first: 0,
        count: Some(rollouts),
        lanes,
        fixed: false,
        systems: 1,
        duration: None,
        drain: Duration::ZERO,
        deadline: None,
        schedule: Schedule::Closed,
        record: false,
        slots_measured: false,
    };
    let ran = run_pass(pass, session, progress, CancellationToken::new()).await?;
    Ok(Outcome::new(ran, 0, 1))
}
