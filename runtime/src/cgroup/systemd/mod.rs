//! Cgroups that systemd makes: each container is a transient scope.
//!
//! Where systemd runs the host, the cgroup tree is its own, and who makes cgroups in it asks it to
//! (<https://systemd.io/CGROUP_DELEGATION>). The scope is made with the container's first process, is delegated, and
//! everything in it is done through its files as without systemd. Limits are told to systemd as well, which would put
//! its own in their place at the next reload otherwise.

mod bus;
mod name;
mod properties;
mod scope;
mod wire;

pub(crate) use properties::ANNOTATION;
pub(super) use scope::{Scope, ScopePlace};
