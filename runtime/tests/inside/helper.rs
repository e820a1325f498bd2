//! Processes that call the runtime from other circumstances than the tests' own: with descriptors to hand on, with
//! fewer privileges, or to be killed.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use floe_runtime::cgroup::Entrance;
use floe_runtime::config::Capability;
use floe_runtime::launch::{
    LaunchKind, LaunchPlan, ParentSide, Streams, Waiting, begin, launch, make_exec_fifo,
};
use floe_runtime::{Blueprint, ContainerId, CreateOptions, Store};
use nix::unistd::Pid;
use rustix::thread::CapabilitySet;

use crate::support::{Bundle, Running, full};

/// Names the helper, in the environment.
const VARIABLE: &str = "FLOE_TEST_HELPER";

/// Which helper this process is to be.
pub fn asked_for() -> Option<String> {
    std::env::var(VARIABLE).ok()
}

/// Starts the test program as `helper` for `bundle`.
pub fn command(helper: &str, bundle: &Bundle) -> Command {
    bundle.write();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(VARIABLE, helper).arg(bundle.path());
    command
}

/// Runs `helper` to its end.
pub fn output(helper: &str, bundle: &Bundle) -> Output {
    command(helper, bundle).output().unwrap()
}

/// What the helper process does. What goes wrong is printed.
pub fn run(helper: String) {
    let bundle = PathBuf::from(std::env::args_os().nth(1).unwrap());
    let (verb, argument) = helper.split_once(' ').unwrap_or((&helper, ""));
    match verb {
        "preserving" => run_to_end(&bundle, argument.parse().unwrap()),
        "without" => {
            give_up(argument.parse().unwrap());
            run_to_end(&bundle, 0);
        }
        "create-with-networks" => create_with_networks(&bundle),
        "create-and-stay" => create_and_stay(&bundle),
        "launch-and-stay" => launch_and_stay(&bundle, argument.parse().unwrap()),
        _ => panic!("no helper {verb}"),
    }
}

fn run_to_end(bundle: &Path, preserve_fds: u32) {
    let store = Store::open(&bundle.join("state")).unwrap();
    let id = ContainerId::parse(&format!("floe-inside-helper-{}", std::process::id())).unwrap();
    match store.create(&id, bundle, CreateOptions { preserve_fds, ..CreateOptions::default() }) {
        Ok(container) => {
            let running = Running::of(container, bundle);
            running.container.start().unwrap();
            let status = running.wait();
            drop(running);
            std::process::exit(status);
        }
        Err(error) => {
            println!("{}", full(&error));
            std::process::exit(1);
        }
    }
}

/// Gives up a capability so that no execution brings it back.
fn give_up(capability: Capability) {
    let one = CapabilitySet::from_bits_retain(1 << capability.number());
    rustix::thread::remove_capability_from_bounding_set(one).unwrap();
    let mut sets = rustix::thread::capabilities(None).unwrap();
    sets.effective.remove(one);
    sets.permitted.remove(one);
    sets.inheritable.remove(one);
    rustix::thread::set_capabilities(None, sets).unwrap();
}

/// Its networks are the second argument.
fn create_with_networks(bundle: &Path) {
    let networks = std::env::args().nth(2).unwrap();
    let mut blueprint = Blueprint::of_bundle(bundle).unwrap();
    blueprint.config.networks = serde_json::from_str(&networks).unwrap();
    let store = Store::open(&bundle.join("state")).unwrap();
    let id = ContainerId::parse(&format!("floe-inside-helper-{}", std::process::id())).unwrap();
    if let Err(error) = store.create_of(&id, || Ok(blueprint), CreateOptions::default()) {
        println!("{}", full(&error));
    }
}

/// Stays until it is killed: who looks for its children must not find that it has left them already.
fn create_and_stay(bundle: &Path) {
    let store = Store::open(&bundle.join("state")).unwrap();
    let id = ContainerId::parse(&format!("floe-inside-helper-{}", std::process::id())).unwrap();
    match store.create(&id, bundle, CreateOptions::default()) {
        Ok(_) => println!("{id}"),
        Err(error) => println!("{}", full(&error)),
    }
    loop {
        std::thread::park();
    }
}

/// Launches a container's first process with this `parent_death_signal` (0 is none), which no OCI bundle can ask for, and
/// tells its pid.
fn launch_and_stay(bundle: &Path, signal: i32) {
    struct Nobody;
    impl ParentSide for Nobody {
        fn entrance(&self) -> Entrance {
            Entrance::default()
        }
        fn place(&mut self, _: Pid) -> floe_runtime::Result<()> {
            Ok(())
        }
        fn listener(&mut self, _: Pid, _: OwnedFd) -> floe_runtime::Result<()> {
            Ok(())
        }
    }
    let (_, mut config) = floe_runtime::read_bundle(bundle).unwrap();
    config.parent_death_signal = Some(signal).filter(|signal| *signal != 0);
    // A change of user clears the signal.
    config.process.user.uid = 1000;
    make_exec_fifo(bundle).unwrap();
    let kind = LaunchKind::Init { state_dir: bundle.to_owned() };
    let plan = LaunchPlan { config, kind, console: None, keyring: None };
    let waiting = Waiting::start(0, &Streams::default()).unwrap();
    match begin(waiting, plan).and_then(|begun| launch(begun, &mut Nobody)) {
        Ok(pid) => println!("{pid}"),
        Err(error) => println!("{}", full(&error)),
    }
    loop {
        std::thread::park();
    }
}
