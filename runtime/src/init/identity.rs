//! Whose rights the process has: user, groups, capabilities.

use nix::errno::Errno;
use nix::unistd::{Gid, Uid};
use rustix::thread::{CapabilitySet as Caps, CapabilitySets};

use crate::config::{Capabilities, Capability, CapabilitySet, User};
use crate::error::{Error, Result};

/// Takes on user, groups and capabilities. `None` keeps no capability.
///
/// The order is the kernel's (`capabilities(7)`): the bounding set is narrowed while CAP_SETPCAP is still there; the
/// ids change with "keep capabilities" set, or the permitted set would be cleared; the sets come last.
pub(super) fn assume(user: &User, capabilities: Option<&Capabilities>) -> Result<()> {
    let capabilities = capabilities.copied().unwrap_or_default();
    check(&capabilities)?;
    narrow_bounding(&capabilities)?;
    rustix::thread::set_keep_capabilities(true).map_err(Error::at("prctl", "PR_SET_KEEPCAPS"))?;
    set_ids(user)?;
    rustix::thread::set_keep_capabilities(false).map_err(Error::at("prctl", "PR_SET_KEEPCAPS"))?;
    set_capabilities(&capabilities)
}

/// What is wanted has to be there already: nobody can gain a capability here.
fn check(wanted: &Capabilities) -> Result<()> {
    let have = rustix::thread::capabilities(None).map_err(Error::at("capget", "this process"))?;
    let sets = [wanted.permitted, wanted.effective, wanted.inheritable];
    let lacking = |set: CapabilitySet| set.bits() & !have.permitted.bits();
    let lacking = sets.into_iter().fold(0, |all, set| all | lacking(set)) & known();
    let names: Vec<&str> = sets
        .iter()
        .flat_map(|set| set.iter())
        .filter(|one| lacking & bit(*one) != 0)
        .map(Capability::name)
        .collect();
    match names.first() {
        None => Ok(()),
        Some(_) => {
            let mut names: Vec<&str> = names;
            names.sort_unstable();
            names.dedup();
            Err(Error::start(format!(
                "process.capabilities: floe itself lacks {}, and cannot give it (operation not permitted)",
                names.join(", ")
            )))
        }
    }
}

fn bit(capability: Capability) -> u64 {
    1 << capability.number()
}

/// The capabilities that this kernel knows. Those of a newer one are passed over: nothing here checks for them.
fn known() -> u64 {
    let is_known = |number: &u32| rustix::thread::capability_is_in_bounding_set(one(*number)).is_ok();
    (0..64).take_while(is_known).fold(0, |all, number| all | 1 << number)
}

fn one(number: u32) -> Caps {
    Caps::from_bits_retain(1 << number)
}

fn narrow_bounding(capabilities: &Capabilities) -> Result<()> {
    let known = known();
    for number in 0..64 {
        let drop = known & !capabilities.bounding.bits() & (1 << number) != 0;
        if drop && rustix::thread::capability_is_in_bounding_set(one(number)).unwrap_or(false) {
            rustix::thread::remove_capability_from_bounding_set(one(number))
                .map_err(Error::at("prctl", format!("PR_CAPBSET_DROP {number}")))?;
        }
    }
    Ok(())
}

fn set_ids(user: &User) -> Result<()> {
    let groups: Vec<Gid> = user.additional_gids.iter().map(|gid| Gid::from_raw(*gid)).collect();
    match nix::unistd::setgroups(&groups) {
        // A user namespace made without privileges denies setgroups(2) for good (user_namespaces(7)).
        Err(Errno::EPERM) if groups.is_empty() => {}
        Err(Errno::EPERM) => {
            return Err(Error::start(format!(
                "process.user.additionalGids {:?}: a user namespace that an ordinary user made for its own group alone has \
                 no other groups; map more with linux.gidMappings",
                user.additional_gids
            )));
        }
        other => other.map_err(Error::at("setgroups", format!("{:?}", user.additional_gids)))?,
    }
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    nix::unistd::setresgid(gid, gid, gid).map_err(|errno| explain_id("gid", user.gid, errno))?;
    nix::unistd::setresuid(uid, uid, uid).map_err(|errno| explain_id("uid", user.uid, errno))
}

fn explain_id(what: &str, id: u32, errno: Errno) -> Error {
    match errno {
        Errno::EINVAL => {
            Error::start(format!("process.user.{what} {id} is not mapped in the user namespace"))
        }
        errno => Error::call("set", format!("{what} {id}"), errno),
    }
}

fn set_capabilities(capabilities: &Capabilities) -> Result<()> {
    let known = known();
    let set = |set: CapabilitySet| Caps::from_bits_retain(set.bits() & known);
    let sets = CapabilitySets {
        effective: set(capabilities.effective),
        permitted: set(capabilities.permitted),
        inheritable: set(capabilities.inheritable),
    };
    rustix::thread::set_capabilities(None, sets).map_err(Error::at("capset", "process.capabilities"))?;
    rustix::thread::clear_ambient_capability_set().map_err(Error::at("prctl", "PR_CAP_AMBIENT_CLEAR_ALL"))?;
    // The kernel has ambient ones only among those that are permitted and inheritable. What asks for others (the
    // configuration that `runc spec` writes does) runs without them, as with runc.
    let possible = capabilities.permitted.bits() & capabilities.inheritable.bits() & known;
    for capability in capabilities.ambient.iter().filter(|one| possible & bit(*one) != 0) {
        rustix::thread::configure_capability_in_ambient_set(one(u32::from(capability.number())), true)
            .map_err(Error::at("add to the ambient set", capability.name()))?;
    }
    Ok(())
}
