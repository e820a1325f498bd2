//! The instructions that a filter is made of: classic BPF as `seccomp(2)` takes it
//! (`Documentation/networking/filter.rst` of the kernel).
//!
//! All jumps lead forward, by a count of instructions. Code is therefore put together from its end: a part knows how
//! long what follows it is.

use serde::{Deserialize, Serialize};

/// One instruction: `struct sock_filter`, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Instruction(pub(crate) u16, pub(crate) u8, pub(crate) u8, pub(crate) u32);

/// Most instructions of a filter, `BPF_MAXINSNS`.
pub(super) const MOST: usize = 4096;

// `include/uapi/linux/bpf_common.h`, put together for what is used here. Each works on the accumulator and the constant.
const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_GREATER_OR_EQUAL: u16 = 0x35;
const RETURN: u16 = 0x06;

// Where things are in `struct seccomp_data`, in bytes.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;
const LOW: u32 = if cfg!(target_endian = "big") { 4 } else { 0 };

/// The accumulator becomes the number of the call.
pub(super) fn load_number() -> Instruction {
    Instruction(LOAD, 0, 0, NUMBER)
}

/// The accumulator becomes the architecture of the call.
pub(super) fn load_architecture() -> Instruction {
    Instruction(LOAD, 0, 0, ARCHITECTURE)
}

/// The accumulator becomes the lower half of an argument, 0 to 5.
pub(super) fn load_low(argument: u32) -> Instruction {
    Instruction(LOAD, 0, 0, ARGUMENTS + 8 * argument + LOW)
}

/// The accumulator becomes the upper half of an argument, 0 to 5.
pub(super) fn load_high(argument: u32) -> Instruction {
    Instruction(LOAD, 0, 0, ARGUMENTS + 8 * argument + 4 - LOW)
}

/// The accumulator keeps the bits of `mask`.
pub(super) fn and(mask: u32) -> Instruction {
    Instruction(AND, 0, 0, mask)
}

/// Passes over `yes` instructions if the accumulator is `value`, else over `no`.
pub(super) fn if_equal(value: u32, yes: u8, no: u8) -> Instruction {
    Instruction(JUMP_EQUAL, yes, no, value)
}

/// Passes over `yes` instructions if the accumulator is above `value`, else over `no`.
pub(super) fn if_above(value: u32, yes: u8, no: u8) -> Instruction {
    Instruction(JUMP_GREATER, yes, no, value)
}

/// Passes over `yes` instructions if the accumulator is `value` or above, else over `no`.
pub(super) fn if_from(value: u32, yes: u8, no: u8) -> Instruction {
    Instruction(JUMP_GREATER_OR_EQUAL, yes, no, value)
}

/// Passes over `count` instructions, which may be many.
pub(super) fn pass_over(count: usize) -> Instruction {
    // What is too long for a filter is refused as a whole.
    Instruction(JUMP, 0, 0, u32::try_from(count).unwrap_or(u32::MAX))
}

/// Ends the filter with one of `SECCOMP_RET_*`.
pub(super) fn answer(value: u32) -> Instruction {
    Instruction(RETURN, 0, 0, value)
}

/// What the kernel would answer: the interpreter that tests run programs on.
#[cfg(test)]
pub(super) fn run(program: &[Instruction], arch: u32, number: u32, args: [u64; 6]) -> u32 {
    let mut data = Vec::new();
    data.extend(number.to_ne_bytes());
    data.extend(arch.to_ne_bytes());
    data.extend(0u64.to_ne_bytes());
    args.iter().for_each(|arg| data.extend(arg.to_ne_bytes()));
    let (mut at, mut accumulator) = (0, 0u32);
    loop {
        let Instruction(code, yes, no, value) = program[at];
        let jump = |taken: bool| usize::from(if taken { yes } else { no });
        at += 1;
        match code {
            LOAD => {
                let word = data[value as usize..][..4].try_into().unwrap();
                accumulator = u32::from_ne_bytes(word);
            }
            AND => accumulator &= value,
            JUMP => at += value as usize,
            JUMP_EQUAL => at += jump(accumulator == value),
            JUMP_GREATER => at += jump(accumulator > value),
            JUMP_GREATER_OR_EQUAL => at += jump(accumulator >= value),
            RETURN => return value,
            _ => panic!("no instruction: {code:#x}"),
        }
    }
}
