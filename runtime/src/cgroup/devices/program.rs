//! A device list as an eBPF program.
//!
//! The kernel calls the program with the access that is asked for, and allows it when the program returns 1. Its
//! argument is `struct bpf_cgroup_dev_ctx`: what is asked for and the kind of the node in one word (the access in the
//! upper half), the major, the minor. See `bpf(2)`, `Documentation/bpf/standardization/instruction-set.rst`.

use super::list::{DeviceList, Node, NodeKind};
use crate::config::DeviceAccess;

/// One instruction in the kernel's form: opcode, registers, offset, immediate value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Instruction {
    opcode: u8,
    /// Destination in the lower half, source in the upper one.
    registers: u8,
    offset: i16,
    value: i32,
}
const _: () = assert!(size_of::<Instruction>() == 8);

// `BPF_DEVCG_DEV_*` and `BPF_DEVCG_ACC_*` of `linux/bpf.h`.
const BLOCK: i32 = 1;
const CHAR: i32 = 2;
const MKNOD: i32 = 1;
const READ: i32 = 2;
const WRITE: i32 = 4;

/// Registers: what is returned, the argument and later a scratch value, and what is asked for.
const RESULT: u8 = 0;
const SCRATCH: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

/// The program that decides as the list does.
pub(super) fn compile(list: &DeviceList) -> Vec<Instruction> {
    let mut program = vec![
        load(KIND, 0),
        and(KIND, 0xffff),
        load(ACCESS, 0),
        shift_right(ACCESS, 16),
        load(MAJOR, 4),
        load(MINOR, 8),
    ];
    let default = list.allows_by_default();
    for (node, access) in list.exceptions() {
        program.extend(exception(node, access, default));
    }
    program.extend([set(RESULT, i32::from(default)), exit()]);
    program
}

/// Decides against the default if this node and access are meant, and else goes on behind itself.
///
/// A list that denies makes an exception for an access that is allowed as a whole; one that allows, for an access of
/// which any part is denied. That is the kernel's own difference (`match_exception`, `match_exception_partial`).
fn exception(node: &Node, access: DeviceAccess, default: bool) -> Vec<Instruction> {
    let kind = match node.kind {
        NodeKind::Block => BLOCK,
        NodeKind::Char => CHAR,
    };
    let mut block = vec![unless_equal(KIND, kind)];
    if access != DeviceAccess::ALL {
        let given = [(access.read, READ), (access.write, WRITE), (access.mknod, MKNOD)];
        let bits = given.into_iter().filter_map(|(has, bit)| has.then_some(bit)).sum();
        block.extend([copy(SCRATCH, ACCESS), and(SCRATCH, bits)]);
        block.push(if default { if_equal(SCRATCH, 0) } else { unless_same(SCRATCH, ACCESS) });
    }
    for (register, number) in [(MAJOR, node.major), (MINOR, node.minor)] {
        if let Some(number) = number {
            // A number above 2^31, which no device has, is sign-extended here and so never equal.
            block.push(unless_equal(register, number.cast_signed()));
        }
    }
    block.extend([set(RESULT, i32::from(!default)), exit()]);
    // The jumps were made with a distance of 0: they all lead behind the block.
    let length = block.len();
    for (index, instruction) in block.iter_mut().enumerate() {
        if instruction.is_jump() {
            // A block has at most nine instructions.
            instruction.offset = i16::try_from(length - index - 1).unwrap_or(i16::MAX);
        }
    }
    block
}

impl Instruction {
    const fn new(opcode: u8, destination: u8, source: u8, offset: i16, value: i32) -> Self {
        Self { opcode, registers: destination | (source << 4), offset, value }
    }

    fn is_jump(self) -> bool {
        matches!(self.opcode, JNE_VALUE | JNE_REGISTER | JEQ_VALUE)
    }
}

const LOAD_WORD: u8 = 0x61;
const AND_VALUE: u8 = 0x54;
const SHIFT_RIGHT_VALUE: u8 = 0x74;
const MOVE_VALUE: u8 = 0xb4;
const MOVE_REGISTER: u8 = 0xbc;
const JEQ_VALUE: u8 = 0x15;
const JNE_VALUE: u8 = 0x55;
const JNE_REGISTER: u8 = 0x5d;
const EXIT: u8 = 0x95;

/// Reads a word of the argument.
const fn load(register: u8, offset: i16) -> Instruction {
    Instruction::new(LOAD_WORD, register, SCRATCH, offset, 0)
}

const fn and(register: u8, value: i32) -> Instruction {
    Instruction::new(AND_VALUE, register, 0, 0, value)
}

