//! What has been done for a container's network, written down before it is done, and how it is undone.

use std::collections::BTreeMap;

use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::address::{self, Address};
use super::cannot;
use super::link::{self, Link, Settings};
use super::namespace::{Namespace, NamespaceId};
use super::netlink::Socket;
use super::route::{self, Entry};
use crate::config::Config;
use crate::config::network::{InterfaceName, MacAddress};
use crate::error::{Error, Result};
use crate::state::Folder;

/// The file in the container's folder.
const FILE: &str = "network.json";

/// The notes.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Notes {
    /// The namespace that interfaces come from and go back to.
    home: NamespaceId,
    pub(super) veths: Vec<VethNote>,
    pub(super) devices: Vec<DeviceNote>,
    /// Addresses of the loopback interface in a namespace that outlives the container.
    pub(super) addresses: Vec<Address>,
    /// Routes in such a namespace.
    pub(super) routes: Vec<Entry>,
}

/// A pair, by its end on the host.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct VethNote {
    pub(super) host: InterfaceName,
    pub(super) mac_address: MacAddress,
    /// Which of the configuration's `networks` it is.
    #[serde(default)]
    pub(super) number: usize,
    /// The hardware address of the other end, once it is there.
    #[serde(default)]
    pub(super) inside: Option<MacAddress>,
}

/// An interface of the host, as it was there.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct DeviceNote {
    pub(super) host: InterfaceName,
    pub(super) inside: InterfaceName,
    /// Whether it is given back at the end; otherwise only when the creation fails.
    pub(super) on_loan: bool,
    pub(super) was: Link,
    pub(super) addresses: Vec<Address>,
    /// The hardware address that it is given.
    pub(super) new_mac: Option<MacAddress>,
    /// Whether it is the namespace's for good, and comes back only where a checkpoint ends the container: its restore will
    /// ask for it.
    #[serde(default)]
    pub(super) given: bool,
}

impl Notes {
    pub(super) fn new(home: &Namespace) -> Self {
        let (veths, devices, addresses, routes) = Default::default();
        Self { home: home.id(), veths, devices, addresses, routes }
    }

    pub(super) fn write(&self, folder: &Folder) -> Result<()> {
        folder.write_json(FILE, self)
    }

    /// Undoes everything, as far as it goes; the first failure is returned, and the others are warnings.
    fn undo(&self, folder: &Folder, given_too: bool) -> Result<()> {
        let home = Namespace::here()?;
        if home.id() != self.home {
            return Err(Error::Refused {
                problem: "the container's interfaces belong to another network namespace of the host"
                    .to_owned(),
                hint: "use the network namespace in which it was created, or `floe delete --force` to leave them",
            });
        }
        let mut host = Socket::here().map_err(cannot("ask the kernel", "interfaces of the host"))?;
        let mut failures = Vec::new();
        match Namespace::held(folder.path())? {
            Some(namespace) => {
                let mut inside = namespace.socket().map_err(cannot("enter it", "the container's network"))?;
                let routes = self.routes.iter().rev().map(|route| take_out_route(&mut inside, route));
                failures.extend(routes.filter_map(Result::err));
                failures.extend(take_out_addresses(&mut inside, &self.addresses).err());
                for device in self.devices.iter().rev().filter(|device| given_too || !device.given) {
                    failures.extend(device.give_back(&mut inside, &mut host, &home).err());
                }
            }
            None => {
                for device in self.devices.iter().filter(|device| given_too || !device.given) {
                    // Or it was never moved, or the kernel has brought it back.
                    if link::find(&mut host, &device.host).is_ok_and(|link| link.is_none()) {
                        tracing::warn!("interface {} ended with the container's network", device.host);
                    }
                }
            }
        }
        failures.extend(self.veths.iter().filter_map(|veth| veth.remove(&mut host).err()));
        let mut failures = failures.into_iter();
        let first = failures.next();
        failures.for_each(|error| tracing::warn!("{}", error.in_full()));
        first.map_or(Ok(()), Err)
    }
}

fn take_out_route(inside: &mut Socket, route: &Entry) -> Result<()> {
    let on = format!("route to {}", route.destination);
    route::remove(inside, route).map_err(cannot("take it out of the container's network", on))
}

fn take_out_addresses(inside: &mut Socket, addresses: &[Address]) -> Result<()> {
    for one in addresses {
        address::remove(inside, link::LOOPBACK_INDEX, one)
            .map_err(cannot(format!("remove the address {one}"), "interface lo in the container"))?;
    }
    Ok(())
}

impl VethNote {
    /// One that is gone, or that isn't the container's, is no failure.
    fn remove(&self, host: &mut Socket) -> Result<()> {
        let on = format!("interface {}", self.host);
        match link::find(host, &self.host).map_err(cannot("look it up", &on))? {
            Some(link) if link.mac_address == Some(self.mac_address) => {
                link::remove(host, link.index).map_err(cannot("remove it", on))
            }
            _ => Ok(()),
        }
    }
}

