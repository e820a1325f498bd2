//! Every option of CRIU, by its name in criu(8) or in `rpc.proto`, and what floe does with it.

use rust_criu::rust_criu_protobuf::rpc::{Cgroup_root, Criu_opts, Unix_sk};

use super::Flags;

/// What comes of an option.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// A flag that goes to CRIU.
    Flag(fn(&mut Criu_opts, bool)),
    /// A number that goes to CRIU.
    Number(fn(&mut Criu_opts, u32)),
    /// A number of bytes, which may end in K, M or G.
    Size(fn(&mut Criu_opts, u32)),
    /// A text that goes to CRIU.
    Text(fn(&mut Criu_opts, String)),
    /// One of many texts; `false` if it is not understood.
    Many(fn(&mut Criu_opts, &str) -> bool),
    /// Processor capabilities: names and commas.
    Processor,
    /// A choice that floe has a flag of its own for; it may be said in either way.
    Choice(fn(&mut Flags, bool)),
    /// CRIU's RPC has no word for it; it goes by a configuration file.
    ByFile {
        /// Whether it has a value.
        value: bool,
    },
    /// Nothing comes of it, and nothing is lost.
    Passed,
    /// floe's own: why, and what to use instead.
    Owned(&'static str),
}

/// When an option is of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// At a dump.
    Dump,
    /// At a restore.
    Restore,
    /// At both.
    Both,
}

use Kind::{ByFile, Choice, Flag, Many, Number, Owned, Passed, Processor, Size, Text};
use When::{Both, Dump, Restore};

const PLACES: &str = "floe says where images and logs go (--to, --from, --image-path, --work-path)";
const TREE: &str = "floe says what is dumped, and where its root is";
const AFTER: &str = "use --leave-running, or `floe pause` afterwards";
const PAGES: &str = "floe takes the pages itself, over a pair of sockets";
const ROUNDS: &str = "it belongs to --pre-dump and --parent-path";
const SIGNS: &str = "floe hears CRIU's notifications itself";
const HANDED: &str = "floe hands over what was open outside; redirect floe's own streams";
const CGROUPS: &str = "floe puts the container into its cgroup (linux.cgroupsPath of the bundle)";
const MODE: &str = "use --manage-cgroups-mode";
const NAMESPACES: &str = "name the namespace in the bundle's config.json (linux.namespaces[].path)";
const LOCK: &str = "floe chooses how packets are held back";

