//! The optimizer learns: in process, deterministic, judged by true means it never sees.

use std::io::Write;

use mipro_mock_llm::accuracy::{Accuracy, Message};
use mipro_mock_llm::dataset::Dataset;
use mipro_mock_llm::task_app::{ExamplePrompt, example_prompts};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use super::support::{Rig, deltas};
use crate::system::{CandidateContent, NewCandidate, Prompt, Status, SystemSpec};

const ROLLOUTS: usize = 600;
const IN_FLIGHT: usize = 16;
const SEEDS: u64 = 20;
/// Student's t for a two-sided 95 % interval with 19 degrees of freedom.
const T_95: f64 = 2.093;

/// A candidate as the test knows it.
struct Choice {
    new: NewCandidate,
    /// The chance of reward 1 for each example; rollouts take the examples in turn.
    chances: Vec<f64>,
}

impl Choice {
    /// Its true mean reward.
    fn mean(&self) -> f64 {
        self.chances.iter().sum::<f64>() / self.chances.len() as f64
    }
}

/// All candidates, the baseline first.
type Task = Vec<Choice>;

fn choice(name: &str, params: &[(&str, u32)], chance: f64) -> Choice {
    let params = params.iter().map(|(name, choice)| ((*name).to_owned(), *choice)).collect();
    Choice { new: NewCandidate { params, ..deltas(name) }, chances: vec![chance] }
}

struct Outcome {
    /// Mean true reward of the last 100 rollouts, less that of a uniform choice.
    gain: f64,
    /// What the recommended candidate falls short of the best.
    regret: f64,
}

fn logistic(logit: f64) -> f64 {
    1.0 / (1.0 + (-logit).exp())
}

/// Uniform on (−1, 1).
fn wobble(dice: &mut ChaCha8Rng) -> f64 {
    2.0 * dice.random::<f64>() - 1.0
}

/// 4 instructions × 3 demo sets; effects add up, and `interaction` says how much each combination differs from their sum.
fn structured(dice: &mut ChaCha8Rng, interaction: f64) -> Task {
    let instructions: Vec<f64> = (0..4).map(|_| wobble(dice)).collect();
    let demos: Vec<f64> = (0..3).map(|_| 0.7 * wobble(dice)).collect();
    let mut task = Task::new();
    for (i, instruction) in (0..).zip(instructions) {
        for (d, demo) in (0..).zip(&demos) {
            let own = interaction * wobble(dice);
            let chance = logistic(0.6 + instruction + demo + own);
            task.push(choice(&format!("{i} {d}"), &[("instruction", i), ("demos", d)], chance));
        }
    }
    task
}

/// 12 candidates known by their text alone.
fn unstructured(dice: &mut ChaCha8Rng) -> Task {
    (0..12).map(|index| choice(&format!("{index}"), &[], logistic(0.6 + wobble(dice)))).collect()
}

/// The mock LLM's own candidates, as this service renders them, and its chances to answer the task app's queries right.
fn mock(dice: &mut ChaCha8Rng) -> Task {
    let accuracy = Accuracy::new(dice.random());
    let dataset = Dataset::builtin();
    let prompts = example_prompts();
    let patterns: Vec<_> =
        prompts[0].messages.iter().map(|m| json!({"role": m.role, "pattern": m.content})).collect();
    let baseline: Prompt = serde_json::from_value(json!({ "messages": patterns })).unwrap();
    let rendered = |content: &CandidateContent| -> Vec<Message> {
        content.messages(&baseline).into_iter().map(|m| Message::new(m.role, m.pattern)).collect()
    };
    let to_choice = |prompt: &ExamplePrompt| {
        let (system, others) = prompt.messages.split_first().unwrap();
        let pairs = others[..others.len() - 1].chunks(2);
        let demos: Vec<_> =
            pairs.map(|pair| json!({"user": pair[0].content, "assistant": pair[1].content})).collect();
        let deltas = json!({"instruction_text": system.content, "demos": demos});
        let content = CandidateContent { deltas, ..CandidateContent::default() };
        let messages = rendered(&content);
        assert_eq!(messages, prompt.messages, "the candidate renders as the mock means it");
        let params =
            [("instruction".to_owned(), prompt.instruction), ("demos".to_owned(), prompt.demos)].into();
        let chances = dataset.train().iter().map(|example| accuracy.probability(&messages, &example.text));
        Choice { chances: chances.collect(), new: NewCandidate { candidate_id: None, content, params } }
    };
    prompts.iter().map(to_choice).collect()
}

