//! Whether a snapshot asks for more than the configuration gives that the caller has accepted.
//!
//! CRIU brings back what its images say, as root: a snapshot from somewhere else whose images name no namespaces would
//! come back among the host's own processes, and one whose images name capabilities would have them. So before anything
//! is started the images are compared with the bundle's configuration ([`check`]); what cannot be known from images
//! (mounts, devices) is looked at when it is there and nothing of the snapshot has run yet ([`super::arrived`]).
//!
//! A snapshot that this host made itself, byte for byte, is believed: what it holds was there.

use floe_runtime::config::{Capability, CapabilitySet, Config, IdMapping, NamespaceKind};
use floe_snapshot_format::criu::core::Credentials;
use floe_snapshot_format::criu::ids::{IdRange, Namespaces, id_maps, inventory};
use floe_snapshot_format::criu::tasks::{self, Images};

use crate::error::{Error, Result};

/// Compares `images` with `config`.
///
/// # Errors
/// [`Error::Untrusted`] with the first thing that is more than `config` gives; [`Error::Snapshot`] for an image that is
/// not understood.
pub(crate) fn check(images: &Images<'_>, config: &Config) -> Result<()> {
    let processes = tasks::threads(images)?;
    let Some((first, _)) = processes.first() else {
        return Err(refuse("it holds no process".to_owned(), ""));
    };
    let own = tasks::namespaces_of(*first, images)?.unwrap_or_default();
    let criu = images("inventory.img").map(|bytes| inventory(&bytes)).transpose()?.and_then(|all| all.criu);
    namespaces(config, *first, &own, criu.as_ref())?;
    if config.creates(NamespaceKind::User) {
        let name = format!("userns-{}.img", own.user);
        let maps = images(&name).map(|bytes| id_maps(&name, &bytes)).transpose()?.unwrap_or_default();
        users(config, &maps.0, &maps.1)?;
    }
    for (pid, threads) in processes {
        for thread in threads {
            let core = tasks::core_of(thread, images)?;
            let name = core.name.as_deref().unwrap_or_default();
            if let Some(credentials) = core.credentials {
                credentials_of(config, pid, name, &credentials)?;
                filter_of(config, pid, name, core.seccomp)?;
            }
        }
    }
    Ok(())
}

fn refuse(what: String, hint: &str) -> Error {
    let hint = if hint.is_empty() { "it was not made of a container of this bundle" } else { hint };
    Error::Untrusted { what, hint: hint.to_owned() }
}

/// A namespace that the images do not tell from the one of the CRIU that dumped is the host's at the restore.
fn namespaces(config: &Config, first: u32, own: &Namespaces, criu: Option<&Namespaces>) -> Result<()> {
    let criu = criu.copied().unwrap_or_default();
    let kinds = [
        (NamespaceKind::Pid, own.pid, criu.pid),
        (NamespaceKind::Network, own.network, criu.network),
        (NamespaceKind::Ipc, own.ipc, criu.ipc),
        (NamespaceKind::Uts, own.uts, criu.uts),
        (NamespaceKind::Mount, own.mount, criu.mount),
        (NamespaceKind::User, own.user, criu.user),
    ];
    for (kind, own, host) in kinds {
        if config.namespace(kind).is_some() && (own == host || own == 0 || host == 0) {
            return Err(refuse(
                format!(
                    "its processes are to live in the host's {kind} namespace, and the bundle gives it one"
                ),
                "",
            ));
        }
    }
    if config.creates(NamespaceKind::Pid) && first != 1 {
        return Err(refuse(format!("its first process is number {first} of its pid namespace"), ""));
    }
    Ok(())
}

fn users(config: &Config, uids: &[IdRange], gids: &[IdRange]) -> Result<()> {
    let ranges = |all: &[IdMapping]| {
        let one = |map: &IdMapping| IdRange { inside: map.container, outside: map.host, count: map.count };
        let mut all: Vec<IdRange> = all.iter().map(one).collect();
        all.sort_unstable();
        all
    };
    for (what, given, asked) in [("user", &config.uid_mappings, uids), ("group", &config.gid_mappings, gids)]
    {
        let mut asked = asked.to_vec();
        asked.sort_unstable();
        if ranges(given) != asked {
            return Err(refuse(
                format!("the {what} ids of its user namespace are others than the bundle's"),
                "give the bundle's config.json the mappings of the container that it was made of",
            ));
        }
    }
    Ok(())
}

