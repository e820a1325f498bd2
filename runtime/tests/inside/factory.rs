//! libcontainer's interface: what each call does and what it promises to fail with.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::thread;

use floe_runtime::cgroup::Notice;
use floe_runtime::factory::{Container, Error, Factory, Process};
use floe_runtime::launch::Streams;
use floe_runtime::{Blueprint, Status};
use nix::sys::wait::WaitStatus;
use serde_json::json;

use crate::support::{Bundle, PATIENCE, next_id};

pub const TESTS: &[(&str, fn())] = &[
    ("the_interface_makes_starts_and_destroys", whole_life),
    ("the_interface_fails_as_promised", promised_errors),
    ("the_interface_is_for_many_threads", threads),
    ("a_creation_without_a_process_takes_the_name", created_only),
    ("a_start_that_fails_leaves_nothing", failed_start),
    ("the_streams_of_a_process_are_given", streams),
    ("limits_are_set_and_use_is_told", limits),
    ("lack_of_memory_is_told", out_of_memory),
];

fn factory(bundle: &Bundle) -> Factory {
    Factory::new(&bundle.path().join("state")).unwrap()
}

fn create(bundle: &Bundle) -> Container {
    bundle.write();
    let blueprint = Blueprint::of_bundle(bundle.path()).unwrap();
    factory(bundle).create_of(next_id().as_str(), blueprint).unwrap()
}

fn sleeping() -> (Bundle, Container) {
    let bundle = Bundle::with_script("exec sleep 1000");
    let container = create(&bundle);
    (bundle, container)
}

fn whole_life() {
    let (bundle, container) = sleeping();
    assert_eq!(factory(&bundle).r#type(), "floe");
    assert_eq!(container.status().unwrap(), Status::Stopped);
    let first = container.start(Process::default()).unwrap();
    assert_eq!(container.status().unwrap(), Status::Created);
    container.exec().unwrap();
    assert_eq!(container.status().unwrap(), Status::Running);
    let state = container.state().unwrap();
    assert_eq!((state.id.as_str(), state.init_process_pid), (container.id(), first.pid().as_raw()));
    assert!(state.namespace_paths["pid"].exists() && state.cgroup_paths.values().all(|path| path.exists()));
    assert_eq!(container.processes().unwrap(), [first.pid()]);

    let mut process = container.config().process;
    process.args = ["sh".to_owned(), "-c".to_owned(), "exit 7".to_owned()].to_vec();
    let joined = container.run(Process { process: Some(process), ..Process::default() }).unwrap();
    let pid = joined.pid();
    assert_eq!(joined.wait().unwrap(), WaitStatus::Exited(pid, 7));

    container.pause().unwrap();
    assert_eq!(container.status().unwrap(), Status::Paused);
    container.resume().unwrap();
    container.signal(nix::libc::SIGKILL).unwrap();
    let pid = first.pid();
    assert!(matches!(first.wait().unwrap(), WaitStatus::Signaled(who, ..) if who == pid));
    assert_eq!(container.status().unwrap(), Status::Stopped);
    container.destroy().unwrap();
    container.destroy().unwrap();
    assert!(state.cgroup_paths.values().all(|path| !path.exists()));
}

fn promised_errors() {
    let (bundle, container) = sleeping();
    let factory = factory(&bundle);
    let blueprint = || Blueprint::of_bundle(bundle.path()).unwrap();
    assert!(matches!(factory.create_of(container.id(), blueprint()), Err(Error::IdInUse(_))));
    for bad in ["", "..", "a/b", "ä", &"x".repeat(1025)] {
        assert!(matches!(factory.create_of(bad, blueprint()), Err(Error::InvalidIdFormat(_))), "{bad:?}");
        assert!(matches!(factory.load(bad), Err(Error::InvalidIdFormat(_))), "{bad:?}");
    }
    assert!(matches!(factory.load("nobody"), Err(Error::ContainerNotExists(_))));

    let first = container.run(Process::default()).unwrap();
    assert!(matches!(container.resume(), Err(Error::ContainerNotPaused(_))));
    assert!(matches!(container.exec(), Err(Error::ContainerNotStopped(_))));
    let mut process = container.config().process;
    process.args = vec!["nothing-of-this-name".to_owned()];
    let missing = container.start(Process { process: Some(process), ..Process::default() });
    assert!(matches!(missing, Err(Error::SystemError(_))), "{missing:?}");
    container.pause().unwrap();
    assert!(matches!(container.start(Process::default()), Err(Error::ContainerPaused(_))));
    assert!(matches!(container.pause(), Err(Error::ContainerPaused(_))));
    container.resume().unwrap();
    container.signal(nix::libc::SIGKILL).unwrap();
    first.wait().unwrap();
    assert!(matches!(container.start(Process::default()), Err(Error::ContainerStopped(_))));
    assert!(matches!(container.signal(nix::libc::SIGTERM), Err(Error::ContainerStopped(_))));
    assert!(matches!(container.pause(), Err(Error::ContainerStopped(_))));

    // By a process of its own, for all this handle knows.
    factory.load(container.id()).unwrap().destroy().unwrap();
    assert!(matches!(container.status(), Err(Error::ContainerNotExists(_))));
    assert!(matches!(container.processes(), Err(Error::ContainerNotExists(_))));
    assert!(matches!(container.stats(), Err(Error::ContainerNotExists(_))));
    assert!(matches!(container.start(Process::default()), Err(Error::ContainerNotExists(_))));
    container.destroy().unwrap();
}

fn threads() {
    let (_bundle, container) = sleeping();
    let first = container.run(Process::default()).unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10 {
                    // Whoever comes second is told so; nobody sees anything half done.
                    match (container.pause(), container.resume()) {
                        (
                            Ok(()) | Err(Error::ContainerPaused(_)),
                            Ok(()) | Err(Error::ContainerNotPaused(_)),
                        ) => {}
                        other => panic!("{other:?}"),
                    }
                    assert!(matches!(container.status().unwrap(), Status::Running | Status::Paused));
                    assert_eq!(container.processes().unwrap(), [first.pid()]);
                }
            });
        }
    });
    container.destroy().unwrap();
    first.wait().unwrap();
}

