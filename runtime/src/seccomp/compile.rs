//! From rules to instructions.
//!
//! The numbers of calls are divided into ranges with one answer each, for each architecture; a binary search leads to
//! the range. What stands in a range is an answer, or the rules of one call with their conditions, one after the other.

use std::collections::{BTreeMap, HashMap};

use super::abi::{self, ABIS, Abi};
use super::bpf::{self, Instruction};
use crate::config::{Seccomp, SeccompAction, SeccompArg, SeccompOperator};

/// `SECCOMP_RET_KILL_THREAD`: what becomes of a call of an architecture that the profile doesn't name.
const KILL_THREAD: u32 = 0;

/// The answer that stands for an action, `SECCOMP_RET_*` of `include/uapi/linux/seccomp.h`.
pub(super) fn answer_of(action: SeccompAction) -> u32 {
    match action {
        SeccompAction::KillThread => KILL_THREAD,
        SeccompAction::KillProcess => 0x8000_0000,
        SeccompAction::Trap => 0x0003_0000,
        SeccompAction::Errno(number) => 0x0005_0000 | u32::from(number),
        SeccompAction::Trace(number) => 0x7ff0_0000 | u32::from(number),
        SeccompAction::Log => 0x7ffc_0000,
        SeccompAction::Notify => 0x7fc0_0000,
        SeccompAction::Allow => 0x7fff_0000,
    }
}

/// The whole program; without regard to its length.
pub(super) fn program(profile: &Seccomp) -> Vec<Instruction> {
    let native = ABIS.first().map(|abi| abi.arch);
    let filtered = |abi: &&Abi| Some(abi.arch) == native || profile.architectures.contains(&abi.arch);
    let rules = by_name(profile);
    // Tables with the same architecture follow each other by their numbers.
    let mut groups: BTreeMap<u32, (Vec<Range<'_>>, u32)> = BTreeMap::new();
    for abi in ABIS.iter().filter(filtered) {
        let (all, last) = groups.entry(abi.audit).or_default();
        all.extend(ranges(abi, &rules, profile.default_action));
        *last = abi.last;
    }
    let mut code = vec![bpf::load_architecture()];
    for (audit, (ranges, last)) in groups {
        let mut part = vec![bpf::load_number()];
        part.extend(search(&complete(ranges, last, answer_of(profile.default_action))));
        code.extend([bpf::if_equal(audit, 1, 0), bpf::pass_over(part.len())]);
        code.extend(part);
    }
    code.push(bpf::answer(KILL_THREAD));
    code
}

/// What the profile says of one name.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Rules<'a> {
    /// The answer whatever the arguments are; it goes before those with conditions, as with libseccomp.
    always: Option<u32>,
    /// Conditions that have to hold all, and the answer then. The first one counts.
    conditional: Vec<(Vec<&'a SeccompArg>, u32)>,
    /// Calls that are gathered in this one: the first argument, and the answer.
    gathered: Vec<(u32, u32)>,
}

/// The rules of each name that occurs, even if they say nothing but the default: a name that occurs was known to whoever
/// wrote the profile.
fn by_name(profile: &Seccomp) -> HashMap<&str, Rules<'_>> {
    let mut names: HashMap<&str, Rules<'_>> = HashMap::new();
    for rule in &profile.rules {
        let answer = answer_of(rule.action);
        for name in &rule.names {
            let entry = names.entry(name).or_default();
            // As runc does it: such a rule adds nothing, and must not stand in the way of one with conditions.
            if rule.action == profile.default_action {
                continue;
            }
            match alternatives(&rule.args) {
                alternatives if alternatives.is_empty() => {
                    entry.always.get_or_insert(answer);
                }
                alternatives => {
                    entry.conditional.extend(alternatives.into_iter().map(|all| (all, answer)));
                }
            }
        }
    }
    names
}