/// All of them, by their names with `-`.
pub(super) const TABLE: &[(&str, When, Kind)] = &[
    // What floe has flags for.
    ("tcp-established", Both, Choice(|flags, on| flags.tcp_established = Some(on))),
    ("tcp-close", Both, Choice(|flags, on| flags.tcp_close = Some(on))),
    ("file-locks", Both, Choice(|flags, on| flags.file_locks = Some(on))),
    ("ext-unix-sk", Both, Choice(|flags, on| flags.ext_unix_sk = Some(on))),
    ("shell-job", Both, Choice(|flags, on| flags.shell_job = Some(on))),
    ("link-remap", Both, Choice(|flags, on| flags.link_remap = Some(on))),
    // What only CRIU knows.
    ("tcp-skip-in-flight", Dump, Flag(|opts, on| opts.set_tcp_skip_in_flight(on))),
    ("skip-in-flight", Dump, Flag(|opts, on| opts.set_tcp_skip_in_flight(on))),
    ("ghost-limit", Both, Size(|opts, size| opts.set_ghost_limit(size))),
    ("force-irmap", Dump, Flag(|opts, on| opts.set_force_irmap(on))),
    ("irmap-scan-path", Dump, Many(|opts, path| add(&mut opts.irmap_scan_paths, path))),
    ("irmap-scan-paths", Dump, Many(|opts, path| add(&mut opts.irmap_scan_paths, path))),
    ("enable-fs", Both, Many(|opts, names| add(&mut opts.enable_fs, names))),
    ("skip-mnt", Both, Many(|opts, place| add(&mut opts.skip_mnt, place))),
    ("external", Both, Many(|opts, key| add(&mut opts.external, key))),
    ("unix-sk-ino", Dump, Many(unix_socket)),
    ("auto-ext-mnt", Both, Flag(|opts, on| opts.set_auto_ext_mnt(on))),
    ("ext-sharing", Both, Flag(|opts, on| opts.set_ext_sharing(on))),
    ("enable-external-sharing", Both, Flag(|opts, on| opts.set_ext_sharing(on))),
    ("ext-masters", Both, Flag(|opts, on| opts.set_ext_masters(on))),
    ("enable-external-masters", Both, Flag(|opts, on| opts.set_ext_masters(on))),
    ("cpu-cap", Both, Processor),
    ("timeout", Both, Number(|opts, seconds| opts.set_timeout(seconds))),
    ("evasive-devices", Both, Flag(|opts, on| opts.set_evasive_devices(on))),
    ("weak-sysctls", Restore, Flag(|opts, on| opts.set_weak_sysctls(on))),
    ("skip-file-rwx-check", Restore, Flag(|opts, on| opts.set_skip_file_rwx_check(on))),
    ("mntns-compat-mode", Restore, Flag(|opts, on| opts.set_mntns_compat_mode(on))),
    ("track-mem", Both, Flag(|opts, on| opts.set_track_mem(on))),
    ("cgroup-props", Both, Text(|opts, text| opts.set_cgroup_props(text))),
    ("cgroup-props-file", Both, Text(|opts, text| opts.set_cgroup_props_file(text))),
    ("cgroup-dump-controller", Dump, Many(|opts, name| add(&mut opts.cgroup_dump_controller, name))),
    ("cgroup-yard", Both, Text(|opts, text| opts.set_cgroup_yard(text))),
    ("cgroup-root", Both, Many(cgroup_root)),
    ("cg-root", Both, Many(cgroup_root)),
    // What its RPC has no word for.
    ("ghost-fiemap", Dump, ByFile { value: false }),
    ("allow-uprobes", Both, ByFile { value: false }),
    ("file-validation", Both, ByFile { value: true }),
    ("action-script", Both, ByFile { value: true }),
    ("libdir", Both, ByFile { value: true }),
    // What changes nothing here.
    ("log-file", Both, Passed),
    ("log-level", Both, Passed),
    ("log-pid", Both, Passed),
    ("log-to-stderr", Both, Passed),
    ("verbosity", Both, Passed),
    ("display-stats", Both, Passed),
    // What is floe's.
    ("images-dir", Both, Owned(PLACES)),
    ("images-dir-fd", Both, Owned(PLACES)),
    ("work-dir", Both, Owned(PLACES)),
    ("work-dir-fd", Both, Owned(PLACES)),
    ("pidfile", Both, Owned("use --pid-file")),
    ("tree", Both, Owned(TREE)),
    ("pid", Both, Owned(TREE)),
    ("root", Both, Owned(TREE)),
    ("leave-running", Both, Owned(AFTER)),
    ("leave-stopped", Both, Owned(AFTER)),
    ("restore-detached", Both, Owned("use --detach")),
    ("restore-sibling", Both, Owned("the first process is always floe's own child")),
    ("rst-sibling", Both, Owned("the first process is always floe's own child")),
    ("exec-cmd", Both, Owned("floe waits for the container itself")),
    ("daemon", Both, Owned("floe waits for CRIU")),
    ("stream", Both, Owned(PAGES)),
    ("page-server", Both, Owned(PAGES)),
    ("ps", Both, Owned(PAGES)),
    ("ps-socket", Both, Owned(PAGES)),
    ("address", Both, Owned(PAGES)),
    ("port", Both, Owned(PAGES)),
    ("lazy-pages", Both, Owned(PAGES)),
    ("tls", Both, Owned(PAGES)),
    ("tls-cacert", Both, Owned(PAGES)),
    ("tls-cacrl", Both, Owned(PAGES)),
    ("tls-cert", Both, Owned(PAGES)),
    ("tls-key", Both, Owned(PAGES)),
    ("tls-no-cn-verify", Both, Owned(PAGES)),
    ("auto-dedup", Both, Owned("images are only read, and floe's own copy is used up in any case")),
    ("parent-img", Both, Owned(ROUNDS)),
    ("prev-images-dir", Both, Owned(ROUNDS)),
    ("pre-dump-mode", Both, Owned(ROUNDS)),
    ("pidfd-store-sk", Both, Owned(ROUNDS)),
    ("notify-scripts", Both, Owned(SIGNS)),
    ("status-fd", Both, Owned(SIGNS)),
    ("inherit-fd", Both, Owned(HANDED)),
    ("close", Both, Owned(HANDED)),
    ("orphan-pts-master", Both, Owned("floe always takes the masters of terminals; use --console-socket")),
    ("ext-mnt", Both, Owned("mount it in the bundle, or use --criu-option external=mnt[…]:…")),
    ("ext-mount-map", Both, Owned("mount it in the bundle, or use --criu-option external=mnt[…]:…")),
    ("veths", Both, Owned("use --criu-option external=veth[INNER]:OUTER")),
    ("veth-pair", Both, Owned("use --criu-option external=veth[INNER]:OUTER")),
    ("freeze-cgroup", Both, Owned(CGROUPS)),
    ("manage-cgroups", Both, Owned(MODE)),
    ("manage-cgroups-mode", Both, Owned(MODE)),
    ("empty-ns", Both, Owned("use --empty-ns")),
    ("join-ns", Both, Owned(NAMESPACES)),
    ("network-lock", Both, Owned(LOCK)),
    ("lsm-profile", Both, Owned("use --lsm-profile")),
    ("lsm-mount-context", Both, Owned("use --lsm-mount-context")),
    ("unprivileged", Both, Owned("floe needs root for it")),
    ("config", Both, Owned("use --criu-option config-file=PATH")),
    ("no-default-config", Both, Owned("floe always keeps the host's files out")),
];

fn add(list: &mut Vec<String>, text: &str) -> bool {
    list.push(text.to_owned());
    !text.is_empty()
}

fn unix_socket(opts: &mut Criu_opts, text: &str) -> bool {
    let Ok(inode) = text.parse() else { return false };
    let mut socket = Unix_sk::new();
    socket.set_inode(inode);
    opts.unix_sk_ino.push(socket);
    opts.set_ext_unix_sk(true);
    true
}

/// `[CONTROLLER:]/PATH`.
fn cgroup_root(opts: &mut Criu_opts, text: &str) -> bool {
    let (controller, path) = text.split_once(':').map_or((None, text), |(name, path)| (Some(name), path));
    let mut root = Cgroup_root::new();
    root.ctrl = controller.map(str::to_owned);
    root.set_path(path.to_owned());
    opts.cg_root.push(root);
    path.starts_with('/')
}
