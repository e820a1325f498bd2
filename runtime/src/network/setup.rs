//! Doing what the plan says.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use nix::unistd::Pid;

use super::address::{self, Address};
use super::cannot;
use super::link::{self, End, Link, Settings};
use super::namespace::Namespace;
use super::netlink::Socket;
use super::notes::{DeviceNote, Notes, VethNote};
use super::plan::{DevicePlan, Plan, VethPlan};
use super::route::{self, Entry};
use crate::config::Config;
use crate::config::network::{InterfaceName, Route};
use crate::error::{Error, Result};
use crate::state::Folder;

/// The host's end of a pair, which lets nothing through until it is opened.
#[derive(Debug)]
pub(super) struct Port {
    index: u32,
    name: InterfaceName,
    pub(super) inside: InterfaceName,
    alias: String,
    hairpin: bool,
}

impl Port {
    /// Brings it up, with a note of whose it is.
    pub(super) fn open(&self, host: &mut Socket) -> Result<()> {
        link::open_port(host, self.index, &self.alias, self.hairpin)
            .map_err(cannot("bring it up", format!("interface {}", self.name)))
    }
}

/// Does the parent's share of the network for the process `pid`, which is in the container's namespaces and waits.
///
/// # Errors
/// [`Error::NoInterface`], [`Error::InterfaceExists`], [`Error::Network`]. What was done until then is in the notes, and
/// is for [`take_back`](super::take_back).
pub(crate) fn set_up(config: &Config, folder: &Folder, pid: Pid) -> Result<()> {
    if !Plan::is_needed(config) {
        return Ok(());
    }
    build(config, folder, &Namespace::of_process(pid)?, false).map(drop)
}

/// As [`set_up`], in a namespace that may have no process yet. With `closed`, nothing gets in through a pair before its
/// port, which is returned, is opened.
pub(super) fn build(
    config: &Config,
    folder: &Folder,
    namespace: &Namespace,
    closed: bool,
) -> Result<Vec<Port>> {
    let home = Namespace::here()?;
    if namespace.id() == home.id() {
        return Err(Error::Refused {
            problem: "the container is to have floe's own network, and interfaces or routes in it".to_owned(),
            hint: "leave the path of its network namespace away, or its networks, routes and netDevices",
        });
    }
    let mut inside = namespace.socket().map_err(cannot("enter it", "the container's network"))?;
    let host = Socket::here().map_err(cannot("ask the kernel", "interfaces of the host"))?;
    let there = link::names(&mut inside).map_err(cannot("list them", "interfaces of the container"))?;
    let plan = Plan::new(config, folder.path(), &there)?;
    Setup { notes: Notes::new(&home), folder, namespace, host, inside, closed }.run(&plan)
}

struct Setup<'a> {
    folder: &'a Folder,
    namespace: &'a Namespace,
    host: Socket,
    inside: Socket,
    notes: Notes,
    closed: bool,
}

