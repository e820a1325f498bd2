//! What runc's `restore` may be told and floe's snapshots say themselves: what was allowed at the dump, labels.

use std::path::Path;

use rust_criu::rust_criu_protobuf::rpc::Criu_req;

use super::plan::Choices;
use crate::error::{Error, Result};
use crate::extra::Extra;

/// What a caller may choose besides. What was chosen at the checkpoint and is in the snapshot need not be said again.
#[derive(Debug, Clone, Default)]
pub struct RuncForm {
    /// What both directions have.
    pub extra: Extra,
    /// Let it run even if it had been paused: engines pause a container for a checkpoint.
    pub runs: bool,
    /// Bring TCP connections back.
    pub tcp_established: bool,
    /// Bring file locks back.
    pub file_locks: bool,
    /// Connect UNIX sockets whose other side was outside to whoever has that name now.
    pub ext_unix_sk: bool,
    /// The session or terminal belongs to a process outside.
    pub shell_job: bool,
    /// The label of a security module that its processes get instead of their own: `TYPE:NAME`.
    pub lsm_profile: Option<String>,
    /// The SELinux context that its mounts get instead of their own.
    pub lsm_mount_context: Option<String>,
}

impl RuncForm {
    /// CRIU passes over an SELinux context where there is no SELinux, and says of other labels only late that it has no
    /// use for them.
    pub(super) fn check(&self) -> Result<()> {
        let profile = self.lsm_profile.as_deref().unwrap_or_default();
        let wanted = [
            (profile.starts_with("apparmor:"), "--lsm-profile", "AppArmor", "/sys/kernel/security/apparmor"),
            (profile.starts_with("selinux:"), "--lsm-profile", "SELinux", "/sys/fs/selinux"),
            (self.lsm_mount_context.is_some(), "--lsm-mount-context", "SELinux", "/sys/fs/selinux"),
        ];
        match wanted.into_iter().find(|(asked, .., place)| *asked && !Path::new(place).exists()) {
            Some((_, flag, module, _)) => Err(Error::Unfit {
                what: format!("{flag} names a label of {module}, which this host does not have"),
                hint: format!("restore it on a host with {module}, or without {flag}"),
            }),
            None => Ok(()),
        }
    }

    /// With what options of CRIU say of floe's own choices.
    pub(super) fn settle(&self, choices: &mut Choices) -> Result<()> {
        self.add_to(choices);
        let flags = self.extra.criu.flags()?;
        let fields = [
            (&mut choices.tcp_established, flags.tcp_established),
            (&mut choices.tcp_close, flags.tcp_close),
            (&mut choices.file_locks, flags.file_locks),
            (&mut choices.ext_unix_sk, flags.ext_unix_sk),
            (&mut choices.shell_job, flags.shell_job),
            (&mut choices.link_remap, flags.link_remap),
        ];
        fields.into_iter().for_each(|(field, said)| *field = said.unwrap_or(*field));
        Ok(())
    }

    fn add_to(&self, choices: &mut Choices) {
        choices.tcp_established |= self.tcp_established;
        choices.file_locks |= self.file_locks;
        choices.ext_unix_sk |= self.ext_unix_sk;
        choices.shell_job |= self.shell_job;
        choices.empty_network |= self.extra.empty_network;
    }

    pub(super) fn add_to_request(&self, request: &mut Criu_req) {
        let opts = request.opts.mut_or_insert_default();
        opts.lsm_profile.clone_from(&self.lsm_profile);
        opts.lsm_mount_context.clone_from(&self.lsm_mount_context);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_go_to_criu() {
        let form = RuncForm {
            lsm_profile: Some("selinux:a:b:c:s0".to_owned()),
            lsm_mount_context: Some("a:b:d:s0".to_owned()),
            ..RuncForm::default()
        };
        let mut request = Criu_req::new();
        form.add_to_request(&mut request);
        assert_eq!(
            (request.opts.lsm_profile(), request.opts.lsm_mount_context()),
            ("selinux:a:b:c:s0", "a:b:d:s0")
        );
        let mut request = Criu_req::new();
        RuncForm::default().add_to_request(&mut request);
        assert!(!request.opts.has_lsm_profile() && !request.opts.has_lsm_mount_context());
    }

    #[test]
    fn what_is_allowed_is_added() {
        let mut choices = Choices { ext_unix_sk: true, ..Choices::default() };
        let form = RuncForm { tcp_established: true, shell_job: true, ..RuncForm::default() };
        form.add_to(&mut choices);
        assert!(choices.tcp_established && choices.shell_job && choices.ext_unix_sk);
        assert!(!choices.file_locks && !choices.empty_network);
    }
}
