//! The plans that Python's compiler writes, as its golden files hold them, are read here whole: every
//! member of theirs is known to the engine, and every member that the engine knows is in them.

use std::fs;
use std::path::Path;

use evenflow_rules::plan::Plan;
use serde_json::Value;

fn golden_plans() -> Vec<(String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/seam/golden");
    let mut plans = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let Some((_, expected)) = text.split_once("----------\n") else {
            continue;
        };
        // Other files hold the errors that a configuration is refused with.
        if expected.trim_start().starts_with('{') {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            plans.push((name, serde_json::from_str(expected).unwrap()));
        }
    }
    plans
}

#[test]
fn a_golden_plan_reads_and_writes_back_the_same() {
    let plans = golden_plans();
    assert!(plans.len() >= 3, "golden plans are missing");
    for (name, document) in plans {
        let plan: Plan = serde_path_to_error::deserialize(document.clone())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let back = serde_json::to_value(&plan).unwrap();
        assert_eq!(normal(&back), normal(&document), "{name}");
    }
}

/// Numbers as floats: Python writes `1`, the engine `1.0` for the same share.
fn normal(value: &Value) -> Value {
    match value {
        Value::Number(number) => Value::from(number.as_f64()),
        Value::Array(items) => items.iter().map(normal).collect(),
        Value::Object(members) => members
            .iter()
            .map(|(name, member)| (name.clone(), normal(member)))
            .collect(),
        other => other.clone(),
    }
}

#[test]
fn a_golden_plan_compiles() {
    for (name, document) in golden_plans() {
        let bytes = serde_json::to_vec(&document).unwrap();
        if let Err(error) = evenflow_rules::compile::check(&bytes) {
            panic!("{name}: {error}");
        }
    }
}