impl DeviceNote {
    /// Moves it back to the host, where it becomes what it was. One that isn't in the container is no failure.
    fn give_back(&self, inside: &mut Socket, host: &mut Socket, home: &Namespace) -> Result<()> {
        let on = format!("interface {}", self.host);
        let Some(index) = self.find(inside).map_err(cannot("look it up in the container", &on))? else {
            return Ok(());
        };
        if link::find(host, &self.host).map_err(cannot("look it up", &on))?.is_some() {
            return Err(Error::InterfaceExists { name: self.host.to_string(), place: "on the host" });
        }
        link::move_to(inside, index, home.fd(), &self.host)
            .map_err(cannot("bring it back to the host", &on))?;
        let Some(now) = link::find(host, &self.host).map_err(cannot("look it up", &on))? else {
            return Ok(());
        };
        let settings = self.was.settings().beyond(&now.settings());
        link::set(host, now.index, &settings).map_err(cannot("set it as it was on the host", &on))?;
        for one in &self.addresses {
            address::add(host, now.index, one)
                .map_err(cannot(format!("give it back the address {one}"), &on))?;
        }
        if self.was.is_up {
            link::set_up(host, now.index).map_err(cannot("bring it up", &on))?;
        }
        Ok(())
    }

    /// Its number in the container: by the one that it had, which the kernel keeps unless somebody else has it there,
    /// or by its name.
    fn find(&self, inside: &mut Socket) -> Result<Option<u32>, super::NetlinkError> {
        let is_it = |link: &Link| {
            let has_address = link.mac_address == self.was.mac_address || link.mac_address == self.new_mac;
            has_address && link.kind == self.was.kind
        };
        let by_index = link::by_index(inside, self.was.index)?.filter(is_it);
        let found = match by_index {
            Some(link) => Some(link),
            None => link::find(inside, &self.inside)?.filter(is_it),
        };
        // As after a move of which the kernel says that the new name was taken.
        let found = match found {
            Some(link) => Some(link),
            None => link::find(inside, &self.host)?.filter(is_it),
        };
        Ok(found.map(|link| link.index))
    }
}

/// Takes back what was done for the container in `folder`. Its processes have ended; with `given_too` by a checkpoint, and
/// what `linux.netDevices` names comes back as well.
///
/// # Errors
/// [`Error::Network`], [`Error::InterfaceExists`]. The notes stay then, and this may be tried again.
pub(crate) fn take_back(folder: &Folder, given_too: bool) -> Result<()> {
    let Some(notes) = folder.read_json::<Notes>(FILE, "note of a container's network")? else {
        return Ok(());
    };
    notes.undo(folder, given_too)?;
    folder.release_namespace()?;
    folder.remove_file(FILE)
}

/// The pairs that were made for the container in `folder`.
pub(super) fn veths(folder: &Folder) -> Result<Vec<VethNote>> {
    let notes = folder.read_json::<Notes>(FILE, "note of a container's network")?;
    Ok(notes.map_or_else(Vec::new, |notes| notes.veths))
}

/// The hardware addresses in the container of the pairs that were made for it, by their number among its `networks`.
pub(crate) fn hardware_addresses(folder: &Folder) -> Result<BTreeMap<usize, MacAddress>> {
    let all = veths(folder)?.into_iter();
    Ok(all.filter_map(|veth| Some((veth.number, veth.inside?))).collect())
}

/// The container is made: what `linux.netDevices` names is the namespace's from now on.
pub(crate) fn settle(config: &Config, folder: &Folder) -> Result<()> {
    if config.net_devices.is_empty() {
        return Ok(());
    }
    let Some(mut notes) = folder.read_json::<Notes>(FILE, "note of a container's network")? else {
        return Ok(());
    };
    notes.devices.iter_mut().filter(|device| !device.on_loan).for_each(|device| device.given = true);
    notes.write(folder)?;
    notes.let_go(folder)
}

impl Notes {
    /// Lets the namespace end with its processes, unless there is something in it to be brought back.
    fn let_go(&self, folder: &Folder) -> Result<()> {
        let lent = self.devices.iter().any(|device| !device.given);
        if !lent && self.addresses.is_empty() && self.routes.is_empty() {
            folder.release_namespace()?;
        }
        Ok(())
    }
}

/// A checkpoint is about to end the container whose first process is `pid`: its network outlives it until it is taken back,
/// so that no interface of the host ends with it.
///
/// # Errors
/// [`Error::Call`].
pub(crate) fn hold(folder: &Folder, pid: Pid) -> Result<()> {
    let notes = folder.read_json::<Notes>(FILE, "note of a container's network")?;
    if notes.is_none_or(|notes| notes.devices.is_empty()) || Namespace::held(folder.path())?.is_some() {
        return Ok(());
    }
    Namespace::of_process(pid)?.hold(folder.path())
}

/// The checkpoint has not ended it.
///
/// # Errors
/// [`Error::Call`].
pub(crate) fn let_go(folder: &Folder) -> Result<()> {
    let notes = folder.read_json::<Notes>(FILE, "note of a container's network")?;
    notes.map_or(Ok(()), |notes| notes.let_go(folder))
}

/// Of these, settings that differ.
impl Settings {
    fn beyond(self, now: &Self) -> Self {
        Self {
            mac_address: self.mac_address.filter(|_| self.mac_address != now.mac_address),
            mtu: self.mtu.filter(|_| self.mtu != now.mtu),
            txqueuelen: self.txqueuelen.filter(|_| self.txqueuelen != now.txqueuelen),
        }
    }
}
