//! The request to CRIU, made of a plan.

use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

use nix::libc;
use protobuf::MessageField;
use rust_criu::rust_criu_protobuf::rpc::{
    Criu_cg_mode, Criu_opts, Criu_req, Criu_req_type, Ext_mount_map, Inherit_fd,
};

use super::plan::Plan;

/// The log that CRIU writes.
pub(crate) const LOG: &str = "restore.log";

/// The RESTORE request. `inherit` are keys with descriptors by CRIU's numbers; `scratch` is the folder by ours.
pub(crate) fn restore(
    plan: &Plan,
    root: &Path,
    mounts: &[(String, PathBuf)],
    inherit: &[(String, RawFd)],
    scratch: RawFd,
) -> Criu_req {
    let choices = plan.choices;
    let mut opts = Criu_opts::new();
    opts.set_images_dir_fd(scratch);
    opts.set_work_dir_fd(scratch);
    opts.set_log_file(LOG.to_owned());
    opts.set_log_level(4);
    opts.set_root(root.to_string_lossy().into_owned());
    // The first process becomes our child, not CRIU's.
    opts.set_rst_sibling(true);
    opts.set_notify_scripts(true);
    opts.set_evasive_devices(true);
    opts.set_orphan_pts_master(true);
    // The unpacked pages are consumed as they are read: they and the container's memory need not both fit.
    opts.set_auto_dedup(true);
    opts.set_tcp_established(choices.tcp_established);
    opts.set_tcp_close(choices.tcp_close);
    opts.set_file_locks(choices.file_locks);
    opts.set_ext_unix_sk(choices.ext_unix_sk);
    opts.set_shell_job(choices.shell_job);
    opts.set_link_remap(choices.link_remap);
    if choices.empty_network {
        opts.set_empty_ns(libc::CLONE_NEWNET.cast_unsigned());
    }
    // CRIU is in the container's new cgroup already, and so is all that it forks.
    opts.set_manage_cgroups(true);
    opts.set_manage_cgroups_mode(Criu_cg_mode::IGNORE);
    opts.ext_mnt = mounts
        .iter()
        .map(|(destination, source)| {
            let mut map = Ext_mount_map::new();
            map.set_key(destination.clone());
            map.set_val(source.to_string_lossy().into_owned());
            map
        })
        .collect();
    opts.inherit_fd = inherit
        .iter()
        .map(|(key, number)| {
            let mut fd = Inherit_fd::new();
            fd.set_key(key.clone());
            fd.set_fd(*number);
            fd
        })
        .collect();
    let mut request = Criu_req::new();
    request.set_type(Criu_req_type::RESTORE);
    request.opts = MessageField::some(opts);
    request
}
