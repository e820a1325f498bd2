//! The options of a mount by their names, those of mount(8), of runc and of crun.

use nix::mount::MsFlags;

use crate::config::{NO_SYMLINK_FOLLOW, Propagation, SourceLink};

/// What an option does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing: it says what is so anyway.
    Nothing,
    /// Sets a flag of this mount.
    Set(MsFlags),
    /// Clears one.
    Clear(MsFlags),
    /// Sets a flag of this mount and of all below it.
    SetBelow(MsFlags),
    /// Clears one, alike.
    ClearBelow(MsFlags),
    /// Makes it a bind mount.
    Bind { recursive: bool },
    /// Changes what is mounted there already.
    Remount,
    /// Changes the propagation.
    Propagate(Propagation),
    /// Fills a tmpfs with what it covers.
    CopyUp,
    /// Maps the ids of the files.
    MapIds { recursive: bool },
    /// What a source that is a link means.
    Source(SourceLink),
    /// A destination that is a link is covered itself.
    DestinationLink,
}

use Effect::{
    Bind, Clear, ClearBelow, CopyUp, DestinationLink, MapIds, Nothing, Propagate, Remount, Set, SetBelow,
    Source,
};

/// All that are known, by name. Whatever isn't among them is an option of the file system.
const OPTIONS: [(&str, Effect); 65] = [
    ("async", Clear(MsFlags::MS_SYNCHRONOUS)),
    ("atime", Clear(MsFlags::MS_NOATIME)),
    ("bind", Bind { recursive: false }),
    ("copy-symlink", Source(SourceLink::Copy)),
    ("defaults", Nothing),
    ("dest-nofollow", DestinationLink),
    ("dev", Clear(MsFlags::MS_NODEV)),
    ("diratime", Clear(MsFlags::MS_NODIRATIME)),
    ("dirsync", Set(MsFlags::MS_DIRSYNC)),
    ("exec", Clear(MsFlags::MS_NOEXEC)),
    ("idmap", MapIds { recursive: false }),
    ("iversion", Set(MsFlags::MS_I_VERSION)),
    ("lazytime", Set(MsFlags::MS_LAZYTIME)),
    ("loud", Clear(MsFlags::MS_SILENT)),
    ("mand", Set(MsFlags::MS_MANDLOCK)),
    ("noatime", Set(MsFlags::MS_NOATIME)),
    ("nodev", Set(MsFlags::MS_NODEV)),
    ("nodiratime", Set(MsFlags::MS_NODIRATIME)),
    ("noexec", Set(MsFlags::MS_NOEXEC)),
    ("noiversion", Clear(MsFlags::MS_I_VERSION)),
    ("nolazytime", Clear(MsFlags::MS_LAZYTIME)),
    ("nomand", Clear(MsFlags::MS_MANDLOCK)),
    ("norelatime", Clear(MsFlags::MS_RELATIME)),
    ("nostrictatime", Clear(MsFlags::MS_STRICTATIME)),
    ("nosuid", Set(MsFlags::MS_NOSUID)),
    ("nosymfollow", Set(NO_SYMLINK_FOLLOW)),
    ("private", Propagate(Propagation::Private { recursive: false })),
    ("ratime", ClearBelow(MsFlags::MS_NOATIME)),
    ("rbind", Bind { recursive: true }),
    ("rdev", ClearBelow(MsFlags::MS_NODEV)),
    ("rdiratime", ClearBelow(MsFlags::MS_NODIRATIME)),
    ("relatime", Set(MsFlags::MS_RELATIME)),
    ("remount", Remount),
    ("rexec", ClearBelow(MsFlags::MS_NOEXEC)),
    ("ridmap", MapIds { recursive: true }),
    ("rnoatime", SetBelow(MsFlags::MS_NOATIME)),
    ("rnodev", SetBelow(MsFlags::MS_NODEV)),
    ("rnodiratime", SetBelow(MsFlags::MS_NODIRATIME)),
    ("rnoexec", SetBelow(MsFlags::MS_NOEXEC)),
    ("rnorelatime", ClearBelow(MsFlags::MS_RELATIME)),
    ("rnostrictatime", ClearBelow(MsFlags::MS_STRICTATIME)),
    ("rnosuid", SetBelow(MsFlags::MS_NOSUID)),
    ("rnosymfollow", SetBelow(NO_SYMLINK_FOLLOW)),
    ("ro", Set(MsFlags::MS_RDONLY)),
    ("rprivate", Propagate(Propagation::Private { recursive: true })),
    ("rrelatime", SetBelow(MsFlags::MS_RELATIME)),
    ("rro", SetBelow(MsFlags::MS_RDONLY)),
    ("rrw", ClearBelow(MsFlags::MS_RDONLY)),
    ("rshared", Propagate(Propagation::Shared { recursive: true })),
    ("rslave", Propagate(Propagation::Slave { recursive: true })),
    ("rstrictatime", SetBelow(MsFlags::MS_STRICTATIME)),
    ("rsuid", ClearBelow(MsFlags::MS_NOSUID)),
    ("rsymfollow", ClearBelow(NO_SYMLINK_FOLLOW)),
    ("runbindable", Propagate(Propagation::Unbindable { recursive: true })),
    ("rw", Clear(MsFlags::MS_RDONLY)),
    ("shared", Propagate(Propagation::Shared { recursive: false })),
    ("silent", Set(MsFlags::MS_SILENT)),
    ("slave", Propagate(Propagation::Slave { recursive: false })),
    ("src-nofollow", Source(SourceLink::Bind)),
    ("strictatime", Set(MsFlags::MS_STRICTATIME)),
    ("suid", Clear(MsFlags::MS_NOSUID)),
    ("symfollow", Clear(NO_SYMLINK_FOLLOW)),
    ("sync", Set(MsFlags::MS_SYNCHRONOUS)),
    ("tmpcopyup", CopyUp),
    ("unbindable", Propagate(Propagation::Unbindable { recursive: false })),
];

/// What `option` does; `None` for one of a file system.
pub(super) fn effect(option: &str) -> Option<Effect> {
    OPTIONS.iter().find(|(name, _)| *name == option).map(|(_, effect)| *effect)
}

/// The names of all mount options that the runtime itself understands, sorted: what `features` lists.
#[must_use]
pub fn mount_options() -> Vec<&'static str> {
    let mut names: Vec<&str> = OPTIONS.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_of_the_specification_is_known() {
        let wanted = "async atime bind defaults dev diratime dirsync exec iversion lazytime loud mand noatime nodev \
            nodiratime noexec noiversion nolazytime nomand norelatime nostrictatime nosuid nosymfollow private ratime \
            rbind rdev rdiratime relatime remount rexec rnoatime rnodev rnodiratime rnoexec rnorelatime \
            rnostrictatime rnosuid rnosymfollow ro rprivate rrelatime rro rrw rshared rslave rstrictatime rsuid \
            rsymfollow runbindable rw shared silent slave strictatime suid symfollow sync tmpcopyup unbindable idmap \
            ridmap";
        let known = mount_options();
        for name in wanted.split_whitespace() {
            assert!(known.contains(&name), "{name}");
        }
        assert!(known.is_sorted());
        assert_eq!(effect("size=64k"), None);
    }
}
