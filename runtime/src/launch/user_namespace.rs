//! User namespaces that only hold a map of ids, for id-mapped mounts (mount_setattr(2)).

use std::os::fd::OwnedFd;

use super::message::{Bootstrap, FromChild, ToChild};
use super::{Streams, Waiting, id_maps, out_of_order};
use crate::config::{IdMaps, NamespaceKind};
use crate::error::{Error, Result};

/// Those of one launch: mounts often have the same map.
#[derive(Debug, Default)]
pub(super) struct UserNamespaces(Vec<(IdMaps, OwnedFd)>);

impl UserNamespaces {
    /// One with these maps.
    pub(super) fn with(&mut self, maps: &IdMaps) -> Result<&OwnedFd> {
        let place = match self.0.iter().position(|(other, _)| other == maps) {
            Some(place) => place,
            None => {
                self.0.push((maps.clone(), make(maps)?));
                self.0.len() - 1
            }
        };
        Ok(&self.0[place].1)
    }
}

/// A child goes into a new one, gets its maps as a container's process does, and is ended: the descriptor is what keeps
/// the namespace.
fn make(maps: &IdMaps) -> Result<OwnedFd> {
    let Waiting { guard, mut peer, .. } = Waiting::start(0, &Streams::default())?;
    let create = vec![NamespaceKind::User];
    peer.send(&ToChild::Bootstrap(Bootstrap { create, ..Bootstrap::default() }))?;
    match peer.receive()? {
        Some(FromChild::MapIds) => {}
        Some(FromChild::Failed(what)) => return Err(Error::start(what)),
        _ => return Err(out_of_order()),
    }
    let pid = guard.stage1_pid();
    id_maps::write(pid, &maps.uids, &maps.gids)?;
    let path = format!("/proc/{pid}/ns/user");
    std::fs::File::open(&path).map(OwnedFd::from).map_err(Error::at("open", &path))
}
