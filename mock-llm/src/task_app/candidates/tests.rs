use super::*;
use crate::accuracy::Accuracy;
use crate::dataset::Dataset;

/// The true mean of every example prompt, as `means[instruction][demos]`.
fn means(seed: u64) -> [[f64; 2]; 6] {
    let (accuracy, set) = (Accuracy::new(seed), Dataset::builtin());
    let mut means = [[0.0; 2]; 6];
    for prompt in example_prompts() {
        let mean = accuracy.true_mean(&prompt.messages, set.train());
        means[prompt.instruction as usize][prompt.demos as usize] = mean;
    }
    means
}

#[test]
fn the_examples_rank_as_documented_whatever_the_seed() {
    for seed in 0..40 {
        let means = means(seed);
        for demos in [0, 1] {
            let [baseline, closest, steps, best, keywords, worst] = means.map(|of| of[demos]);
            assert!(best > closest && best > steps, "seed {seed}: {means:?}");
            assert!(closest > baseline && steps > baseline, "seed {seed}: {means:?}");
            assert!(baseline > keywords && keywords > worst, "seed {seed}: {means:?}");
        }
        assert!(means.iter().all(|[without, with]| with > without), "seed {seed}: {means:?}");
    }
}

#[test]
fn the_examples_lie_where_an_optimizer_can_tell_them_apart() {
    for seed in 0..40 {
        let means = means(seed);
        assert!((0.58..=0.72).contains(&means[0][0]), "seed {seed}: baseline {}", means[0][0]);
        assert!((0.86..=0.94).contains(&means[3][1]), "seed {seed}: best {}", means[3][1]);
        assert!((0.34..=0.48).contains(&means[5][0]), "seed {seed}: worst {}", means[5][0]);
    }
}

#[test]
fn candidates_cover_the_space_but_for_the_baseline() {
    let candidates = example_candidates();
    assert_eq!(candidates.len(), 11);
    let mut places: Vec<(u64, u64)> = candidates
        .iter()
        .map(|c| (c["params"]["instruction"].as_u64().unwrap(), c["params"]["demos"].as_u64().unwrap()))
        .collect();
    places.sort_unstable();
    places.dedup();
    assert_eq!(places.len(), 11);
    assert!(!places.contains(&(0, 0)));
    assert!(
        candidates.iter().all(|c| c["metadata"]["label"].as_str().is_some_and(|label| !label.is_empty()))
    );
}

#[test]
fn both_forms_of_deltas_occur_and_the_replacement_applies() {
    let candidates = example_candidates();
    let replacements: Vec<&Value> =
        candidates.iter().filter_map(|c| c.pointer("/deltas/transformation/text_replacements/0")).collect();
    assert_eq!(replacements.len(), 1);
    let old = replacements[0]["old_text"].as_str().unwrap();
    assert_eq!(BASELINE.matches(old).count(), 1, "the replaced text stands once in the baseline");
    let new = BASELINE.replacen(old, replacements[0]["new_text"].as_str().unwrap(), 1);
    assert_eq!(new, instruction_text(2));
    let with_text = candidates.iter().filter(|c| c["deltas"]["instruction_text"].is_string()).count();
    let with_demos =
        candidates.iter().filter(|c| c["deltas"]["demos"].as_array().is_some_and(|d| d.len() == 4)).count();
    assert_eq!((with_text, with_demos), (9, 6));
}

#[test]
fn demos_carry_labels_of_the_data_set() {
    let set = Dataset::builtin();
    for (text, label) in DEMOS {
        assert!(set.labels().iter().any(|known| known == label), "{label}");
        assert!(set.train().iter().chain(set.test()).all(|example| example.text != text), "{text}");
    }
}
