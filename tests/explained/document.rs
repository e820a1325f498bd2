//! `docs/failures.md` and the table in the code are the same.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use floe_criu_bridge::failure::known;

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
