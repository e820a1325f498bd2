use super::abi::{ABIS, Abi};
use super::{bpf, compile, *};
use crate::config::{SeccompAction, SeccompArch, SeccompArg, SeccompOperator, SeccompRule};

const EPERM: SeccompAction = SeccompAction::Errno(1);
const ENOSYS: u32 = 0x5_0026;
const KILLED: u32 = 0;

fn profile(default_action: SeccompAction, rules: Vec<SeccompRule>) -> Seccomp {
    Seccomp {
        default_action,
        architectures: vec![SeccompArch::X86_64, SeccompArch::X86, SeccompArch::X32],
        flags: None,
        rules,
        listener_path: None,
        listener_metadata: None,
    }
}

fn rule(names: &[&str], action: SeccompAction) -> SeccompRule {
    SeccompRule { names: names.iter().map(|name| (*name).to_owned()).collect(), action, args: Vec::new() }
}

fn when(name: &str, action: SeccompAction, args: &[SeccompArg]) -> SeccompRule {
    SeccompRule { args: args.to_vec(), ..rule(&[name], action) }
}

fn arg(index: u32, op: SeccompOperator, value: u64) -> SeccompArg {
    SeccompArg { index, op, value, value_two: 0 }
}

fn abi(arch: SeccompArch) -> &'static Abi {
    ABIS.iter().find(|abi| abi.arch == arch).unwrap()
}

/// The number of a call in floe's own table.
fn number(name: &str) -> u32 {
    ABIS[0].calls().find(|(_, other)| *other == name).unwrap().0
}

/// What a call of floe's own table is answered.
fn answer(profile: &Seccomp, name: &str, args: [u64; 6]) -> u32 {
    bpf::run(&compile::program(profile), ABIS[0].audit, number(name), args)
}

#[test]
fn every_action_has_its_answer() {
    for (action, value) in [
        (SeccompAction::KillThread, KILLED),
        (SeccompAction::KillProcess, 0x8000_0000),
        (SeccompAction::Trap, 0x0003_0000),
        (SeccompAction::Errno(13), 0x0005_000d),
        (SeccompAction::Trace(7), 0x7ff0_0007),
        (SeccompAction::Notify, 0x7fc0_0000),
        (SeccompAction::Log, 0x7ffc_0000),
        (SeccompAction::Allow, 0x7fff_0000),
    ] {
        let profile = profile(EPERM, vec![rule(&["mkdirat", "no_such_call"], action)]);
        assert_eq!(answer(&profile, "mkdirat", [0; 6]), value, "{action:?}");
        assert_eq!(answer(&profile, "read", [0; 6]), 0x0005_0001, "{action:?}");
    }
}

/// Values around every border that a comparison of two halves has.
const VALUES: [u64; 14] = [
    0,
    1,
    5,
    6,
    0xffff_ffff,
    0x1_0000_0000,
    0x1_0000_0005,
    0x1_0000_0006,
    0x1_ffff_ffff,
    0x2_0000_0000,
    0x2_0000_0005,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    u64::MAX,
];

fn holds(op: SeccompOperator, arg: u64, value: u64, value_two: u64) -> bool {
    match op {
        SeccompOperator::Ne => arg != value,
        SeccompOperator::Lt => arg < value,
        SeccompOperator::Le => arg <= value,
        SeccompOperator::Eq => arg == value,
        SeccompOperator::Ge => arg >= value,
        SeccompOperator::Gt => arg > value,
        SeccompOperator::MaskedEq => arg & value == value_two & value,
    }
}

const OPERATORS: [SeccompOperator; 7] = [
    SeccompOperator::Ne,
    SeccompOperator::Lt,
    SeccompOperator::Le,
    SeccompOperator::Eq,
    SeccompOperator::Ge,
    SeccompOperator::Gt,
    SeccompOperator::MaskedEq,
];

