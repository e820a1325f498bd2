//! What stands in the way of a restore on this host.
//!
//! The snapshot's manifest says what CRIU will insist on; the bundle, or this host's record of the snapshot, says what it
//! would be restored into. The two are compared before anything is made. Nothing is unpacked but one small image.

mod build_id;
mod files;
mod host;
mod pids;
mod places;

use std::collections::BTreeSet;
use std::path::Path;

use floe_runtime::config::Config;
use floe_snapshot_format::criu::remap;
use floe_snapshot_format::{Manifest, MemberName, Source};

use super::Finding;
use crate::checkpoint::Tools;
use crate::error::{Error, Result};
use crate::restore::Plan;
use crate::version::Version;

/// What is to arrive, and where.
#[derive(Debug)]
pub(crate) struct Arrival<'a> {
    pub(crate) manifest: &'a Manifest,
    /// What it would be restored into; `None` if nobody knows.
    pub(crate) config: Option<&'a Config>,
    /// Namespaces that it shared: `net`, `pid`.
    pub(crate) shared: Vec<String>,
    /// Files that come from the snapshot itself.
    pub(crate) remapped: BTreeSet<u32>,
    /// The CRIU that would restore it.
    pub(crate) criu: Version,
    /// Sizes of some images.
    pub(crate) images: Vec<(String, u64)>,
}

type Check = fn(&Arrival<'_>) -> Vec<Finding>;

/// Every look, in the order in which its findings are told.
const CHECKS: &[Check] = &[
    host::architecture,
    host::registers,
    host::instructions,
    host::criu,
    host::kernel,
    host::security_module,
    host::cgroup_version,
    host::memory,
    host::tools,
    places::sources,
    places::namespaces,
    pids::taken,
    files::changed,
];

/// Everything that was found about the snapshot `archive` on this host, in the bundle that is named, or else in the one that
/// this host remembers.
///
/// # Errors
/// [`Error::Snapshot`] if it cannot be read; [`Error::Call`] if the bundle that was named cannot.
pub fn look(archive: &dyn Source, bundle: Option<&Path>, tools: Tools<'_>) -> Result<Vec<Finding>> {
    match Plan::make(archive, bundle, tools) {
        Ok(plan) => of_plan(archive, &plan, tools),
        Err(Error::Unfit { what, hint }) => {
            let mut found =
                CHECKS.iter().flat_map(|check| check(&arrival(archive, None, tools))).collect::<Vec<_>>();
            if found.iter().all(|finding| finding.kind != "architecture") {
                let finding = Finding::general("bundle-unknown", what, "", hint);
                found.push(if bundle.is_none() { finding.warning() } else { finding });
            }
            Ok(found)
        }
        Err(error) => Err(error),
    }
}

/// The same for a restore that was planned.
///
/// # Errors
/// [`Error::Snapshot`].
pub(crate) fn of_plan(archive: &dyn Source, plan: &Plan, tools: Tools<'_>) -> Result<Vec<Finding>> {
    let mut arrival = arrival(archive, Some(&plan.config), tools);
    arrival.shared = plan.outside.namespaces.iter().map(|namespace| namespace.kind.clone()).collect();
    Ok(CHECKS.iter().flat_map(|check| check(&arrival)).collect())
}

fn arrival<'a>(archive: &'a dyn Source, config: Option<&'a Config>, tools: Tools<'_>) -> Arrival<'a> {
    // Without the image, or with one that is damaged, the restore will say what is wrong with it.
    let image = MemberName::new("checkpoint/remap-fpath.img").ok().and_then(|name| archive.read(&name).ok());
    let members = archive.members().iter();
    Arrival {
        manifest: archive.manifest(),
        config,
        shared: Vec::new(),
        remapped: image.and_then(|image| remap::remapped(&image).ok()).unwrap_or_default(),
        criu: tools.criu.version(),
        images: members.map(|member| (member.name.as_str().to_owned(), member.size)).collect(),
    }
}

#[cfg(test)]
impl<'a> Arrival<'a> {
    /// One of nothing but a manifest, for the tests of the looks.
    pub(crate) fn of(manifest: &'a Manifest) -> Self {
        Self {
            manifest,
            config: None,
            shared: Vec::new(),
            remapped: BTreeSet::new(),
            criu: Version::new(4, 1, 1),
            images: Vec::new(),
        }
    }
}
