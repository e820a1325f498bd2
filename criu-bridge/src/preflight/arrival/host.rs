//! The machine, its kernel, and what is installed.

use super::super::{Finding, tools as programs};
use super::Arrival;
use crate::checkpoint::cpu_features;
use crate::version::Version;

/// Features that decide which registers a task has. CRIU insists on them (arch/x86/cpu.c, crtools.c).
const REGISTERS: &[&str] =
    &["fpu", "fxsr", "sse", "sse2", "xsave", "avx", "avx512f", "amx_tile", "pku", "xsaves"];

/// The first CRIU whose pages may be compressed one by one, which older ones take for plain pages.
const COMPRESSES_PAGES: Version = Version::new(4, 3, 0);

/// Code runs on its own kind of processor alone.
pub(super) fn architecture(arrival: &Arrival<'_>) -> Vec<Finding> {
    let there = &arrival.manifest.cpu.architecture;
    if there == std::env::consts::ARCH {
        return Vec::new();
    }
    let what = format!("it was made on {there}, and this host is");
    vec![Finding::general(
        "architecture",
        what,
        std::env::consts::ARCH,
        "restore it on a machine of its kind",
    )]
}

fn missing(arrival: &Arrival<'_>) -> Vec<String> {
    let cpu = &arrival.manifest.cpu;
    if cpu.architecture != std::env::consts::ARCH {
        return Vec::new();
    }
    let here = cpu_features();
    cpu.features.iter().filter(|name| !here.contains(name)).cloned().collect()
}

/// Registers that this processor has no room for.
pub(super) fn registers(arrival: &Arrival<'_>) -> Vec<Finding> {
    let missing: Vec<_> =
        missing(arrival).into_iter().filter(|name| REGISTERS.contains(&name.as_str())).collect();
    if missing.is_empty() {
        return Vec::new();
    }
    let what = "this processor lacks registers that the snapshot's programs use:";
    let hint = "restore it on a processor of the same kind or a newer one";
    vec![Finding::general("cpu-registers", what, missing.join(" "), hint)]
}

/// Instructions that programs may have found at their start and rely on.
pub(super) fn instructions(arrival: &Arrival<'_>) -> Vec<Finding> {
    let missing: Vec<_> =
        missing(arrival).into_iter().filter(|name| !REGISTERS.contains(&name.as_str())).collect();
    if missing.is_empty() {
        return Vec::new();
    }
    let what = "this processor lacks what the other had; programs that use it would be killed by SIGILL:";
    let hint = "restore it on a processor of the same kind or a newer one";
    vec![Finding::general("cpu-instructions", what, missing.join(" "), hint).warning()]
}

/// A CRIU that is older than the one that dumped.
///
/// Page maps are rewritten for it (the field in which 4.2 counts pages is not the one that 4.1 reads); pages themselves are
/// not.
pub(super) fn criu(arrival: &Arrival<'_>) -> Vec<Finding> {
    let Some(there) = Version::parse(&arrival.manifest.criu) else { return Vec::new() };
    let here = arrival.criu;
    let release = |version: Version| (version.major, version.minor);
    if release(here) >= release(there) {
        return Vec::new();
    }
    let what = format!("it was made with criu {there}, and this host has");
    let finding = |hint| Finding::general("criu-older", what, here, hint);
    if there >= COMPRESSES_PAGES && here < COMPRESSES_PAGES {
        return vec![finding("install the newer criu: this one would read its pages wrong")];
    }
    vec![finding("its page maps are rewritten for it; what else the newer one knew is lost").warning()]
}

/// A kernel that is older than the one below the container.
pub(super) fn kernel(arrival: &Arrival<'_>) -> Vec<Finding> {
    let here = nix::sys::utsname::uname()
        .map(|name| name.release().to_string_lossy().into_owned())
        .unwrap_or_default();
    match (release(&arrival.manifest.kernel), release(&here)) {
        (Some(there), Some(own)) if own < there => {
            let what = format!("it ran on Linux {}, and this host has", arrival.manifest.kernel);
            let hint = "programs may rely on what the newer kernel had";
            vec![Finding::general("kernel-older", what, here, hint).warning()]
        }
        _ => Vec::new(),
    }
}