fn run(task: &Task, dice: &mut ChaCha8Rng, spec: impl FnOnce(&mut SystemSpec)) -> Outcome {
    let mut rig = Rig::new(spec);
    rig.seed = dice.random::<u64>() >> 1;
    for (index, choice) in task.iter().enumerate().skip(1) {
        rig.add(NewCandidate { candidate_id: Some(format!("c{index}")), ..choice.new.clone() }).unwrap();
    }
    let choice = |id: &str| &task[id.strip_prefix('c').map_or(0, |index| index.parse::<usize>().unwrap())];
    let mut flying: Vec<(String, f64)> = Vec::new();
    let mut late = 0.0;
    for index in 0..ROLLOUTS {
        if flying.len() == IN_FLIGHT {
            let (id, chance) = flying.swap_remove(dice.random_range(0..IN_FLIGHT));
            let reward = f64::from(u8::from(dice.random::<f64>() < chance));
            rig.report(&id, Status::RewardDone, Some(reward)).unwrap();
        }
        let id = format!("r{index}");
        let chosen = choice(&rig.start(&id).candidate_id);
        late += if index >= ROLLOUTS - 100 { chosen.mean() / 100.0 } else { 0.0 };
        flying.push((id, chosen.chances[index % chosen.chances.len()]));
    }
    let uniform = task.iter().map(Choice::mean).sum::<f64>() / task.len() as f64;
    let best = task.iter().map(Choice::mean).fold(f64::MIN, f64::max);
    Outcome { gain: late - uniform, regret: best - choice(&rig.state.best.candidate_id).mean() }
}

fn judge(name: &str, task: impl Fn(&mut ChaCha8Rng) -> Task, spec: impl Fn(&mut SystemSpec)) {
    let outcome = |seed: u64| {
        let mut dice = ChaCha8Rng::seed_from_u64(seed);
        run(&task(&mut dice), &mut dice, &spec)
    };
    let outcomes: Vec<Outcome> = (0..SEEDS).map(outcome).collect();
    let n = SEEDS as f64;
    let gain = outcomes.iter().map(|o| o.gain).sum::<f64>() / n;
    let variance = outcomes.iter().map(|o| (o.gain - gain).powi(2)).sum::<f64>() / (n - 1.0);
    let lower = gain - T_95 * (variance / n).sqrt();
    let regret = outcomes.iter().map(|o| o.regret).sum::<f64>() / n;
    writeln!(std::io::stderr(), "{name}: gain {gain:.4}, lower bound {lower:.4}, regret {regret:.4}")
        .unwrap();
    assert!(lower > 0.0, "{name}: gain over uniform {gain:.4}, lower bound {lower:.4}");
    assert!(regret <= 0.03, "{name}: mean regret of the recommended candidate {regret:.4}");
}

#[test]
fn it_learns_the_mocks_candidates_in_the_mocks_true_means() {
    judge("mock", mock, |_| {});
}

#[test]
fn it_learns_where_effects_add_up() {
    judge("additive", |dice| structured(dice, 0.1), |_| {});
}

#[test]
fn it_learns_where_effects_interact() {
    judge("interaction", |dice| structured(dice, 0.8), |_| {});
}

#[test]
fn it_learns_candidates_that_have_no_params() {
    judge("unstructured", unstructured, |_| {});
}

#[test]
fn it_learns_in_batches_too() {
    judge("batches of 5", |dice| structured(dice, 0.1), |spec| spec.rollouts_per_candidate = Some(5));
}