/// The conditions as lists of which one has to hold whole. Two about the same argument make each condition a list of its
/// own: so runc has read such profiles from the beginning.
fn alternatives(args: &[SeccompArg]) -> Vec<Vec<&SeccompArg>> {
    let repeated = (0..args.len()).any(|at| args[..at].iter().any(|other| other.index == args[at].index));
    match (args.is_empty(), repeated) {
        (true, _) => Vec::new(),
        (_, true) => args.iter().map(|arg| vec![arg]).collect(),
        (_, false) => vec![args.iter().collect()],
    }
}

/// What stands in a range.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Content<'a> {
    Answer(u32),
    /// Rules with conditions, whether arguments are narrow, and the answer if none holds.
    Rules(Rules<'a>, bool, u32),
}

/// From this number to the one before the next range.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Range<'a> {
    first: u32,
    content: Content<'a>,
}

/// The ranges of one table, from its first number on.
///
/// Numbers above the highest that the profile names on this table are of calls that are newer than the profile. Their
/// answer is `ENOSYS`, as with runc: a program that asks for a new call goes back to an old one, where `EPERM` ends it.
fn ranges<'a>(abi: &Abi, names: &HashMap<&'a str, Rules<'a>>, default: SeccompAction) -> Vec<Range<'a>> {
    let otherwise = answer_of(default);
    let holders = holders(abi, names);
    let content = |name: &str| {
        let mut rules = names.get(name).cloned();
        if let Some(gathered) = holders.get(name) {
            rules.get_or_insert_default().gathered.clone_from(gathered);
        }
        Some(match rules? {
            Rules { always: Some(answer), .. } => Content::Answer(answer),
            rules if rules == Rules::default() => Content::Answer(otherwise),
            rules => Content::Rules(rules, abi.narrow, otherwise),
        })
    };
    let found = |(number, name)| Some(Range { first: number, content: content(name)? });
    let calls: Vec<Range<'a>> = abi.calls().filter_map(found).collect();
    let newest = calls.last().map_or(u32::MAX, |range| range.first);
    let mut all = Vec::new();
    let mut next = Some(abi.first);
    for range in calls.into_iter().chain(abi.beyond().filter_map(found)) {
        all.extend(next.filter(|next| *next < range.first).map(|first| gap(first, newest, default)));
        next = range.first.checked_add(1);
        all.push(range);
    }
    all.extend(next.filter(|next| *next <= abi.last).map(|first| gap(first, newest, default)));
    all
}

/// A range of calls that the profile says nothing of.
fn gap<'a>(first: u32, newest: u32, default: SeccompAction) -> Range<'a> {
    let answer = if first > newest { unknown(default) } else { default };
    Range { first, content: Content::Answer(answer_of(answer)) }
}

/// What is answered to a call that is newer than the profile. Where the default lets calls through, so it is with new
/// ones; a tracer is expected to know them.
fn unknown(default: SeccompAction) -> SeccompAction {
    match default {
        SeccompAction::Allow | SeccompAction::Log | SeccompAction::Trace(_) => default,
        _ => SeccompAction::Errno(nix::libc::ENOSYS as u16),
    }
}

/// The calls that hold others ([`abi::gathered`]), and what the profile says of those. Conditions on the arguments of
/// the others cannot be looked at: they are in memory.
fn holders(abi: &Abi, names: &HashMap<&str, Rules<'_>>) -> BTreeMap<&'static str, Vec<(u32, u32)>> {
    let mut all: BTreeMap<&str, Vec<(u32, u32)>> = BTreeMap::new();
    for (name, rules) in names {
        if let (Some((holder, number)), Some(answer)) = (abi::gathered(abi.arch, name), rules.always) {
            all.entry(holder).or_default().push((number, answer));
        }
    }
    // A profile gives the same program each time.
    all.values_mut().for_each(|list| list.sort_unstable());
    all
}

/// All numbers of an architecture: those that belong to no table that is filtered are as another architecture's. −1 is
/// what a tracer leaves of a call that it has cancelled.
fn complete<'a>(mut ranges: Vec<Range<'a>>, last: u32, default: u32) -> Vec<Range<'a>> {
    if let Some(first) = last.checked_add(1) {
        ranges.push(Range { first, content: Content::Answer(KILL_THREAD) });
        ranges.push(Range { first: u32::MAX, content: Content::Answer(default) });
    }
    ranges
        .dedup_by(|next, range| matches!(range.content, Content::Answer(_)) && next.content == range.content);
    ranges
}