fn created_only() {
    let (bundle, container) = sleeping();
    let (id, factory) = (container.id().to_owned(), factory(&bundle));
    let found = factory.load(&id).unwrap();
    assert!(found.state().unwrap().cgroup_paths.values().all(|path| path.exists()));
    drop(container);
    assert!(matches!(found.status(), Err(Error::ContainerNotExists(_))));
    // The name is free again.
    let again = factory.create_of(&id, Blueprint::of_bundle(bundle.path()).unwrap()).unwrap();
    again.destroy().unwrap();
    assert!(matches!(again.start(Process::default()), Err(Error::ContainerNotExists(_))));
}

fn failed_start() {
    let mut bundle = Bundle::new();
    bundle.spec["process"]["args"] = json!(["nothing-of-this-name"]);
    let container = create(&bundle);
    let paths = container.state().unwrap().cgroup_paths;
    assert!(matches!(container.start(Process::default()), Err(Error::SystemError(_))));
    assert!(matches!(container.status(), Err(Error::ContainerNotExists(_))));
    assert!(paths.values().all(|path| !path.exists()), "{paths:?}");
}

fn streams() {
    let mut bundle = Bundle::new();
    bundle.spec["process"]["args"] = json!(["sh", "-c", "echo out; echo err >&2; cat"]);
    let container = create(&bundle);
    let pipe = || nix::unistd::pipe().unwrap();
    let ((input, feed), (out, output), (err, error)) = (pipe(), pipe(), pipe());
    nix::unistd::write(&feed, b"typed\n").unwrap();
    drop(feed);
    let streams = Streams { input: Some(input), output: Some(output), error: Some(error) };
    let first = container.run(Process { streams, ..Process::default() }).unwrap();
    let read = |fd: OwnedFd| {
        let mut text = String::new();
        File::from(fd).read_to_string(&mut text).unwrap();
        text
    };
    assert_eq!((read(out), read(err)), ("out\ntyped\n".to_owned(), "err\n".to_owned()));
    first.wait().unwrap();
    container.destroy().unwrap();
}

fn limits() {
    let (_bundle, container) = sleeping();
    let first = container.run(Process::default()).unwrap();
    let mut config = container.config();
    config.resources.pids = Some(17);
    container.set(&config).unwrap();
    assert_eq!(container.config().resources.pids, Some(17));
    let stats = container.stats().unwrap();
    assert_eq!((stats.pids.limit, stats.pids.current), (17, 1));
    assert!(stats.cpu.usage.total > 0 && stats.memory.usage.usage > 0);
    config.resources.memory.limit = Some(1);
    // The kernel refuses, and what was there before is there still.
    if container.set(&config).is_err() {
        assert_eq!(container.stats().unwrap().pids.limit, 17);
    }
    container.destroy().unwrap();
    first.wait().unwrap();
}

fn out_of_memory() {
    // What tail keeps of an endless line fills its memory.
    let mut bundle = Bundle::with_script("read go < /out/go; tail /dev/zero; echo survived");
    bundle.applet("tail");
    nix::unistd::mkfifo(&bundle.out().join("go"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    bundle.spec["linux"]["resources"]["memory"] = json!({"limit": 32 << 20, "swap": 32 << 20});
    let container = create(&bundle);
    let first = container.run(Process::default()).unwrap();
    let mut watch = container.notify_oom().unwrap();
    std::fs::write(bundle.out().join("go"), "go\n").unwrap();
    assert_eq!(watch.wait(Some(PATIENCE)).unwrap(), Some(Notice::OutOfMemory));
    first.wait().unwrap();
    container.destroy().unwrap();
}
