//! `docs/failures.md` and the table in the code are the same.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use floe_criu_bridge::failure::known;

use crate::support::Place;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap()
}

/// Rows of the table: name, cause, remedy, the test or `—`, what `check` says.
fn rows() -> BTreeMap<String, Vec<String>> {
    let text = read("docs/failures.md");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |"));
    rows.map(|row| {
        let (name, rest) = row.split_once("` | ").unwrap();
        (name.to_owned(), rest.split(" | ").map(str::to_owned).collect())
    })
    .collect()
}

#[test]
fn every_message_is_in_the_document_with_its_cause_and_remedy() {
    let rows = rows();
    for known in known::all() {
        let row =
            rows.get(known.name).unwrap_or_else(|| panic!("docs/failures.md says nothing of {}", known.name));
        assert_eq!(row.len(), 4, "{}: cause, remedy, test, check: {row:?}", known.name);
        assert_eq!((row[0].as_str(), row[1].as_str()), (known.cause, known.remedy), "{}", known.name);
    }
    let names: Vec<&str> = known::all().map(|known| known.name).collect();
    for name in rows.keys() {
        assert!(names.contains(&name.as_str()), "docs/failures.md tells of {name}, which floe does not know");
    }
}

#[test]
fn every_test_that_it_names_exists_and_check_says_something_of_each() {
    let tests = read("tests/explained/dumps.rs") + &read("tests/explained/restores.rs");
    let mut provoked = 0;
    for (name, row) in rows() {
        if let Some(test) = row[2].strip_prefix('`').and_then(|test| test.strip_suffix('`')) {
            let there = tests.contains(&format!("fn {test}()")) || tests.contains(&format!("    {test}: \""));
            assert!(there, "{name}: there is no test {test}");
            provoked += 1;
            assert!(row[3] != "—", "{name}: does check say so beforehand, or why can't it?");
        }
    }
    assert!(provoked >= 25, "{provoked}");
}

/// A remedy that ends in a usage error is none.
#[test]
fn every_flag_that_is_advised_exists() {
    let place = Place::new("advice");
    let help: String = ["checkpoint", "restore"].map(|verb| place.ok([verb, "--help"])).concat();
    let exists = |flag: &str| help.split_whitespace().any(|word| word.trim_end_matches(',') == flag);
    let flag = |word: &str| {
        word.trim_matches(|letter: char| !letter.is_ascii_lowercase() && letter != '-').to_owned()
    };
    let mut advised: Vec<String> = known::all()
        .flat_map(|known| known.remedy.split_whitespace())
        .filter(|word| word.starts_with("--"))
        .map(flag)
        .collect();
    // What is found beforehand is told by functions; their advice is "pass --this".
    let looks = Path::new(env!("CARGO_MANIFEST_DIR")).join("../criu-bridge/src/preflight");
    for folder in [looks.join("arrival"), looks] {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let text = fs::read_to_string(&entry).unwrap_or_default();
            let passed = text.split("pass --").skip(1).filter_map(|rest| rest.split_whitespace().next());
            advised.extend(passed.map(|word| flag(&format!("--{word}"))));
        }
    }
    assert!(advised.len() >= 10, "{advised:?}");
    for flag in &advised {
        assert!(exists(flag), "floe advises {flag}, and knows no such flag");
    }
}