/// Finds the range that the accumulator is in, and gives its answer.
fn search(ranges: &[Range<'_>]) -> Vec<Instruction> {
    let [range] = ranges else {
        let (lower, upper) = ranges.split_at(ranges.len() / 2);
        let Some(middle) = upper.first() else { return Vec::new() };
        let below = search(lower);
        let mut code = match u8::try_from(below.len()) {
            Ok(short) => vec![bpf::if_from(middle.first, short, 0)],
            Err(_) => vec![bpf::if_from(middle.first, 0, 1), bpf::pass_over(below.len())],
        };
        code.extend(below);
        code.extend(search(upper));
        return code;
    };
    match &range.content {
        Content::Answer(value) => vec![bpf::answer(*value)],
        Content::Rules(rules, narrow, otherwise) => {
            let mut code: Vec<Instruction> = Vec::new();
            for (all, answer) in &rules.conditional {
                code.extend(if_all(all, *narrow, *answer));
            }
            for (number, answer) in &rules.gathered {
                let first = [bpf::load_low(0), bpf::if_equal(*number, 0, 1), bpf::answer(*answer)];
                code.extend(first);
            }
            code.push(bpf::answer(*otherwise));
            code
        }
    }
}

/// Gives the answer if all conditions hold, else goes on behind.
fn if_all(conditions: &[&SeccompArg], narrow: bool, answer: u32) -> Vec<Instruction> {
    let mut rest = vec![bpf::answer(answer)];
    for condition in conditions.iter().rev() {
        // At most six conditions of six instructions: never more than a short jump.
        let mut code = compare(condition, narrow, u8::try_from(rest.len()).unwrap_or(u8::MAX));
        code.extend(rest);
        rest = code;
    }
    rest
}

/// Goes on if the condition holds, and else passes over `behind` instructions more.
///
/// An argument has 64 bits and the accumulator 32: where the upper halves decide, the lower ones are not looked at.
fn compare(condition: &SeccompArg, narrow: bool, behind: u8) -> Vec<Instruction> {
    let SeccompArg { index, op, value, value_two } = *condition;
    let halves = |value: u64| ((value >> 32) as u32, value as u32);
    let ((high, low), (high_two, low_two)) = (halves(value), halves(value_two));
    let (load_high, load_low) = (bpf::load_high(index), bpf::load_low(index));
    let no = behind;
    // From each instruction the count to the end of this condition, and with `no` to the end of the rule.
    let upper = match op {
        SeccompOperator::Eq => vec![load_high, bpf::if_equal(high, 0, no + 2)],
        SeccompOperator::Ne => vec![load_high, bpf::if_equal(high, 0, 2)],
        SeccompOperator::Gt | SeccompOperator::Ge => {
            vec![load_high, bpf::if_above(high, 3, 0), bpf::if_equal(high, 0, no + 2)]
        }
        SeccompOperator::Lt | SeccompOperator::Le => {
            vec![load_high, bpf::if_above(high, no + 3, 0), bpf::if_equal(high, 0, 2)]
        }
        SeccompOperator::MaskedEq => {
            vec![load_high, bpf::and(high), bpf::if_equal(high_two & high, 0, no + 3)]
        }
    };
    let lower = match op {
        SeccompOperator::Eq => vec![load_low, bpf::if_equal(low, 0, no)],
        SeccompOperator::Ne => vec![load_low, bpf::if_equal(low, no, 0)],
        SeccompOperator::Gt => vec![load_low, bpf::if_above(low, 0, no)],
        SeccompOperator::Ge => vec![load_low, bpf::if_from(low, 0, no)],
        SeccompOperator::Lt => vec![load_low, bpf::if_from(low, no, 0)],
        SeccompOperator::Le => vec![load_low, bpf::if_above(low, no, 0)],
        SeccompOperator::MaskedEq => vec![load_low, bpf::and(low), bpf::if_equal(low_two & low, 0, no)],
    };
    if narrow { lower } else { [upper, lower].concat() }
}
