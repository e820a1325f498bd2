//! What images that floe did not write had outside, read out of the images themselves.
//!
//! runc, crun and `criu dump` keep no list of it: each mount, namespace and stream has its key in the image of its kind,
//! and `descriptors.json` is runc's own. As with floe's list only names are taken; what stands for a name comes from the
//! bundle.

use std::path::Path;

use floe_runtime::config::{Config, MountKind as ConfigMount};
use floe_snapshot_format::criu::{ids, mounts};
use floe_snapshot_format::{MemberName, Source};

use super::plan::Choices;
use crate::error::{Error, Result};
use crate::outside::{MountKind, Outside, OutsideMount, OutsideNamespace};

/// runc's list of what descriptors 0 to 2 of the first process led to.
const DESCRIPTORS: &str = "descriptors.json";

/// What the images name of the outside. `config` says which of the mounts are cgroup hierarchies.
pub(super) fn outside(archive: &dyn Source, config: &Config) -> Result<Outside> {
    let mut outside = Outside { stdio: descriptors(archive)?, ..Outside::default() };
    for name in images(archive) {
        if name.starts_with("mountpoints-") {
            let found = mounts::outside(&name, &read(archive, &name)?)?;
            outside.mounts.extend(found.into_iter().map(|mount| kind_of(mount, config)));
        } else if name.starts_with("netns-") || name.starts_with("pidns-") {
            let kind = name[..3].to_owned();
            if let Some(key) = mounts::namespace_key(&name, &read(archive, &name)?)? {
                outside.namespaces.push(OutsideNamespace { kind, key });
            }
        }
    }
    Ok(outside)
}

/// What has to be said again at the restore and is nobody's choice. What may come back the caller says, as to runc.
pub(super) fn choices(archive: &dyn Source) -> Result<Choices> {
    let all = images(archive);
    let any = |prefix: &str| all.iter().any(|name| name.starts_with(prefix));
    let closes = any("inventory.img") && ids::inventory(&read(archive, "inventory.img")?)?.tcp_close;
    Ok(Choices {
        tcp_close: closes,
        // runc and crun leave the network to whoever made it: no image, nothing to be brought back in it.
        empty_network: !any("netns-"),
        ..Choices::default()
    })
}

fn images(archive: &dyn Source) -> Vec<String> {
    let names =
        archive.members().iter().filter_map(|member| member.name.as_str().strip_prefix("checkpoint/"));
    names.map(str::to_owned).collect()
}

fn read(archive: &dyn Source, name: &str) -> Result<Vec<u8>> {
    Ok(archive.read(&MemberName::new(&format!("checkpoint/{name}"))?)?)
}

fn descriptors(archive: &dyn Source) -> Result<Vec<String>> {
    if !images(archive).iter().any(|name| name == DESCRIPTORS) {
        return Ok(Vec::new());
    }
    serde_json::from_slice(&read(archive, DESCRIPTORS)?).map_err(|error| Error::Unfit {
        what: format!("its {DESCRIPTORS} is not understood ({error})"),
        hint: "it is a list of three texts; see whether the folder is whole".to_owned(),
    })
}

fn kind_of(mount: mounts::OutsideMount, config: &Config) -> OutsideMount {
    let mounts::OutsideMount { key, destination } = mount;
    let place = Path::new(&destination);
    let hierarchy = config
        .mounts
        .iter()
        .any(|given| matches!(given.kind, ConfigMount::Cgroup) && place.starts_with(&given.destination));
    let kind = match place.file_name() {
        Some(name) if hierarchy => MountKind::Cgroup(name.to_string_lossy().into_owned()),
        _ => MountKind::Bind,
    };
    OutsideMount { destination, kind, key }
}