const fn shift_right(register: u8, bits: i32) -> Instruction {
    Instruction::new(SHIFT_RIGHT_VALUE, register, 0, 0, bits)
}

const fn set(register: u8, value: i32) -> Instruction {
    Instruction::new(MOVE_VALUE, register, 0, 0, value)
}

const fn copy(register: u8, from: u8) -> Instruction {
    Instruction::new(MOVE_REGISTER, register, from, 0, 0)
}

const fn unless_equal(register: u8, value: i32) -> Instruction {
    Instruction::new(JNE_VALUE, register, 0, 0, value)
}

const fn if_equal(register: u8, value: i32) -> Instruction {
    Instruction::new(JEQ_VALUE, register, 0, 0, value)
}

const fn unless_same(register: u8, other: u8) -> Instruction {
    Instruction::new(JNE_REGISTER, register, other, 0, 0)
}

const fn exit() -> Instruction {
    Instruction::new(EXIT, 0, 0, 0, 0)
}

#[cfg(test)]
mod tests {
    use super::super::list::tests::rules;
    use super::*;

    /// Runs a program as the kernel does.
    fn decide(program: &[Instruction], kind: i32, access: i32, major: u32, minor: u32) -> bool {
        let context = [(access << 16 | kind).cast_unsigned(), major, minor];
        let mut registers = [0_u64; 6];
        let mut at = 0;
        // Jumps lead forwards only, so it ends.
        loop {
            let step = program[at];
            let (to, from) = (usize::from(step.registers & 15), usize::from(step.registers >> 4));
            let value = i64::from(step.value).cast_unsigned();
            at += 1;
            let mut jump = |if_so: bool| at += if if_so { usize::try_from(step.offset).unwrap() } else { 0 };
            match step.opcode {
                LOAD_WORD => registers[to] = context[usize::try_from(step.offset / 4).unwrap()].into(),
                AND_VALUE => registers[to] = (registers[to] & value) & 0xffff_ffff,
                SHIFT_RIGHT_VALUE => registers[to] = (registers[to] & 0xffff_ffff) >> value,
                MOVE_VALUE => registers[to] = value & 0xffff_ffff,
                MOVE_REGISTER => registers[to] = registers[from] & 0xffff_ffff,
                JEQ_VALUE => jump(registers[to] == value),
                JNE_VALUE => jump(registers[to] != value),
                JNE_REGISTER => jump(registers[to] != registers[from]),
                EXIT => return registers[0] == 1,
                other => panic!("no instruction {other:#x}"),
            }
        }
    }

    /// What the list says by its definition.
    fn by_definition(list: &DeviceList, kind: NodeKind, access: i32, major: u32, minor: u32) -> bool {
        let meant = list.exceptions().any(|(node, given)| {
            let bits = [(given.read, READ), (given.write, WRITE), (given.mknod, MKNOD)];
            let bits: i32 = bits.into_iter().filter_map(|(has, bit)| has.then_some(bit)).sum();
            node.kind == kind
                && node.major.is_none_or(|number| number == major)
                && node.minor.is_none_or(|number| number == minor)
                && if list.allows_by_default() { access & bits != 0 } else { access & !bits == 0 }
        });
        meant != list.allows_by_default()
    }

    #[test]
    fn the_program_decides_as_the_list() {
        let lists: [&[&str]; 6] = [
            &["deny a"],
            &["allow a"],
            &["allow c 1:3 rwm", "allow c 136:* rw", "allow b *:* m", "allow b *:2 r"],
            &["allow a", "deny c 1:3 w", "deny b 8:* rm"],
            &["allow c *:5 r", "allow c 1:5 w", "allow c 4294967295:1 rwm"],
            &["allow a", "deny c *:* m"],
        ];
        for lines in lists {
            let list = DeviceList::of(&rules(lines)).unwrap();
            let program = compile(&list);
            let numbers = [0, 1, 2, 3, 5, 8, 136, u32::MAX];
            for (kind, code) in [(NodeKind::Block, BLOCK), (NodeKind::Char, CHAR)] {
                for access in 1..8 {
                    for (major, minor) in
                        numbers.iter().flat_map(|major| numbers.map(|minor| (*major, minor)))
                    {
                        // Numbers above 2^31 belong to no device, and never match.
                        if major == u32::MAX || minor == u32::MAX {
                            continue;
                        }
                        assert_eq!(
                            decide(&program, code, access, major, minor),
                            by_definition(&list, kind, access, major, minor),
                            "{lines:?}: {kind:?} {access} {major}:{minor}"
                        );
                    }
                }
            }
        }
    }
}
