//! The request to CRIU, made of a plan.

use std::os::fd::RawFd;

use nix::libc;
use protobuf::MessageField;
use rust_criu::rust_criu_protobuf::rpc::{
    Criu_cg_mode, Criu_opts, Criu_page_server_info, Criu_req, Criu_req_type, Ext_mount_map,
};

use super::collect::Plan;
use super::options::{Options, Tcp};
use crate::extra::CgroupsMode;
use crate::outside::OutsideMount;

/// The log that CRIU writes.
pub(crate) const LOG: &str = "dump.log";

/// Descriptors that the request names: the scratch folder by our number, the page socket by CRIU's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Numbers {
    pub(crate) scratch: RawFd,
    pub(crate) pages: RawFd,
}

/// The DUMP request.
pub(crate) fn dump(plan: &Plan, options: &Options, numbers: Numbers) -> Criu_req {
    let mut opts = Criu_opts::new();
    opts.set_pid(plan.init);
    opts.set_images_dir_fd(numbers.scratch);
    opts.set_work_dir_fd(numbers.scratch);
    opts.set_log_file(LOG.to_owned());
    opts.set_log_level(4);
    opts.set_root(plan.root.to_string_lossy().into_owned());
    opts.set_leave_running(options.leave_running);
    opts.set_notify_scripts(true);
    opts.set_orphan_pts_master(true);
    opts.set_tcp_established(options.tcp == Tcp::Established);
    opts.set_tcp_close(options.tcp == Tcp::Close);
    opts.set_tcp_skip_in_flight(options.skips_in_flight());
    opts.set_file_locks(options.file_locks);
    opts.set_ext_unix_sk(options.ext_unix_sk);
    opts.set_shell_job(options.shell_job);
    opts.set_link_remap(options.link_remap);
    // floe's restore makes the cgroup itself and puts the tree there. What a restore by runc needs is added afterwards.
    opts.set_manage_cgroups(true);
    opts.set_manage_cgroups_mode(match options.extra.cgroups {
        CgroupsMode::Usual | CgroupsMode::Ignore => Criu_cg_mode::IGNORE,
        CgroupsMode::Soft => Criu_cg_mode::SOFT,
        CgroupsMode::Full => Criu_cg_mode::FULL,
        CgroupsMode::Strict => Criu_cg_mode::STRICT,
    });
    if options.extra.empty_network {
        opts.set_empty_ns(libc::CLONE_NEWNET.cast_unsigned());
    }
    if let Some(freezer) = &plan.freezer {
        opts.set_freeze_cgroup(freezer.to_string_lossy().into_owned());
    }
    opts.set_network_lock(plan.lock.of_criu());
    opts.ext_mnt = plan.mounts.iter().map(external_mount).collect();
    opts.external = plan
        .namespaces
        .iter()
        .map(|(namespace, inode)| format!("{}[{inode}]:{}", namespace.kind, namespace.key))
        .collect();
    let mut pages = Criu_page_server_info::new();
    pages.set_fd(numbers.pages);
    opts.ps = MessageField::some(pages);

    let mut request = Criu_req::new();
    request.set_type(Criu_req_type::DUMP);
    request.opts = MessageField::some(opts);
    request
}

/// At a dump the value is the name under which the restore will ask.
fn external_mount(mount: &OutsideMount) -> Ext_mount_map {
    let mut map = Ext_mount_map::new();
    map.set_key(mount.destination.clone());
    map.set_val(mount.key().to_owned());
    map
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outside::LockMethod;
    use crate::outside::{MountKind, OutsideNamespace};
    use rust_criu::rust_criu_protobuf::rpc::Criu_network_lock_method;
    use std::path::PathBuf;

    fn plan() -> Plan {
        Plan {
            init: 77,
            pids: vec![77],
            root: PathBuf::from("/b/rootfs"),
            freezer: Some(PathBuf::from("/sys/fs/cgroup/freezer/web")),
            mounts: vec![OutsideMount {
                destination: "/data".to_owned(),
                kind: MountKind::Bind,
                key: String::new(),
            }],
            namespaces: vec![(OutsideNamespace { kind: "net".into(), key: "extRootNetNS".into() }, 4026)],
            interfaces: Vec::new(),
            stdio: Vec::new(),
            memory: 0,
            connections: Vec::new(),
            lock_network: false,
            lock: LockMethod::None,
        }
    }

    #[test]
    fn the_request_says_what_the_plan_says() {
        let options = Options { leave_running: true, ..Options::default() };
        let request = dump(&plan(), &options, Numbers { scratch: 9, pages: 4 });
        let opts = request.opts.unwrap();
        assert_eq!((opts.pid(), opts.images_dir_fd(), opts.ps.fd()), (77, 9, 4));
        assert!(opts.leave_running() && opts.orphan_pts_master() && opts.notify_scripts());
        assert_eq!(opts.freeze_cgroup(), "/sys/fs/cgroup/freezer/web");
        assert_eq!(opts.external, ["net[4026]:extRootNetNS"]);
        assert_eq!((opts.ext_mnt[0].key(), opts.ext_mnt[0].val()), ("/data", "/data"));
        assert_eq!(opts.network_lock(), Criu_network_lock_method::SKIP);
        assert!(!opts.tcp_established() && !opts.tcp_close());
    }

    #[test]
    fn packets_are_held_back_only_where_connections_are_kept() {
        let mut plan = plan();
        plan.lock = LockMethod::Nftables;
        let options = Options { tcp: Tcp::Established, ..Options::default() };
        let opts = dump(&plan, &options, Numbers { scratch: 9, pages: 4 }).opts.unwrap();
        assert_eq!(opts.network_lock(), Criu_network_lock_method::NFTABLES);
        assert!(opts.tcp_established());
    }
}