impl Setup<'_> {
    fn run(mut self, plan: &Plan) -> Result<Vec<Port>> {
        let bridges = plan.veths.iter().map(|veth| self.bridge(veth)).collect::<Result<Vec<_>>>()?;
        let devices = plan.devices.iter().map(|device| self.device(device)).collect::<Result<Vec<_>>>()?;
        let adds = !plan.routes.is_empty() || plan.loopback.is_some();
        if !devices.is_empty() || (plan.joined && adds) {
            self.notes.write(self.folder)?;
            self.namespace.hold(self.folder.path())?;
        }
        for (device, was) in plan.devices.iter().zip(devices) {
            self.move_in(device, was)?;
        }
        let mut ports = Vec::new();
        for (veth, bridge) in plan.veths.iter().zip(bridges) {
            ports.extend(self.make_veth(veth, bridge)?);
        }
        if let Some(addresses) = &plan.loopback {
            self.loopback(addresses, plan.joined)?;
        }
        plan.routes.iter().try_for_each(|route| self.route(route, plan.joined))?;
        Ok(ports)
    }

    /// The number of a pair's bridge. The pair's name on the host has to be free.
    fn bridge(&mut self, veth: &VethPlan) -> Result<Option<u32>> {
        if self.on_host(&veth.host)?.is_some() {
            return Err(Error::InterfaceExists { name: veth.host.to_string(), place: "on the host" });
        }
        let Some(name) = &veth.bridge else { return Ok(None) };
        match self.on_host(name)? {
            Some(link) if link.kind.as_deref() == Some("bridge") => Ok(Some(link.index)),
            Some(_) => Err(Error::Refused {
                problem: format!("interface {name} is no bridge, and {} is to be a port of it", veth.host),
                hint: "name a bridge in the network's `bridge` (`ip link show type bridge` lists them)",
            }),
            None => Err(Error::NoInterface { what: "bridge", name: name.to_string() }),
        }
    }

    fn device(&mut self, device: &DevicePlan) -> Result<Link> {
        let found = self.on_host(&device.host)?;
        found.ok_or_else(|| Error::NoInterface { what: "network device", name: device.host.to_string() })
    }

    fn on_host(&mut self, name: &InterfaceName) -> Result<Option<Link>> {
        link::find(&mut self.host, name).map_err(cannot("look it up", format!("interface {name}")))
    }

    fn in_container(&mut self, name: &InterfaceName) -> Result<Link> {
        let found = link::find(&mut self.inside, name)
            .map_err(cannot("look it up", format!("interface {name} in the container")))?;
        found.ok_or_else(|| Error::NoInterface { what: "the container's interface", name: name.to_string() })
    }

    fn move_in(&mut self, device: &DevicePlan, was: Link) -> Result<()> {
        let on = format!("interface {}", device.host);
        let addresses =
            address::lasting(&mut self.host, was.index).map_err(cannot("list its addresses", &on))?;
        let index = was.index;
        // A family that the configuration gives an address of loses those that it had.
        let given: BTreeSet<bool> =
            device.addressing.addresses.iter().map(|net| net.addr().is_ipv6()).collect();
        let kept = addresses.iter().filter(|one| !given.contains(&one.net.addr().is_ipv6()));
        let all: Vec<Address> =
            kept.cloned().chain(device.addressing.addresses.iter().copied().map(Address::new)).collect();
        self.notes.devices.push(DeviceNote {
            host: device.host.clone(),
            inside: device.inside.clone(),
            on_loan: device.on_loan,
            was,
            addresses,
            new_mac: device.settings.mac_address,
            given: false,
        });
        self.notes.write(self.folder)?;
        link::move_to(&mut self.host, index, self.namespace.fd(), &device.inside)
            .map_err(cannot(format!("move it into the container as {}", device.inside), &on))?;
        let link = self.in_container(&device.inside)?;
        link::set(&mut self.inside, link.index, &device.settings)
            .map_err(cannot("set its hardware address, MTU or queue in the container", on))?;
        self.address(&device.inside, link.index, &all, &device.addressing.gateways)
    }

    /// Makes a pair. Its port is open already, or it is returned.
    fn make_veth(&mut self, veth: &VethPlan, bridge: Option<u32>) -> Result<Option<Port>> {
        let note = VethNote {
            host: veth.host.clone(),
            mac_address: veth.host_mac,
            number: veth.number,
            inside: None,
        };
        self.notes.veths.push(note);
        self.notes.write(self.folder)?;
        let on = format!("interface {}", veth.host);
        let settings = Settings { mac_address: Some(veth.host_mac), ..veth.settings };
        let host = End { name: &veth.host, settings };
        let inside = End { name: &veth.inside, settings: veth.settings };
        link::add_veth(&mut self.host, &host, bridge, &inside, self.namespace.fd())
            .map_err(cannot(format!("make it, with {} in the container", veth.inside), &on))?;
        let port = self.on_host(&veth.host)?;
        let port =
            port.ok_or_else(|| Error::NoInterface { what: "interface", name: veth.host.to_string() })?;
        let port = Port {
            index: port.index,
            name: veth.host.clone(),
            inside: veth.inside.clone(),
            alias: format!("{} of {}", veth.inside, self.folder.path().display()),
            hairpin: veth.hairpin,
        };
        // First, so that the other end is a working one from the moment that it is up.
        if !self.closed {
            port.open(&mut self.host)?;
        }
        let link = self.in_container(&veth.inside)?;
        if let Some(note) = self.notes.veths.last_mut() {
            note.inside = link.mac_address;
        }
        self.notes.write(self.folder)?;
        let addresses: Vec<Address> = veth.addressing.addresses.iter().copied().map(Address::new).collect();
        self.address(&veth.inside, link.index, &addresses, &veth.addressing.gateways)?;
        Ok(self.closed.then_some(port))
    }

    /// Gives an interface in the container its addresses, brings it up, and makes its routers the default ones.
    fn address(
        &mut self,
        name: &InterfaceName,
        index: u32,
        addresses: &[Address],
        gateways: &[IpAddr],
    ) -> Result<()> {
        let on = format!("interface {name} in the container");
        for one in addresses {
            address::add(&mut self.inside, index, one)
                .map_err(cannot(format!("give it the address {one}"), &on))?;
        }
        link::set_up(&mut self.inside, index).map_err(cannot("bring it up", &on))?;
        for gateway in gateways {
            let entry = Entry {
                destination: everything(*gateway),
                source: None,
                gateway: Some(*gateway),
                on_link: !is_on_link(*gateway, addresses),
                index: Some(index),
            };
            route::add(&mut self.inside, &entry)
                .map_err(cannot(format!("make {gateway} its default router"), &on))?;
        }
        Ok(())
    }

    fn loopback(&mut self, addresses: &[IpNet], joined: bool) -> Result<()> {
        let on = "interface lo in the container";
        let there = address::lasting(&mut self.inside, link::LOOPBACK_INDEX)
            .map_err(cannot("list its addresses", on))?;
        let new = addresses.iter().filter(|net| !there.iter().any(|one| one.net == **net));
        let new: Vec<Address> = new.copied().map(Address::new).collect();
        if joined {
            self.notes.addresses.extend(new.iter().cloned());
            self.notes.write(self.folder)?;
        }
        for one in &new {
            address::add(&mut self.inside, link::LOOPBACK_INDEX, one)
                .map_err(cannot(format!("give it the address {one}"), on))?;
        }
        link::set_up(&mut self.inside, link::LOOPBACK_INDEX).map_err(cannot("bring it up", on))
    }

    fn route(&mut self, route: &Route, joined: bool) -> Result<()> {
        let index = match &route.interface_name {
            Some(name) => Some(self.in_container(name)?.index),
            None => None,
        };
        let entry = Entry {
            destination: route.destination,
            source: route.source,
            gateway: route.gateway,
            on_link: false,
            index,
        };
        route::add(&mut self.inside, &entry)
            .map_err(cannot("add it to the container's", format!("route to {}", route.destination)))?;
        if joined {
            // Afterwards: a route that was there before is not the container's to take away.
            self.notes.routes.push(entry);
            self.notes.write(self.folder)?;
        }
        Ok(())
    }
}

/// All addresses of the family of `gateway`.
fn everything(gateway: IpAddr) -> IpNet {
    if gateway.is_ipv6() { Ipv6Net::default().into() } else { Ipv4Net::default().into() }
}

/// Whether the kernel would find `gateway` by one of the addresses; it refuses a router that it would not find, unless
/// told that it is there.
fn is_on_link(gateway: IpAddr, addresses: &[Address]) -> bool {
    let is_link_local = matches!(gateway, IpAddr::V6(address) if address.is_unicast_link_local());
    is_link_local || addresses.iter().any(|one| one.net.contains(&gateway))
}