#[test]
fn comparisons_are_those_of_64_bits() {
    let allowed = compile::answer_of(SeccompAction::Allow);
    for op in OPERATORS {
        for value in VALUES {
            for value_two in [0, value, 0x1_0000_0005] {
                let condition = SeccompArg { index: 3, op, value, value_two };
                let profile = profile(EPERM, vec![when("mkdirat", SeccompAction::Allow, &[condition])]);
                let program = compile::program(&profile);
                for arg in VALUES {
                    let args = [7, 7, 7, arg, 7, 7];
                    let got = bpf::run(&program, ABIS[0].audit, number("mkdirat"), args);
                    let wanted = holds(op, arg, value, value_two);
                    assert_eq!(got == allowed, wanted, "{arg:#x} {op:?} {value:#x} {value_two:#x}");
                }
            }
        }
    }
}

/// Two conditions of every kind: the jumps out of the first lead behind the second.
#[test]
fn all_conditions_of_a_rule_have_to_hold() {
    let allowed = compile::answer_of(SeccompAction::Allow);
    for (one, two) in OPERATORS.iter().flat_map(|one| OPERATORS.map(|two| (*one, two))) {
        let value = 0x1_0000_0005;
        let conditions = [arg(0, one, value), arg(5, two, value)];
        let profile = profile(EPERM, vec![when("mkdirat", SeccompAction::Allow, &conditions)]);
        let program = compile::program(&profile);
        for (first, last) in VALUES.iter().flat_map(|first| VALUES.map(|last| (*first, last))) {
            let got =
                bpf::run(&program, ABIS[0].audit, number("mkdirat"), [first, 0, 0, 0, 0, last]) == allowed;
            let wanted = holds(one, first, value, 0) && holds(two, last, value, 0);
            assert_eq!(got, wanted, "{first:#x} {one:?}, {last:#x} {two:?}");
        }
    }
}

#[test]
fn of_two_conditions_on_one_argument_either_will_do() {
    let either = [arg(0, SeccompOperator::Eq, 3), arg(0, SeccompOperator::Eq, 4)];
    let profile = profile(EPERM, vec![when("mkdirat", SeccompAction::Allow, &either)]);
    let first = |value| answer(&profile, "mkdirat", [value, 0, 0, 0, 0, 0]) == 0x7fff_0000;
    assert!(first(3) && first(4) && !first(5));
}

#[test]
fn of_several_rules_the_one_without_conditions_goes_first_and_then_the_first() {
    let nine = [arg(0, SeccompOperator::Eq, 9)];
    let high = [arg(0, SeccompOperator::Gt, 5)];
    let profile = profile(
        EPERM,
        vec![
            when("mkdirat", SeccompAction::Errno(9), &nine),
            when("mkdirat", SeccompAction::Errno(6), &high),
            when("openat", SeccompAction::Errno(9), &nine),
            rule(&["openat"], SeccompAction::Allow),
            // The default's own action: it says nothing.
            rule(&["unlinkat"], EPERM),
            when("unlinkat", SeccompAction::Allow, &nine),
        ],
    );
    let at = |name, value| answer(&profile, name, [value, 0, 0, 0, 0, 0]);
    assert_eq!((at("mkdirat", 9), at("mkdirat", 8), at("mkdirat", 5)), (0x5_0009, 0x5_0006, 0x5_0001));
    assert_eq!(at("openat", 9), 0x7fff_0000);
    assert_eq!((at("unlinkat", 9), at("unlinkat", 8)), (0x7fff_0000, 0x5_0001));
}