/// A filter cannot be taken off, so who has none was never in such a container. What a filter says is not compared: it is
/// the work of the runtime that made it, and another one writes it in other instructions.
fn filter_of(config: &Config, pid: u32, name: &str, has_one: bool) -> Result<()> {
    if config.seccomp.is_none() || has_one {
        return Ok(());
    }
    Err(refuse(
        format!("{} has no seccomp filter, and the bundle gives it one (linux.seccomp)", whose(pid, name)),
        "take linux.seccomp out of the bundle's config.json, if you trust the snapshot",
    ))
}

fn whose(pid: u32, name: &str) -> String {
    if name.is_empty() { format!("process {pid}") } else { format!("process {pid} ({name})") }
}

fn credentials_of(config: &Config, pid: u32, name: &str, credentials: &Credentials) -> Result<()> {
    let process = &config.process;
    let bounding = process.capabilities.as_ref().map_or(0, |sets| sets.bounding.bits());
    let whose = whose(pid, name);
    let Credentials { permitted, effective, inheritable, ambient, bounding: ever, .. } = credentials;
    let more = (permitted | effective | inheritable | ambient | ever) & !bounding;
    if more != 0 {
        return Err(refuse(
            format!("{whose} has {}, which the bundle does not give", names(more)),
            "add it to process.capabilities.bounding of the bundle's config.json, if you trust the snapshot",
        ));
    }
    if process.no_new_privileges && !credentials.no_new_privileges {
        return Err(refuse(
            format!("{whose} may gain privileges, which the bundle forbids (process.noNewPrivileges)"),
            "take process.noNewPrivileges out of the bundle's config.json, if you trust the snapshot",
        ));
    }
    if !process.no_new_privileges {
        // A program with the set-user-ID bit could have made it another user.
        return Ok(());
    }
    let has = |capability: &str| {
        let one = capability.parse::<Capability>();
        one.is_ok_and(|one| bounding & 1 << one.number() != 0)
    };
    let user = &process.user;
    let strange_uid = credentials.uids.iter().find(|uid| **uid != user.uid);
    if let (Some(uid), false) = (strange_uid, has("CAP_SETUID")) {
        return Err(refuse(
            format!("{whose} is user {uid}, and the bundle's process is user {} for good", user.uid),
            "it may have been started with `exec --user`: end it before the checkpoint",
        ));
    }
    let known = |gid: &u32| *gid == user.gid || user.additional_gids.contains(gid);
    let strange_gid = credentials.gids.iter().chain(&credentials.groups).find(|gid| !known(gid));
    if let (Some(gid), false) = (strange_gid, has("CAP_SETGID")) {
        return Err(refuse(
            format!("{whose} is in group {gid}, in which the bundle's process is not"),
            "it may have been started with `exec --user`: end it before the checkpoint",
        ));
    }
    Ok(())
}

