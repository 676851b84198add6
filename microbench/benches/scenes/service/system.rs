//! Deciding and applying, and events and states as bytes, on a system with eight candidates that remembers its last rollouts.

use std::hint::black_box;
use std::sync::Arc;

use mipro_microbench::{Scene, Supply, Work, repeated};
use mipro_service::codec;
use mipro_service::system::{
    CandidateContent, Command, Context, Limits, Message, NewCandidate, NewSystem, NoProbe, PatternMessage,
    Prompt, Recorded, State, Status, StatusReport, SystemSpec, apply, begin, decide, record,
};
use uuid::Uuid;

const CANDIDATES: u32 = 8;
/// Closed rollouts that the state remembers; it is full of them.
const REMEMBERED: u64 = 1_000;
/// Commands of one call.
const COMMANDS: u32 = 50;

pub(super) fn all() -> Vec<Scene> {
    vec![
        Scene::pure("service/system.start_rollout", COMMANDS, start_rollout),
        Scene::pure("service/system.reward_done", COMMANDS, reward_done),
        Scene::pure("service/codec.events_encode", COMMANDS, events_encode),
        Scene::pure("service/codec.events_decode", COMMANDS, events_decode),
        Scene::pure("service/codec.events_replay", COMMANDS, events_replay),
        Scene::pure("service/codec.state_encode", 1, state_encode),
        Scene::pure("service/codec.state_decode", 1, state_decode),
    ]
}

/// The prompt of all scenes: two messages, one wildcard.
pub(super) fn prompt() -> Prompt {
    let pattern = |role: &str, order, pattern: &str| PatternMessage {
        role: role.into(),
        order,
        pattern: pattern.into(),
    };
    let messages = vec![pattern("system", 0, "Answer with one label."), pattern("user", 1, "Query: {query}")];
    Prompt::new("p".into(), "P".into(), messages, [("query".to_owned(), "REQUIRED".to_owned())].into())
}

/// What a candidate changes: the instruction.
pub(super) fn wording(index: u32) -> CandidateContent {
    let deltas = serde_json::json!({"instruction_text": format!("Wording {index}. ").repeat(40)});
    CandidateContent { deltas, ..CandidateContent::default() }
}

/// The text that stands for the wildcard.
pub(super) fn query() -> String {
    "which of these labels fits? ".repeat(20)
}

/// A system in the middle of its life: as many rollouts closed as it remembers.
fn system() -> State {
    let limits = Limits { rollouts_closed_max: REMEMBERED as usize, ..Limits::default() };
    let spec = SystemSpec {
        prompt: Arc::new(prompt()),
        model: "m".into(),
        provider: "mock".into(),
        limits,
        ..SystemSpec::default()
    };
    let new = NewSystem { system_id: Uuid::from_u128(1), org_id: Uuid::from_u128(2), name: None, spec };
    let context = Context { now_us: 1_700_000_000_000_000, seed: 0 };
    let mut state = begin(&new, &context).0;
    for index in 1..CANDIDATES {
        let add = Command::AddCandidate(NewCandidate { content: wording(index), ..NewCandidate::default() });
        run(&mut state, &add, context);
    }
    for index in 0..REMEMBERED {
        begun(&mut state, index);
        let context = at(&state, index);
        run(&mut state, &report(index), context);
    }
    state
}

fn at(state: &State, index: u64) -> Context {
    Context { now_us: state.updated_us + 5_000, seed: seed(index) }
}

/// What is random about a rollout.
fn seed(index: u64) -> u64 {
    index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn rollout_id(index: u64) -> String {
    Uuid::from_u128(u128::from(seed(index)) << 64 | 0x4000_8000).to_string()
}

fn start(index: u64) -> Command {
    let text = |role: &str, text: String| Message { role: role.into(), text: Some(text) };
    let messages =
        [text("system", "Answer with one label.".into()), text("user", format!("Query: {}", query()))];
    Command::StartRollout { rollout_id: rollout_id(index), messages: Arc::new(messages) }
}

fn begun(state: &mut State, index: u64) -> Vec<Recorded> {
    let context = at(state, index);
    run(state, &start(index), context)
}

fn report(index: u64) -> Command {
    let reward = (seed(index) >> 11) as f64 / (1_u64 << 53) as f64;
    let (status, reward) = (Status::RewardDone, Some(reward));
    Command::Report(StatusReport { rollout_id: rollout_id(index), status, reward, candidate_id: None })
}

fn run(state: &mut State, command: &Command, context: Context) -> Vec<Recorded> {
    let decision = decide(state, command, &context, &mut NoProbe).expect("a command of a scene is valid");
    let events = record(state, decision.events, &context);
    events.iter().for_each(|recorded| apply(state, recorded, &mut NoProbe));
    events
}

/// The rollouts of one call, after those that the state remembers.
fn rollouts() -> impl Iterator<Item = u64> {
    REMEMBERED..REMEMBERED + u64::from(COMMANDS)
}

/// `commands`, run upon a copy of `state`.
fn commands(state: State, commands: Vec<Command>) -> Supply {
    let commands: Arc<[Command]> = commands.into();
    Box::new(move || -> Work {
        let (mut state, commands) = (state.clone(), Arc::clone(&commands));
        Box::new(move || {
            for (index, command) in (0..).zip(commands.iter()) {
                let context = at(&state, index);
                black_box(run(&mut state, black_box(command), context));
            }
        })
    })
}

fn start_rollout() -> Supply {
    commands(system(), rollouts().map(start).collect())
}

fn reward_done() -> Supply {
    let mut state = system();
    for index in rollouts() {
        begun(&mut state, index);
    }
    commands(state, rollouts().map(report).collect())
}

/// A rollout's events as the log keeps them: those of its start.
struct Batch {
    events: Vec<Recorded>,
    payload: Vec<u8>,
}

/// A state, and the batches that follow it.
fn batches() -> (State, Arc<[Batch]>) {
    let before = system();
    let mut state = before.clone();
    let batch = |index| {
        let events = begun(&mut state, index);
        let mut payload = Vec::new();
        codec::event::encode(&events, &mut payload);
        Batch { events, payload }
    };
    (before, rollouts().map(batch).collect())
}

fn count(batch: &Batch) -> u32 {
    u32::try_from(batch.events.len()).expect("a command makes few events")
}

fn events_encode() -> Supply {
    let batches = batches().1;
    repeated(move || {
        let mut out = Vec::with_capacity(4_096);
        for batch in batches.iter() {
            out.clear();
            codec::event::encode(black_box(&batch.events), &mut out);
            black_box(&out);
        }
    })
}

fn events_decode() -> Supply {
    let batches = batches().1;
    repeated(move || {
        for batch in batches.iter() {
            let events = codec::event::decode(black_box(&batch.payload), batch.events[0].seq, count(batch));
            black_box(events).expect("it was just encoded");
        }
    })
}

fn events_replay() -> Supply {
    let (before, batches) = batches();
    Box::new(move || -> Work {
        let (mut state, batches) = (before.clone(), Arc::clone(&batches));
        Box::new(move || {
            for batch in batches.iter() {
                codec::event::replay(
                    black_box(&batch.payload),
                    batch.events[0].seq,
                    count(batch),
                    &mut state,
                )
                .expect("it was just encoded");
            }
        })
    })
}

fn state_encode() -> Supply {
    let state = system();
    repeated(move || {
        black_box(codec::state::encode(black_box(&state)));
    })
}

fn state_decode() -> Supply {
    let bytes = codec::state::encode(&system());
    repeated(move || {
        black_box(codec::state::decode(black_box(&bytes))).expect("it was just encoded");
    })
}
