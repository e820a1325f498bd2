//! floe as an ordinary user: real containers of a user that has no rights on the host, with maps of ids, with and without
//! a delegated cgroup, and as root of a user namespace that somebody else made.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by a panic")]

#[path = "rootless/cgroups.rs"]
mod cgroups;
#[path = "rootless/life.rs"]
mod life;
#[path = "rootless/maps.rs"]
mod maps;
#[path = "rootless/nested.rs"]
mod nested;
#[path = "rootless/refusals.rs"]
mod refusals;
mod support;
#[path = "rootless/user.rs"]
mod user;
