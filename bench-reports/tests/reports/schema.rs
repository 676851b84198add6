use mipro_bench_reports::json::to_text;
use serde_json::Value;

use crate::fixture;

const SCHEMA: &str = include_str!("../../../docs/report.schema.json");

fn errors(schema: &Value, instance: &Value) -> Vec<String> {
    let validator = jsonschema::draft202012::new(schema).unwrap();
    validator.iter_errors(instance).map(|error| format!("{} at {}", error, error.instance_path)).collect()
}

fn instance(report: &mipro_bench_reports::Report) -> Value {
    serde_json::from_str(&to_text(report)).unwrap()
}

/// The schema with every object closed to fields that it does not describe.
fn strict(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if map.contains_key("properties") {
                map.insert("additionalProperties".to_owned(), Value::Bool(false));
            }
            map.values_mut().for_each(strict);
        }
        Value::Array(items) => items.iter_mut().for_each(strict),
        _ => {}
    }
}

#[test]
fn what_is_written_keeps_to_the_schema() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    jsonschema::draft202012::meta::validate(&schema).unwrap();
    for report in [fixture::report(), fixture::empty(), fixture::profiled()] {
        assert_eq!(errors(&schema, &instance(&report)), Vec::<String>::new());
    }
}

#[test]
fn the_schema_describes_every_field() {
    let mut schema: Value = serde_json::from_str(SCHEMA).unwrap();
    strict(&mut schema);
    assert_eq!(errors(&schema, &instance(&fixture::report())), Vec::<String>::new());
    assert_eq!(errors(&schema, &instance(&fixture::profiled())), Vec::<String>::new());
}

#[test]
fn the_schema_refuses_what_is_wrong() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let good = instance(&fixture::report());
    let refused = |pointer: &str, value: Value| {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer}")) = value;
        !errors(&schema, &bad).is_empty()
    };
    assert!(refused("/schema", "mipro.report/2".into()));
    assert!(refused("/rungs/1/overhead/p50_us", "fast".into()));
    assert!(refused("/rungs/1/overhead/hdr", "not base64!".into()));
    assert!(refused("/rungs/1/accounting/ok", (-1).into()));
    assert!(refused("/rungs/1/operations/start_rollout/load_db", Value::Null));
    assert!(refused("/rungs/1/stages", Value::Array(vec![])));
    assert!(refused("/verdicts/0/outcome", "maybe".into()));
    assert!(!refused("/rungs/1/loss", Value::Null));
}

#[test]
fn the_open_models_parts_of_the_lag_are_described() {
    let mut schema: Value = serde_json::from_str(SCHEMA).unwrap();
    strict(&mut schema);
    let mut report = fixture::report();
    let times = &mut report.rungs[0].rollout;
    (times.pacer_lag, times.slot_wait) = (times.lag.clone(), times.lag.clone());
    assert_eq!(errors(&schema, &instance(&report)), Vec::<String>::new());
}
