//! On a directory that looks like `resctrl`. What the kernel puts into a new group itself, the tests put there.

use super::*;

struct Host(tempfile::TempDir);

impl Host {
    /// With one cache and one memory controller.
    fn new() -> Self {
        let host = Self(tempfile::tempdir().unwrap());
        for folder in ["info/L3", "info/MB", "mon_groups"] {
            fs::create_dir_all(host.path(folder)).unwrap();
        }
        host.fill("", "L3:0=7ff;1=7ff\nMB:0=100;1=100\n");
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn fill(&self, group: &str, schemata: &str) {
        fs::create_dir_all(self.path(group).join("mon_groups")).unwrap();
        fs::write(self.path(group).join("schemata"), schemata).unwrap();
        fs::write(self.path(group).join("tasks"), "").unwrap();
    }

    fn group(&self, wanted: &IntelRdt) -> Result<Group> {
        Group::below(self.0.path().to_owned(), wanted, "web")
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }
}

fn named(name: &str) -> IntelRdt {
    IntelRdt { clos_id: Some(name.to_owned()), ..IntelRdt::default() }
}

fn l3(line: &str) -> IntelRdt {
    IntelRdt { l3_cache_schema: Some(line.to_owned()), ..IntelRdt::default() }
}

/// Makes it, and leaves what was made if that is all.
fn make(group: &Group) -> Result<()> {
    let mut undo = Undo::default();
    group.make(&mut undo)?;
    undo.keep();
    Ok(())
}

fn words<T>(result: Result<T>) -> String {
    result.err().expect("it is refused").in_full()
}

#[test]
fn a_group_of_the_containers_own_comes_and_goes() {
    let host = Host::new();
    let group = host.group(&IntelRdt::default()).unwrap();
    let mut undo = Undo::default();
    group.make(&mut undo).unwrap();
    assert!(host.path("web").is_dir());
    assert!(words(make(&group)).contains("is somebody else's already"));
    drop(undo);
    assert!(!host.path("web").exists(), "undone");
    make(&group).unwrap();
    group.remove().unwrap();
    group.remove().unwrap();
    assert!(!host.path("web").exists());
}

#[test]
fn a_new_group_gets_every_line_in_its_order() {
    let host = Host::new();
    let wanted = IntelRdt {
        mem_bw_schema: Some("MB:0=20".to_owned()),
        schemata: vec!["L2:0=f".to_owned(), "MB:1=70".to_owned()],
        ..l3("L3:0=f")
    };
    let group = host.group(&wanted).unwrap();
    host.fill("web", "");
    group.write_schemata(true).unwrap();
    assert_eq!(host.read("web/schemata"), "L3:0=f\nMB:0=20\nL2:0=f\nMB:1=70\n");
}

#[test]
fn processes_are_put_into_it() {
    let host = Host::new();
    host.fill("shared", "L3:0=7ff\n");
    let group = host.group(&IntelRdt { enable_monitoring: true, ..named("shared") }).unwrap();
    make(&group).unwrap();
    fs::write(host.path("shared/mon_groups/web/tasks"), "").unwrap();
    // A process with one thread.
    let mut child = std::process::Command::new("sleep").arg("20").spawn().unwrap();
    let pid = child.id();
    let added = group.add(Pid::from_raw(i32::try_from(pid).unwrap()));
    child.kill().unwrap();
    child.wait().unwrap();
    added.unwrap();
    assert_eq!(host.read("shared/tasks"), pid.to_string());
    assert_eq!(host.read("shared/mon_groups/web/tasks"), pid.to_string());
    fs::remove_file(host.path("shared/mon_groups/web/tasks")).unwrap();
    group.remove().unwrap();
    assert!(!host.path("shared/mon_groups/web").exists(), "the container's");
    assert!(host.path("shared").exists(), "not the container's");
}

#[test]
fn a_named_group_has_to_be_as_it_is_wanted() {
    let host = Host::new();
    assert!(words(make(&host.group(&named("shared")).unwrap())).starts_with("linux.intelRdt.closID names"));
    host.fill("shared", "    MB:0= 20;1= 70\n    L3:0=00f;1=7ff\n");
    make(&host.group(&named("shared")).unwrap()).unwrap();
    let wanted = |l3: &str, mb: &str| {
        let lines = IntelRdt {
            l3_cache_schema: Some(l3.to_owned()),
            mem_bw_schema: Some(mb.to_owned()),
            ..named("shared")
        };
        make(&host.group(&lines).unwrap())
    };
    wanted("L3:1=7FF;0=f", "MB:0=20").unwrap();
    assert!(words(wanted("L3:0=ff", "MB:0=20")).starts_with(r#"linux.intelRdt.l3CacheSchema is "L3:0=ff""#));
    assert!(words(wanted("L3:0=f", "MB:2=20")).starts_with("linux.intelRdt.memBwSchema"));
    assert!(words(wanted("L3:0", "MB:0=20")).starts_with("linux.intelRdt.l3CacheSchema"), "not understood");
    assert!(host.read("shared/schemata").contains("00f"), "nothing is written over it");
    let more = IntelRdt { schemata: vec!["L3:0=1".to_owned()], ..named("shared") };
    make(&host.group(&more).unwrap()).unwrap();
    assert!(host.read("shared/schemata").starts_with("L3:0=1\n"), "these lines are");
}

#[test]
fn the_group_of_everybody_is_the_root() {
    let host = Host::new();
    let group = host.group(&named("/")).unwrap();
    make(&group).unwrap();
    group.remove().unwrap();
    assert!(host.path("schemata").exists());
}

#[test]
fn what_the_host_lacks_is_refused_by_its_key() {
    let host = Host::new();
    fs::remove_dir(host.path("info/L3")).unwrap();
    assert!(words(host.group(&l3("L3:0=f"))).starts_with("linux.intelRdt.l3CacheSchema"));
    fs::remove_dir(host.path("info/MB")).unwrap();
    let bandwidth = IntelRdt { mem_bw_schema: Some("MB:0=10".to_owned()), ..IntelRdt::default() };
    assert!(words(host.group(&bandwidth)).starts_with("linux.intelRdt.memBwSchema"));
}

#[test]
fn why_the_kernel_refuses_is_told() {
    let host = Host::new();
    fs::write(host.path("info/last_cmd_status"), "Out of CLOSIDs\n").unwrap();
    // No folder can be made in a file.
    let group = Group { folder: host.path("tasks/web"), ..host.group(&IntelRdt::default()).unwrap() };
    assert!(words(make(&group)).contains("(linux.intelRdt: Out of CLOSIDs)"));
}

#[test]
fn it_is_found_where_it_is_mounted() {
    let line = "33 24 0:29 / /mnt/resctrl rw,relatime shared:9 - resctrl resctrl rw";
    assert_eq!(resctrl_in(line), Some("/mnt/resctrl"));
    assert_eq!(resctrl_in("33 24 0:29 / /mnt/resctrl rw - tmpfs resctrl rw"), None);
}

#[test]
fn shares_are_changed_and_taken_back() {
    let host = Host::new();
    let former = "    MB:0= 20;1= 70\n    L3:0=00f;1=7ff\n";
    host.fill("web", former);
    let group = host.group(&l3("L3:0=f")).unwrap();
    let shares = |l3: Option<&str>, mb: Option<&str>| Shares {
        l3_cache_schema: l3.map(str::to_owned),
        mem_bw_schema: mb.map(str::to_owned),
    };
    let mut undo = Undo::default();
    // In a temporary directory the lines stand over the front of what was there; only they are written.
    group.change(&shares(Some("L3:0=3"), Some("MB:1=50")), &mut undo).unwrap();
    assert!(host.read("web/schemata").starts_with("L3:0=3\nMB:1=50\n"), "{}", host.read("web/schemata"));
    drop(undo);
    assert_eq!(host.read("web/schemata"), former);
    let mut undo = Undo::default();
    group.change(&shares(None, Some("MB:0=9")), &mut undo).unwrap();
    undo.keep();
    assert!(host.read("web/schemata").starts_with("MB:0=9\n"));
    assert!(shares(None, None).is_empty() && !shares(None, Some("MB:0=9")).is_empty());

    let mut wanted = IntelRdt { mem_bw_schema: Some("MB:0=1".to_owned()), ..l3("L3:0=f") };
    shares(Some("L3:0=1"), None).put_into(&mut wanted);
    let lines = (wanted.l3_cache_schema.as_deref(), wanted.mem_bw_schema.as_deref());
    assert_eq!(lines, (Some("L3:0=1"), Some("MB:0=1")), "what is not said stays");
}

#[test]
fn processes_that_run_already_are_put_into_it() {
    let host = Host::new();
    host.fill("shared", "L3:0=7ff\n");
    let group = host.group(&named("shared")).unwrap();
    let mut child = std::process::Command::new("sleep").arg("20").spawn().unwrap();
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    let mut gone = std::process::Command::new("true").spawn().unwrap();
    let ended = Pid::from_raw(i32::try_from(gone.id()).unwrap());
    gone.wait().unwrap();
    let mut undo = Undo::default();
    let added = group.make_for(&[ended, pid], &mut undo);
    undo.keep();
    child.kill().unwrap();
    child.wait().unwrap();
    added.unwrap();
    assert_eq!(host.read("shared/tasks"), pid.to_string());
}
