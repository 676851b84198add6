//! What a request's own clocks cost: the ledger, `Server-Timing` both ways, and the recorders.

use std::hint::black_box;

use mipro_microbench::{Scene, Supply, repeated};
use mipro_telemetry::server_timing::{breakdown_from, parse, write};
use mipro_telemetry::{Breakdown, Ledger, Operation, Recorders, Stage};

const REQUESTS: u32 = 100;

/// As the service tells of a proxied call.
const HEADER: &str = "queue;dur=0.004;n=1, policy.suggest;dur=0.021;n=1, log.append;dur=0.006;n=1, \
    prompt.render;dur=0.009;n=1, llm.connect;dur=0.2;n=1, llm.first_byte;dur=14.1;n=1, llm.body;dur=5.9;n=1, \
    gate.wait;dur=0.1;n=1;ov=0.1, other;dur=0.06, total;dur=20.4;op=start_rollout";

pub(super) fn all() -> Vec<Scene> {
    vec![
        Scene::pure("telemetry/ledger.eight_stages", REQUESTS, ledger),
        Scene::pure("telemetry/server_timing.write", REQUESTS, server_timing_write),
        Scene::pure("telemetry/server_timing.parse", REQUESTS, server_timing_parse),
        Scene::pure("telemetry/recorder.record", REQUESTS, record),
    ]
}

fn books() -> Breakdown {
    breakdown_from(&parse(HEADER)).expect("the header is as the service writes it")
}

/// A request's books: eight stages entered and left, counted, and closed.
fn ledger() -> Supply {
    const STAGES: [Stage; 8] = [
        Stage::Queue,
        Stage::PolicySuggest,
        Stage::LogAppend,
        Stage::PromptRender,
        Stage::LlmConnect,
        Stage::LlmFirstByte,
        Stage::LlmBody,
        Stage::GateWait,
    ];
    repeated(|| {
        for _ in 0..REQUESTS {
            let ledger = Ledger::start(Operation::StartRollout);
            for stage in STAGES {
                ledger.enter(black_box(stage)).done();
                ledger.count(stage, 1, 64, 0);
            }
            black_box(ledger.finish());
        }
    })
}

fn server_timing_write() -> Supply {
    let books = books();
    repeated(move || {
        for _ in 0..REQUESTS {
            black_box(write(black_box(&books)));
        }
    })
}

fn server_timing_parse() -> Supply {
    repeated(|| {
        for _ in 0..REQUESTS {
            black_box(breakdown_from(&parse(black_box(HEADER))));
        }
    })
}

/// Into histograms that are there already.
fn record() -> Supply {
    let (recorders, books) = (Recorders::new(), books());
    repeated(move || {
        for _ in 0..REQUESTS {
            recorders.record(black_box(&books));
        }
    })
}
