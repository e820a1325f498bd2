//! What `docs/configuration.md` and `docs/verbs.md` promise: every test that they name exists, and no field of the native
//! configuration, verb, flag or method of the library is missing in them, or there and not in floe.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const CONFIGURATION: &str = "docs/configuration.md";
const VERBS: &str = "docs/verbs.md";

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The texts between backquotes, in which an end of a line is a space.
fn quoted(text: &str) -> impl Iterator<Item = String> {
    text.split('`').skip(1).step_by(2).map(|span| span.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// The first cells of all tables, by what is quoted in them.
fn first_cells(text: &str) -> BTreeSet<String> {
    let cells = text.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    cells.flat_map(|cell| quoted(cell).collect::<Vec<_>>()).collect()
}

/// A file as the documents call it.
fn source(named: &str) -> String {
    let places = [("inside/", "runtime/tests/inside/"), ("runtime/tests/", "runtime/tests/")];
    let crates = [("runtime/", "runtime/src/"), ("cli/", "cli/src/"), ("criu-bridge/", "criu-bridge/src/")];
    let places = places.into_iter().chain(crates);
    let found = places.into_iter().find_map(|(short, long)| Some((long, named.strip_prefix(short)?)));
    found.map_or_else(|| named.to_owned(), |(long, rest)| format!("{long}{rest}"))
}

/// The tests of a file: functions with the attribute, and for those with a `main` of their own the names in its lists.
fn tests_of(path: &str) -> BTreeSet<String> {
    let text = read(path);
    let mut found = BTreeSet::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim) {
        match line.strip_prefix("fn ").and_then(|rest| rest.split('(').next()) {
            Some(name) if is_test => is_test = !found.insert(name.to_owned()),
            _ => {
                is_test = line == "#[test]" || (is_test && (line.starts_with('#') || line.starts_with("//")))
            }
        }
    }
    if path.starts_with("runtime/tests/inside/") {
        let registered = registered();
        let has = |name: &&String| {
            text.contains(&format!("\"{name}\"")) || text.contains(&format!("pub fn {name}()"))
        };
        found.extend(registered.iter().filter(has).cloned());
    }
    found
}

/// The names in the lists `TESTS` of the tests within containers.
fn registered() -> BTreeSet<String> {
    let folder = repository().join("runtime/tests/inside");
    let files = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.is_file()).chain([folder.join("network/mod.rs")]);
    let mut names = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(file).unwrap();
        let list = text.split_once("pub const TESTS").and_then(|(_, rest)| rest.split_once("\n];"));
        names.extend(
            list.into_iter().flat_map(|(list, _)| {
                list.split('"').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()
            }),
        );
    }
    names
}

#[test]
fn every_test_that_is_named_exists() {
    let mut known: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut named = 0;
    for document in [CONFIGURATION, VERBS] {
        for span in quoted(&read(document)) {
            let Some((file, tests)) = span.split_once(".rs: ") else { continue };
            let path = source(&format!("{file}.rs"));
            let there = known.entry(path.clone()).or_insert_with(|| tests_of(&path));
            for test in tests.split(", ") {
                assert!(there.contains(test), "{document}: {path} has no test {test:?}");
                named += 1;
            }
        }
    }
    assert!(named > 300, "only {named} are read out of the documents");
}

/// Where each structure of the native form stands in it.
const STRUCTURES: [(&str, &str); 18] = [
    ("Native", ""),
    ("Namespace", "namespaces[]."),
    ("IdMap", "uid_mappings[]."),
    ("Hooks", "hooks."),
    ("Command", "hooks.*[]."),
    ("Mount", "mounts[]."),
    ("Cgroup", "cgroups."),
    ("Device", "devices[]."),
    ("Weight", "cgroups.blkio_weight_device[]."),
    ("Throttle", "cgroups.blkio_throttle_*_device[]."),
    ("Hugepage", "cgroups.hugetlb_limit[]."),
    ("Priority", "cgroups.net_prio_ifpriomap[]."),
    ("Rdma", "cgroups.rdma.*."),
    ("Sets", "capabilities."),
    ("Rlimit", "rlimits[]."),
    ("Seccomp", "seccomp."),
    ("Syscall", "seccomp.syscalls[]."),
    ("Argument", "seccomp.syscalls[].args[]."),
];