#[test]
fn calls_that_are_newer_than_the_profile_are_unknown() {
    let rules = || vec![rule(&["openat2", "read"], SeccompAction::Allow)];
    let newer = ABIS[0].calls().last().unwrap().1;
    for (default, newer_one, older_one) in [
        (EPERM, ENOSYS, 0x5_0001),
        (SeccompAction::KillProcess, ENOSYS, 0x8000_0000),
        (SeccompAction::Log, 0x7ffc_0000, 0x7ffc_0000),
        (SeccompAction::Trace(1), 0x7ff0_0001, 0x7ff0_0001),
    ] {
        let profile = profile(default, rules());
        assert_eq!(answer(&profile, newer, [0; 6]), newer_one, "{default:?}");
        assert_eq!(answer(&profile, "openat", [0; 6]), older_one, "{default:?}");
        let program = compile::program(&profile);
        assert_eq!(bpf::run(&program, ABIS[0].audit, 5000, [0; 6]), newer_one, "no kernel has it yet");
    }
    // A name that is denied was known as well.
    let profile = profile(EPERM, [rules(), vec![rule(&[newer], EPERM)]].concat());
    assert_eq!(answer(&profile, newer, [0; 6]), 0x5_0001);
}

#[test]
fn a_profile_without_a_known_name_is_its_default() {
    for rules in [vec![], vec![rule(&["no_such_call"], SeccompAction::Allow)]] {
        let profile = profile(EPERM, rules);
        assert_eq!(answer(&profile, "read", [0; 6]), 0x5_0001);
        assert_eq!(bpf::run(&compile::program(&profile), ABIS[0].audit, 5000, [0; 6]), 0x5_0001);
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::*;

    const X86_64: u32 = 0xc000_003e;
    const I386: u32 = 0x4000_0003;
    const X32: u32 = 0x4000_0000;

    #[test]
    fn architectures_have_numbers_of_their_own() {
        let all = profile(EPERM, vec![rule(&["ioctl", "openat"], SeccompAction::Allow)]);
        let program = compile::program(&all);
        let allowed = |arch, number| bpf::run(&program, arch, number, [0; 6]) == 0x7fff_0000;
        assert!(allowed(X86_64, 16) && allowed(X86_64, 257));
        assert!(allowed(I386, 54) && allowed(I386, 295) && !allowed(I386, 16));
        assert!(allowed(X86_64, X32 | 514) && allowed(X86_64, X32 | 257) && !allowed(X86_64, X32 | 16));
        assert_eq!(bpf::run(&program, 0xc000_00b7, 16, [0; 6]), KILLED, "an ARM");
    }

    #[test]
    fn an_architecture_that_is_not_named_is_killed() {
        let mut only = profile(EPERM, vec![rule(&["read"], SeccompAction::Allow)]);
        for named in [vec![], vec![SeccompArch::X86_64], vec![SeccompArch::Aarch64]] {
            only.architectures = named;
            let program = compile::program(&only);
            assert_eq!(bpf::run(&program, X86_64, 0, [0; 6]), 0x7fff_0000);
            assert_eq!(bpf::run(&program, I386, 3, [0; 6]), KILLED);
            assert_eq!(bpf::run(&program, X86_64, X32, [0; 6]), KILLED);
            assert_eq!(bpf::run(&program, X86_64, u32::MAX - 1, [0; 6]), KILLED);
            assert_eq!(bpf::run(&program, X86_64, u32::MAX, [0; 6]), 0x5_0001, "cancelled by a tracer");
        }
    }

    #[test]
    fn arguments_of_32_bits_are_compared_as_such() {
        let minus_one = [arg(0, SeccompOperator::Eq, u64::MAX)];
        let profile = profile(EPERM, vec![when("personality", SeccompAction::Allow, &minus_one)]);
        let program = compile::program(&profile);
        let args = [u64::from(u32::MAX), 0, 0, 0, 0, 0];
        assert_eq!(bpf::run(&program, I386, 136, args), 0x7fff_0000);
        assert_eq!(bpf::run(&program, X86_64, 135, args), 0x5_0001);
    }

    /// `socketcall` on 32-bit x86.
    #[test]
    fn a_rule_for_a_call_is_one_for_the_call_that_holds_it() {
        let profile = profile(
            EPERM,
            vec![
                rule(&["socket", "shmat"], SeccompAction::Allow),
                when("connect", SeccompAction::Allow, &[arg(0, SeccompOperator::Eq, 3)]),
            ],
        );
        let program = compile::program(&profile);
        let call = |number, first| bpf::run(&program, I386, number, [first, 0, 0, 0, 0, 0]);
        assert_eq!((call(102, 1), call(102, 2), call(102, 3)), (0x7fff_0000, 0x5_0001, 0x5_0001));
        assert_eq!((call(117, 21), call(117, 1)), (0x7fff_0000, 0x5_0001));
        assert_eq!(call(359, 0), 0x7fff_0000, "socket itself");
        let mut whole = profile.clone();
        whole.rules.push(rule(&["socketcall"], SeccompAction::Allow));
        assert_eq!(bpf::run(&compile::program(&whole), I386, 102, [5, 0, 0, 0, 0, 0]), 0x7fff_0000);
    }

    /// What the tables say, where it is easily wrong.
    #[test]
    fn numbers_are_the_kernels() {
        let find =
            |arch, name: &str| abi(arch).calls().find(|(_, other)| *other == name).map(|(number, _)| number);
        assert_eq!(find(SeccompArch::X86_64, "pread64"), Some(17));
        assert_eq!(find(SeccompArch::X86_64, "file_setattr"), Some(469), "the last one of the table");
        assert_eq!(find(SeccompArch::X86, "_llseek"), Some(140));
        assert_eq!(find(SeccompArch::X86, "clock_gettime64"), Some(403));
        assert_eq!(find(SeccompArch::X32, "execve"), Some(X32 | 520));
        assert_eq!(find(SeccompArch::X32, "pwritev2"), Some(X32 | 547));
        for abi in ABIS {
            let numbers: Vec<u32> = abi.calls().map(|(number, _)| number).collect();
            assert!(
                numbers.is_sorted() && numbers.iter().all(|number| (abi.first..=abi.last).contains(number))
            );
        }
    }
}

#[test]
fn flags_are_those_of_the_profile() {
    let mut one = profile(EPERM, vec![]);
    assert_eq!(flags(&one), FLAG_SPEC_ALLOW, "nothing is said");
    one.flags = Some(vec![]);
    assert_eq!(flags(&one), 0);
    one.flags = Some(vec![SeccompFlag::Log, SeccompFlag::Tsync, SeccompFlag::WaitKillableRecv]);
    assert_eq!(flags(&one), FLAG_LOG, "nobody listens, and there is one thread");
    one.rules.push(rule(&["mkdirat"], SeccompAction::Notify));
    assert_eq!(flags(&one), FLAG_LOG | FLAG_NEW_LISTENER | FLAG_WAIT_KILLABLE_RECV);
    assert!(compile(&one).unwrap().notifies());
}

#[test]
fn a_filter_that_is_too_long_is_refused() {
    let names: Vec<&str> = ABIS[0].calls().map(|(_, name)| name).collect();
    let every =
        names.iter().map(|name| when(name, SeccompAction::Allow, &[arg(0, SeccompOperator::Lt, 1 << 40)]));
    let error = compile(&profile(EPERM, every.collect())).unwrap_err();
    assert!(error.to_string().contains("linux.seccomp is too long"), "{error}");
}

#[test]
fn jumps_over_many_ranges_are_long_ones() {
    // Every other call: hundreds of ranges, more than a short jump passes over.
    let names: Vec<&str> = ABIS[0].calls().map(|(_, name)| name).step_by(2).collect();
    let profile = profile(EPERM, vec![rule(&names, SeccompAction::Allow)]);
    let program = compile::program(&profile);
    let newest = number(names.last().unwrap());
    for (number, name) in ABIS[0].calls().take_while(|(number, _)| *number <= newest) {
        let got = bpf::run(&program, ABIS[0].audit, number, [0; 6]);
        let wanted = if names.contains(&name) { 0x7fff_0000 } else { 0x5_0001 };
        assert_eq!(got, wanted, "{name}");
    }
}
