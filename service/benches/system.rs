//! What the pure core, its codecs and its snapshots cost: `cargo bench -p mipro-service --bench system`. Prints figures, judges
//! nothing: the machine may be shared. The best of a few runs is shown.

#![expect(clippy::print_stdout, reason = "a benchmark's figures are its output")]

use std::sync::Arc;
use std::time::Duration;

use mipro_service::codec;
use mipro_service::snapshot::format::{Expected, pack, unpack};
use mipro_service::system::{
    CandidateContent, Command, Context, Message, NewCandidate, NewSystem, NoProbe, PatternMessage, Prompt,
    Recorded, State, Status, StatusReport, SystemSpec, apply, begin, decide, record,
};
use mipro_telemetry::clock;
use uuid::Uuid;

const RUNS: usize = 5;
const CANDIDATES: u32 = 8;
const SYSTEM: Uuid = Uuid::from_u128(1);

/// A command's events, as they are and as the log keeps them.
struct Batch {
    events: Vec<Recorded>,
    payload: Vec<u8>,
}

fn main() {
    let start = system();
    let (state, log) = traffic(start.clone(), 100_000);
    let events: usize = log.iter().map(|batch| batch.events.len()).sum();
    let bytes: usize = log.iter().map(|batch| batch.payload.len()).sum();
    println!(
        "{events} events of {} rollouts in {} batches, {} bytes a batch",
        state.totals.rollouts,
        log.len(),
        bytes / log.len()
    );
    folds(&start, &state, &log, events);
    for entries in [1_000, 100_000] {
        let log = &log[..2 * entries];
        let mut state = start.clone();
        for batch in log {
            batch.events.iter().for_each(|recorded| apply(&mut state, recorded, &mut NoProbe));
        }
        snapshots(&state, entries);
    }
}

/// A system with some candidates, before its first rollout.
fn system() -> State {
    let pattern = |role: &str, order, pattern: &str| PatternMessage {
        role: role.into(),
        order,
        pattern: pattern.into(),
    };
    let messages = vec![pattern("system", 0, "Answer with one label."), pattern("user", 1, "Query: {query}")];
    let wildcards = [("query".to_owned(), "REQUIRED".to_owned())].into();
    let prompt = Arc::new(Prompt::new("p".into(), "P".into(), messages, wildcards));
    let spec = SystemSpec { prompt, model: "m".into(), provider: "mock".into(), ..SystemSpec::default() };
    let new = NewSystem { system_id: SYSTEM, org_id: Uuid::from_u128(2), name: None, spec };
    let context = Context { now_us: 1_700_000_000_000_000, seed: 0 };
    let mut state = begin(&new, &context).0;
    for index in 1..CANDIDATES {
        let deltas = serde_json::json!({"instruction_text": format!("Wording {index}. ").repeat(40)});
        let content = CandidateContent { deltas, ..CandidateContent::default() };
        run(&mut state, &Command::AddCandidate(NewCandidate { content, ..NewCandidate::default() }), context);
    }
    state
}

fn run(state: &mut State, command: &Command, context: Context) -> Batch {
    let decision =
        decide(state, command, &context, &mut NoProbe).expect("a command of the benchmark is valid");
    let events = record(state, decision.events, &context);
    let mut payload = Vec::new();
    codec::event::encode(&events, &mut payload);
    events.iter().for_each(|recorded| apply(state, recorded, &mut NoProbe));
    Batch { events, payload }
}