/// The fields of every structure that is read from JSON in a file, without the one that collects what is unknown.
fn fields(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut within: Option<String> = None;
    let mut is_read = false;
    for line in text.lines() {
        if line.starts_with("#[derive(") {
            is_read = line.contains("Deserialize");
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        if let Some(place) =
            words.iter().position(|word| *word == "struct").filter(|_| !line.starts_with(' '))
        {
            within = Some(words[place + 1].to_owned()).filter(|_| is_read && line.ends_with('{'));
        } else if line == "}" {
            within = None;
        } else if let Some(name) = &within
            && let Some((field, _)) = line.trim().split_once(": ")
            && let Some(field) = field.split_whitespace().last()
            && field.chars().all(|letter| letter.is_ascii_alphanumeric() || "_#".contains(letter))
            && !line.trim().starts_with('/')
            && field != "unknown"
        {
            found.push((name.clone(), field.trim_start_matches("r#").to_owned()));
        }
    }
    found
}

#[test]
fn every_field_of_the_native_form_is_told() {
    // As the form is read: in lower case.
    let told: BTreeSet<String> =
        first_cells(&read(CONFIGURATION)).into_iter().map(|key| key.to_lowercase()).collect();
    let mut wanted = Vec::new();
    for file in ["mod", "mounts", "process", "cgroups", "seccomp"] {
        let path = format!("runtime/src/config/native/{file}.rs");
        for (structure, field) in fields(&read(&path)) {
            let place = STRUCTURES.iter().find(|(name, _)| *name == structure);
            let (_, place) =
                place.unwrap_or_else(|| panic!("where in the native form is {structure} of {path}?"));
            wanted.push(format!("{place}{field}"));
        }
    }
    for (file, place) in [("json", "networks[]."), ("route", "routes[].")] {
        let fields = fields(&read(&format!("runtime/src/config/network/{file}.rs")));
        let fields = fields.into_iter().filter(|(structure, _)| structure.ends_with("Json"));
        wanted.extend(fields.map(|(_, field)| format!("{place}{field}")));
    }
    assert!(wanted.len() > 120, "only {} fields are found in the sources", wanted.len());
    let missing: Vec<&String> = wanted.iter().filter(|key| !told.contains(*key)).collect();
    assert!(missing.is_empty(), "{CONFIGURATION} says nothing of {missing:?}");
}

/// What floe prints when it is called with these words, on both streams.
fn said(words: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_floe")).args(words).output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

/// The flags in a help text, each at the beginning of its line.
fn flags(help: &str) -> BTreeSet<String> {
    let flag = |line: &str| {
        let text = line.trim_start();
        let text = text.strip_prefix('-').filter(|_| line.starts_with("  "))?;
        let long = if text.starts_with('-') { text } else { text.split_once(", -")?.1 };
        let end = long
            .find(|letter: char| letter != '-' && !letter.is_ascii_lowercase() && !letter.is_ascii_digit());
        Some(format!("-{}", &long[..end.unwrap_or(long.len())]))
    };
    help.lines().filter_map(flag).collect()
}

#[test]
fn every_verb_and_flag_is_told_and_is_there() {
    let text = read(VERBS);
    let sections: BTreeMap<&str, &str> =
        text.split("\n## ").filter_map(|part| part.split_once('\n')).collect();
    let help = said(&["--help"]);
    let common = sections["Before or behind a verb"];
    let verbs: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next())
        .collect();
    assert!(verbs.len() > 20, "{verbs:?}");
    let told: BTreeSet<String> = sections.keys().filter_map(|title| quoted(title).next()).collect();
    assert_eq!(told, verbs.iter().map(ToString::to_string).collect(), "verbs in {VERBS}, and those of floe");

    let of_all = flags(&help);
    let in_common = first_cells(common);
    let missing: Vec<_> = of_all.iter().filter(|flag| !in_common.contains(*flag)).collect();
    assert!(missing.is_empty(), "{VERBS} says nothing of {missing:?}");
    let there = |words: &[&str], flag: &str| {
        let answer = said(&[words, &[flag, "--help"]].concat());
        assert!(!answer.contains("unexpected argument"), "{VERBS}: floe {words:?} has no {flag}: {answer}");
    };
    in_common.iter().for_each(|flag| there(&[], flag));
    for verb in verbs.into_iter().filter(|verb| *verb != "help") {
        let told = first_cells(sections[format!("`{verb}`").as_str()]);
        let own = flags(&said(&[verb, "--help"]));
        let missing: Vec<_> = own.difference(&of_all).filter(|flag| !told.contains(*flag)).collect();
        assert!(missing.is_empty(), "{VERBS} says nothing of {missing:?} of {verb}");
        told.iter().for_each(|flag| there(&[verb], flag));
    }
}

#[test]
fn every_method_of_the_library_is_told_and_is_there() {
    let text = read("runtime/src/factory/mod.rs");
    let mut methods = BTreeSet::new();
    let mut within = None;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("impl ") {
            within = rest.strip_suffix(" {");
        }
        if let (Some(name), Some(rest)) = (within, line.strip_prefix("    pub fn ")) {
            let method = rest.split('(').next().unwrap().trim_start_matches("r#");
            methods.insert(format!("{name}::{method}"));
        }
    }
    assert!(methods.len() > 20, "{methods:?}");
    let told = first_cells(&read(VERBS)).into_iter().filter(|cell| cell.contains("::")).collect();
    assert_eq!(methods, told, "methods of the library, and those in {VERBS}");
}