fn release(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|letter: char| !letter.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// The security module whose labels the processes have.
pub(super) fn security_module(arrival: &Arrival<'_>) -> Vec<Finding> {
    let there = arrival.manifest.container.security_module.as_str();
    let here = match there {
        "apparmor" => std::fs::read_to_string("/sys/module/apparmor/parameters/enabled")
            .is_ok_and(|text| text.starts_with('Y')),
        "selinux" => std::path::Path::new("/sys/fs/selinux/enforce").exists(),
        _ => return Vec::new(),
    };
    if here {
        return Vec::new();
    }
    let what = "its processes are confined by a security module that this host does not have:";
    vec![Finding::general("security-module", what, there, "restore on a host with it")]
}

/// CRIU's cgroup mounts are of one version.
pub(super) fn cgroup_version(arrival: &Arrival<'_>) -> Vec<Finding> {
    let there = arrival.manifest.container.cgroup_version;
    let unified = std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let here = if unified { 2 } else { 1 };
    let mounted = arrival.config.is_some_and(|config| {
        config.mounts.iter().any(|mount| mount.kind == floe_runtime::config::MountKind::Cgroup)
    });
    if there == here || there == 0 || !mounted {
        return Vec::new();
    }
    let what = format!("it was made where cgroups have version {there}, and this host has version");
    let hint = "restore it on a host with the same version if its programs look at /sys/fs/cgroup";
    vec![Finding::general("cgroup-version", what, here, hint).warning()]
}

/// Memory for everything that the snapshot holds.
pub(super) fn memory(arrival: &Arrival<'_>) -> Vec<Finding> {
    let pages = arrival.images.iter().filter(|(name, _)| name.starts_with("checkpoint/pages-"));
    let needed: u64 = pages.map(|(_, size)| size).sum();
    let mut found = Vec::new();
    if let Some(available) = available().filter(|available| *available < needed) {
        let what = format!("it holds {} MiB of memory, and this host has left, in MiB,", needed >> 20);
        found.push(Finding::general("memory", what, available >> 20, "free memory"));
    }
    let limit = arrival
        .config
        .and_then(|config| config.resources.memory.limit)
        .and_then(|limit| u64::try_from(limit).ok());
    if let Some(limit) = limit.filter(|limit| *limit > 0 && *limit < needed) {
        let what = format!(
            "it holds {} MiB of memory, and the bundle limits the container to, in MiB,",
            needed >> 20
        );
        found.push(
            Finding::general("memory-limit", what, limit >> 20, "raise linux.resources.memory.limit")
                .warning(),
        );
    }
    found
}

/// `MemAvailable` and free swap of proc_meminfo(5), in bytes.
fn available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kilobytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
    };
    Some((kilobytes("MemAvailable:")? + kilobytes("SwapFree:").unwrap_or(0)) * 1024)
}

/// Programs that CRIU calls for what the snapshot holds.
pub(super) fn tools(arrival: &Arrival<'_>) -> Vec<Finding> {
    let has = |start: &str| arrival.images.iter().any(|(name, size)| name.starts_with(start) && *size > 0);
    programs::needed(has("checkpoint/netdev-"), has("checkpoint/tmpfs-"))
}

#[cfg(test)]
mod tests {
    use floe_snapshot_format::Manifest;

    use super::*;
    use crate::preflight::Weight;

    fn manifest(change: impl FnOnce(&mut Manifest)) -> Manifest {
        let mut manifest = Manifest::default();
        manifest.cpu.architecture = std::env::consts::ARCH.to_owned();
        change(&mut manifest);
        manifest
    }

    #[test]
    fn another_kind_of_processor_is_told() {
        let made = manifest(|manifest| manifest.cpu.architecture = "s390x".to_owned());
        assert_eq!(architecture(&Arrival::of(&made))[0].kind, "architecture");
        assert!(architecture(&Arrival::of(&manifest(|_| {}))).is_empty());
    }

    #[test]
    fn registers_block_and_instructions_warn() {
        let made = manifest(|manifest| {
            manifest.cpu.features = vec!["fpu".to_owned(), "amx_tile".to_owned(), "no-such".to_owned()]
        });
        let arrival = Arrival::of(&made);
        assert_eq!(instructions(&arrival)[0].weight, Weight::Warning);
        assert!(instructions(&arrival)[0].blocker.on.contains("no-such"));
        if !cpu_features().contains(&"amx_tile".to_owned()) {
            assert_eq!(registers(&arrival)[0].weight, Weight::Blocker);
        }
    }

    #[test]
    fn an_older_criu_is_a_warning_while_page_maps_can_be_rewritten() {
        let found = |there: &str| {
            let made = manifest(|manifest| manifest.criu = there.to_owned());
            criu(&Arrival::of(&made)).first().map(|finding| finding.weight)
        };
        assert_eq!(found("4.1.1"), None);
        assert_eq!(found("4.1.2"), None);
        assert_eq!(found("4.2"), Some(Weight::Warning));
        assert_eq!(found("4.3"), Some(Weight::Blocker));
    }

    #[test]
    fn a_newer_kernel_is_told() {
        let made = manifest(|manifest| manifest.kernel = "99.0.1-generic".to_owned());
        assert_eq!(kernel(&Arrival::of(&made))[0].kind, "kernel-older");
        assert_eq!(release("6.18.0-rc1"), Some((6, 18)));
    }

    #[test]
    fn more_memory_than_there_is_is_told() {
        let made = manifest(|_| {});
        let mut arrival = Arrival::of(&made);
        arrival.images = vec![("checkpoint/pages-1.img".to_owned(), 1 << 60)];
        assert_eq!(memory(&arrival)[0].kind, "memory");
        arrival.images = vec![("checkpoint/pages-1.img".to_owned(), 1 << 12)];
        assert!(memory(&arrival).is_empty());
    }

    #[test]
    fn a_module_that_is_not_here_is_told() {
        let made = manifest(|manifest| manifest.container.security_module = "selinux".to_owned());
        let here = std::path::Path::new("/sys/fs/selinux/enforce").exists();
        assert_eq!(security_module(&Arrival::of(&made)).is_empty(), here);
    }
}