/// The names of capabilities by their bits.
fn names(bits: u64) -> String {
    let mut known = CapabilitySet::default();
    let mut unknown = Vec::new();
    for number in (0..64u8).filter(|number| bits & 1 << number != 0) {
        match Capability::from_number(number) {
            Some(capability) => known.insert(capability),
            None => unknown.push(format!("capability {number}")),
        }
    }
    let mut all: Vec<String> = known.iter().map(|one| one.name().to_owned()).collect();
    match unknown.len() {
        0..=3 => all.extend(unknown),
        // All bits set stand for words that no kernel knows.
        many => all.push(format!("{many} capabilities that nobody knows")),
    }
    match all.len() {
        0..=6 => all.join(", "),
        many => format!("{} and {} more capabilities", all[..4].join(", "), many - 4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(change: impl FnOnce(&mut serde_json::Value)) -> Config {
        let mut spec = serde_json::json!({
            "ociVersion": "1.2.0",
            "process": {
                "user": {"uid": 1000, "gid": 1000, "additionalGids": [7]}, "args": ["x"], "cwd": "/",
                "capabilities": {"bounding": ["CAP_KILL"]}, "noNewPrivileges": true,
            },
            "root": {"path": "rootfs"},
            "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "network"}]},
        });
        change(&mut spec);
        let bundle = tempfile::tempdir().unwrap();
        std::fs::create_dir(bundle.path().join("rootfs")).unwrap();
        let path = bundle.path().join("config.json");
        floe_runtime::config::oci::from_json(spec.to_string().as_bytes(), &path, bundle.path()).unwrap()
    }

    fn credentials() -> Credentials {
        Credentials {
            uids: [1000; 4],
            gids: [1000; 4],
            groups: vec![7],
            bounding: 1 << 5,
            no_new_privileges: true,
            ..Credentials::default()
        }
    }

    #[track_caller]
    fn refused(result: Result<()>, words: &str) {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }

    #[test]
    fn what_the_bundle_gives_is_let_through() {
        credentials_of(&config(|_| {}), 1, "x", &credentials()).unwrap();
    }

    #[test]
    fn more_rights_are_refused() {
        let config = config(|_| {});
        let with = |change: fn(&mut Credentials)| {
            let mut credentials = credentials();
            change(&mut credentials);
            credentials_of(&config, 7, "sh", &credentials)
        };
        refused(with(|c| c.effective = 1 << 21), "process 7 (sh) has CAP_SYS_ADMIN");
        refused(with(|c| c.bounding = u64::MAX), "more capabilities");
        refused(with(|c| c.ambient = 1 << 62), "capability 62");
        refused(with(|c| c.no_new_privileges = false), "may gain privileges");
        refused(with(|c| c.uids[2] = 0), "is user 0");
        refused(with(|c| c.groups.push(0)), "is in group 0");
    }

    #[test]
    fn a_process_without_the_bundles_filter_is_refused() {
        let plain = config(|_| {});
        let filtered = config(|spec| {
            spec["linux"]["seccomp"] = serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                {"names": ["mount"], "action": "SCMP_ACT_ERRNO"}]});
        });
        filter_of(&plain, 1, "x", false).unwrap();
        filter_of(&filtered, 1, "x", true).unwrap();
        refused(filter_of(&filtered, 1, "x", false), "process 1 (x) has no seccomp filter");
    }

    #[test]
    fn who_could_have_changed_its_user_may_have() {
        let config = config(|spec| {
            spec["process"]["capabilities"]["bounding"] = serde_json::json!(["CAP_SETUID", "CAP_SETGID"])
        });
        let changed =
            Credentials { uids: [0; 4], gids: [0; 4], groups: vec![0], bounding: 1 << 7, ..credentials() };
        credentials_of(&config, 1, "x", &changed).unwrap();
    }

    #[test]
    fn a_namespace_of_the_hosts_is_refused() {
        let config = config(|_| {});
        let (criu, own) = (
            Namespaces { pid: 1, network: 2, mount: 3, ipc: 4, uts: 5, user: 6, files: 0 },
            Namespaces { pid: 11, network: 12, mount: 13, ipc: 4, uts: 5, user: 6, files: 1 },
        );
        namespaces(&config, 1, &own, Some(&criu)).unwrap();
        refused(namespaces(&config, 1, &Namespaces { network: 2, ..own }, Some(&criu)), "network");
        refused(namespaces(&config, 1, &Namespaces { mount: 0, ..own }, Some(&criu)), "mount");
        refused(namespaces(&config, 1, &own, None), "pid");
        refused(namespaces(&config, 300, &own, Some(&criu)), "number 300");
    }

    #[test]
    fn ids_of_a_user_namespace_are_those_of_the_bundle() {
        let map = serde_json::json!([{"containerID": 0, "hostID": 100_000, "size": 10}]);
        let config = config(|spec| {
            spec["linux"]["namespaces"].as_array_mut().unwrap().push(serde_json::json!({"type": "user"}));
            spec["linux"]["uidMappings"] = map.clone();
            spec["linux"]["gidMappings"] = map;
        });
        let same = [IdRange { inside: 0, outside: 100_000, count: 10 }];
        users(&config, &same, &same).unwrap();
        refused(users(&config, &same, &[IdRange { inside: 0, outside: 0, count: 10 }]), "group ids");
        refused(users(&config, &[], &same), "user ids");
    }
}
