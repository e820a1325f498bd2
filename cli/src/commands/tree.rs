//! The processes of an archive, drawn. Whatever the archive claims of them, each is drawn once.

use std::collections::{HashMap, HashSet};

use floe_snapshot_format::Task;

use super::size;

/// Deeper than this the lines are no longer moved to the right: a chain of a hundred thousand processes is a claim
/// that costs its author nothing.
const DEEPEST: usize = 64;

/// One line for each process, children below their parents.
pub(super) fn text(tasks: &[Task]) -> String {
    let mut out = String::new();
    let mut drawn = HashSet::new();
    let mut known = HashMap::new();
    let mut children: HashMap<u32, Vec<usize>> = HashMap::new();
    for (number, task) in tasks.iter().enumerate() {
        known.entry(task.pid).or_insert(number);
        children.entry(task.ppid).or_default().push(number);
    }
    let is_root = |task: &Task| task.ppid == task.pid || !known.contains_key(&task.ppid);
    let roots = tasks.iter().enumerate().filter(|(_, task)| is_root(task)).map(|(number, _)| number);
    // Where parents form a ring, nobody is a root; such processes come last.
    for root in roots.chain(0..tasks.len()) {
        // Task, what stands before its line, and before those of its children.
        let mut waiting = vec![(root, String::new(), String::new(), 0)];
        while let Some((number, lead, below, depth)) = waiting.pop() {
            let Some(task) = tasks.get(number).filter(|_| drawn.insert(number)) else { continue };
            out.push_str(&lead);
            line(&mut out, task);
            if known.get(&task.pid) != Some(&number) {
                continue;
            }
            let below_it = children.get(&task.pid).map(Vec::as_slice).unwrap_or_default();
            for (from_last, child) in below_it.iter().rev().enumerate() {
                let (mark, next) = match (depth < DEEPEST, from_last == 0) {
                    (true, true) => ("└─ ", "   "),
                    (true, false) => ("├─ ", "│  "),
                    (false, _) => ("", ""),
                };
                waiting.push((*child, format!("{below}{mark}"), format!("{below}{next}"), depth + 1));
            }
        }
    }
    out
}

fn line(out: &mut String, task: &Task) {
    let threads = if task.threads > 1 { format!(", {} threads", task.threads) } else { String::new() };
    out.push_str(&format!("{} {} ({}{threads})\n", task.pid, printable(&task.name), size(task.bytes)));
}

/// A name comes from outside, and a terminal obeys what is in it.
pub(super) fn printable(name: &str) -> String {
    name.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(pid: u32, ppid: u32) -> Task {
        Task { pid, ppid, name: "a".to_owned(), threads: 1, ..Task::default() }
    }

    /// The drawing, the words behind each pid left out.
    fn drawn(parents: &[(u32, u32)]) -> String {
        let tasks: Vec<_> = parents.iter().map(|(pid, ppid)| task(*pid, *ppid)).collect();
        text(&tasks).lines().map(|line| format!("{}\n", line.split_once(" a (").unwrap().0)).collect()
    }

    #[test]
    fn children_stand_below_their_parents() {
        let all = drawn(&[(1, 0), (2, 1), (3, 2), (4, 1)]);
        assert_eq!(all, "1\n├─ 2\n│  └─ 3\n└─ 4\n");
    }

    #[test]
    fn rings_and_doubles_are_drawn_once() {
        assert_eq!(drawn(&[(5, 6), (6, 5)]), "5\n└─ 6\n");
        assert_eq!(drawn(&[(1, 1), (2, 1), (2, 1)]).lines().count(), 3);
    }

    #[test]
    fn an_endless_chain_costs_no_stack() {
        let chain: Vec<_> = (1..=100_000_u32).map(|pid| (pid, pid - 1)).collect();
        assert_eq!(drawn(&chain).lines().count(), 100_000);
    }
}