/// Rollouts at 200 a second with ids as clients make them: begun, then rewarded and done.
fn traffic(mut state: State, rollouts: u64) -> (State, Vec<Batch>) {
    let text = |role: &str, text: String| Message { role: role.into(), text: Some(text) };
    let query = format!("Query: {}", "which of these labels fits? ".repeat(100));
    let messages: Arc<[Message]> =
        Arc::new([text("system", "Answer with one label.".into()), text("user", query)]);
    let mut log = Vec::new();
    let begun = clock::now();
    for index in 0..rollouts {
        let context =
            Context { now_us: state.updated_us + 5_000, seed: index.wrapping_mul(0x9e37_79b9_7f4a_7c15) };
        let rollout_id = Uuid::from_u128(u128::from(context.seed) << 64 | 0x4000_8000).to_string();
        let command =
            Command::StartRollout { rollout_id: rollout_id.clone(), messages: Arc::clone(&messages) };
        log.push(run(&mut state, &command, context));
        let reward = (context.seed >> 11) as f64 / (1_u64 << 53) as f64;
        let (status, reward) = (Status::RewardDone, Some(reward));
        let report = Command::Report(StatusReport { rollout_id, status, reward, candidate_id: None });
        log.push(run(&mut state, &report, context));
    }
    let each = begun.elapsed().as_secs_f64() * 1e6 / (2 * rollouts) as f64;
    println!("decide + number + encode + apply        {each:9.2} us a command");
    (state, log)
}

/// The best of some runs of `work` upon what `prepare` makes.
fn best<T, R>(mut prepare: impl FnMut() -> T, mut work: impl FnMut(T) -> R) -> Duration {
    let mut best = Duration::MAX;
    for _ in 0..RUNS {
        let input = prepare();
        let begun = clock::now();
        let output = work(input);
        best = best.min(begun.elapsed());
        drop(output);
    }
    best
}

fn folds(start: &State, end: &State, log: &[Batch], events: usize) {
    let rate = |what: &str, took: Duration| {
        println!("{what:<40}{:9.2} million events/s", events as f64 / took.as_secs_f64() / 1e6);
    };
    let fold = |mut state: State| {
        log.iter().flat_map(|batch| &batch.events).for_each(|event| apply(&mut state, event, &mut NoProbe));
        state
    };
    rate("apply", best(|| start.clone(), fold));
    let read = |batch: &Batch| {
        let count = u32::try_from(batch.events.len()).expect("few");
        codec::event::decode(&batch.payload, batch.events[0].seq, count).expect("it was just encoded")
    };
    let decode = |mut state: State| {
        for batch in log {
            read(batch).iter().for_each(|event| apply(&mut state, event, &mut NoProbe));
        }
        state
    };
    rate("decode + apply", best(|| start.clone(), decode));
    let replay = |mut state: State| {
        for Batch { events, payload } in log {
            let count = u32::try_from(events.len()).expect("few");
            codec::event::replay(payload, events[0].seq, count, &mut state).expect("it was just encoded");
        }
        assert_eq!(state.version, end.version);
        state
    };
    rate("replay", best(|| start.clone(), replay));
    let encode = |mut out: Vec<u8>| {
        for batch in log {
            out.clear();
            codec::event::encode(&batch.events, &mut out);
        }
        out
    };
    rate("encode events", best(Vec::new, encode));
}

fn snapshots(state: &State, entries: usize) {
    let time = |what: &str, took: Duration| println!("  {what:<38}{:9.1} us", took.as_secs_f64() * 1e6);
    let raw = codec::state::encode(state);
    let packed = pack(state, 1).expect("it fits");
    let expected = Expected { checksum: Some(packed.checksum), bytes: None, system: SYSTEM };
    let each = |bytes: usize| bytes as f64 / entries as f64;
    println!(
        "{entries} rollouts remembered: {} bytes raw, {} packed, {:.1} and {:.1} a rollout",
        raw.len(),
        packed.bytes.len(),
        each(raw.len()),
        each(packed.bytes.len())
    );
    time("clone", best(|| (), |()| state.clone()));
    time("encode", best(|| (), |()| codec::state::encode(state)));
    time("pack (encode, zstd, hashes)", best(|| (), |()| pack(state, 1)));
    time("decode", best(|| (), |()| codec::state::decode(&raw)));
    time("unpack (hashes, zstd, decode)", best(|| (), |()| unpack(&packed.bytes, &expected)));
}
