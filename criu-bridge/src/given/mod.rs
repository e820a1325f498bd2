//! Options of CRIU that the caller gives: each is known by its name, and what floe owns is refused.
//!
//! They come from the command line (`--criu-option NAME[=VALUE]`), or from a configuration file of CRIU's that the bundle
//! names (annotation `org.criu.config`, as runc and crun take it). CRIU itself never reads that file: in it an option may
//! override what floe has said (criu/cr-service.c), and some end CRIU 4.1 by a signal. So a file's options go the same way
//! as those of the command line. Files that CRIU would read by itself (`/etc/criu/default.conf`, `~/.criu/default.conf`,
//! `$CRIU_CONFIG_FILE`) are kept out, and `/etc/criu/runc.conf` is runc's.

mod file;
mod table;

use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use floe_runtime::config::Config;
use rust_criu::rust_criu_protobuf::rpc::{Criu_opts, Criu_req};

use crate::error::{Error, Result};
use crate::progress::Progress;
use table::{Kind, TABLE, When};

/// The annotation by which a bundle names a configuration file of CRIU's.
const ANNOTATION: &str = "org.criu.config";

/// The name by which such a file is given on the command line.
const FILE: &str = "config-file";

/// One option.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Given {
    name: String,
    value: Option<String>,
    /// The file and the line that it stands in; `None` for one of the command line.
    from: Option<(PathBuf, usize)>,
}

/// Options of CRIU, in the order in which they were given. A later one overrides an earlier one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CriuOptions {
    all: Vec<Given>,
    /// A configuration file that was named instead of the bundle's; empty for none.
    file: Option<PathBuf>,
}

/// Choices that floe has flags of its own for, where an option said something about them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Flags {
    pub(crate) tcp_established: Option<bool>,
    pub(crate) tcp_close: Option<bool>,
    pub(crate) file_locks: Option<bool>,
    pub(crate) ext_unix_sk: Option<bool>,
    pub(crate) shell_job: Option<bool>,
    pub(crate) link_remap: Option<bool>,
}

/// In which direction options are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Dump,
    Restore,
}

impl CriuOptions {
    /// Reads `NAME[=VALUE]`s. Nothing is looked up yet: what is wrong is said when they are used.
    pub fn of<S: AsRef<str>>(words: impl IntoIterator<Item = S>) -> Self {
        let mut options = Self::default();
        for word in words {
            let word = word.as_ref();
            let (name, value) =
                word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
            let name = canonical(name);
            if name == FILE {
                options.file = Some(value.unwrap_or_default().into());
            } else {
                options.all.push(Given { name, value: value.map(str::to_owned), from: None });
            }
        }
        options
    }

    /// With what stands in the configuration file that was named, or else that `config` names, before it.
    pub(crate) fn with_file(&self, config: &Config, progress: &dyn Progress) -> Result<Self> {
        let named = config.annotations.get(ANNOTATION).map(PathBuf::from);
        let file = self.file.clone().or(named).filter(|path| !path.as_os_str().is_empty());
        let mut all = match file {
            Some(path) => file::read(&path)?,
            None => Vec::new(),
        };
        all.extend(self.all.iter().cloned());
        for given in &all {
            let (.., kind) = given.known()?;
            if matches!(kind, Kind::Passed) {
                progress.warn(&format!("{} changes nothing: floe reads criu's log itself", given.told()));
            }
        }
        Ok(Self { all, file: None })
    }

    /// What they say of floe's own choices.
    pub(crate) fn flags(&self) -> Result<Flags> {
        let mut flags = Flags::default();
        for given in &self.all {
            if let (.., Kind::Choice(set)) = given.known()? {
                set(&mut flags, given.flag()?);
            }
        }
        Ok(flags)
    }

    /// The largest deleted file that is copied into a dump, where that was said.
    pub(crate) fn ghost_limit(&self) -> Option<u64> {
        let last = self.all.iter().rev().find(|given| given.name == "ghost-limit")?;
        last.size().ok().map(u64::from)
    }

    /// Whether watched files are looked up by their paths.
    pub(crate) fn force_irmap(&self) -> bool {
        let last = self.all.iter().rev().find(|given| given.name == "force-irmap");
        last.is_some_and(|given| given.flag().unwrap_or(false))
    }

    /// Checks them, without doing anything.
    pub(crate) fn check(&self, direction: Direction) -> Result<()> {
        self.add(&mut Criu_opts::new(), direction).map(drop)
    }

    /// Adds them to a request. What RPC has no word for comes back as a file that CRIU reads, and that has to be held until
    /// it has.
    pub(crate) fn add_to_request(
        &self,
        request: &mut Criu_req,
        direction: Direction,
    ) -> Result<Option<OwnedFd>> {
        let opts = request.opts.mut_or_insert_default();
        let lines = self.add(opts, direction)?;
        if lines.is_empty() {
            return Ok(None);
        }
        let failed = |source: std::io::Error| Error::call("memfd_create", "criu.conf", source);
        let file = rustix::fs::memfd_create("criu.conf", rustix::fs::MemfdFlags::CLOEXEC)
            .map_err(|error| failed(error.into()))?;
        let mut file = std::fs::File::from(file);
        file.write_all(lines.as_bytes()).map_err(failed)?;
        let file = OwnedFd::from(file);
        opts.set_config_file(format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()));
        Ok(Some(file))
    }

    fn add(&self, opts: &mut Criu_opts, direction: Direction) -> Result<String> {
        let mut lines = String::new();
        for given in &self.all {
            let (name, when, kind) = given.known()?;
            let other = match (when, direction) {
                (When::Dump, Direction::Restore) => Some("checkpoint"),
                (When::Restore, Direction::Dump) => Some("restore"),
                _ => None,
            };
            if let Some(other) = other {
                // A file is for both.
                if given.from.is_some() {
                    continue;
                }
                return Err(given.refused("it is of no use here", &format!("give it to `floe {other}`")));
            }
            match kind {
                Kind::Flag(set) => set(opts, given.flag()?),
                Kind::Number(set) => set(opts, given.number()?),
                Kind::Size(set) => set(opts, given.size()?),
                Kind::Text(set) => set(opts, given.text()?.to_owned()),
                Kind::Many(set) => {
                    if !set(opts, given.text()?) {
                        return Err(given.refused("its value is not understood", "see criu(8)"));
                    }
                }
                Kind::Processor => opts.set_cpu_cap(given.processor()?),
                Kind::ByFile { value: true } => lines.push_str(&format!("{name} {}\n", given.text()?)),
                Kind::ByFile { value: false } => {
                    if given.flag()? {
                        lines.push_str(&format!("{name}\n"));
                    }
                }
                Kind::Choice(_) | Kind::Passed => {}
                Kind::Owned(why) => return Err(given.refused("it is floe's own", why)),
            }
        }
        Ok(lines)
    }
}

/// The names of all options, and whether each is taken: for documents and completion.
pub fn names() -> impl Iterator<Item = (&'static str, bool)> {
    TABLE.iter().map(|(name, _, kind)| (*name, !matches!(kind, Kind::Owned(_))))
}

/// CRIU's command line has `-` in names, its RPC `_`.
fn canonical(name: &str) -> String {
    name.trim_start_matches('-').replace('_', "-")
}

impl Given {
    fn known(&self) -> Result<(&'static str, When, Kind)> {
        let found = TABLE.iter().find(|(name, ..)| *name == self.name);
        let found = found.map(|(name, when, kind)| (*name, *when, *kind));
        found.ok_or_else(|| self.refused("CRIU has no such option", "see criu(8) for their names"))
    }

    fn told(&self) -> String {
        match &self.from {
            Some((path, line)) => format!("{}:{line}: criu's option {}", path.display(), self.name),
            None => format!("criu's option {}", self.name),
        }
    }

    fn refused(&self, what: &str, hint: &str) -> Error {
        Error::Option { what: format!("{}: {what}", self.told()), hint: hint.to_owned() }
    }

    fn flag(&self) -> Result<bool> {
        match self.value.as_deref() {
            None | Some("true" | "yes" | "on" | "1") => Ok(true),
            Some("false" | "no" | "off" | "0") => Ok(false),
            Some(_) => Err(self.refused("it is yes or no", "leave its value out for yes")),
        }
    }

    fn text(&self) -> Result<&str> {
        let text = self.value.as_deref().filter(|text| !text.is_empty() && !text.contains(['\n', '\0']));
        text.ok_or_else(|| self.refused("it needs a value", "write NAME=VALUE"))
    }

    fn number(&self) -> Result<u32> {
        self.text()?.parse().map_err(|_| self.refused("its value is no number below 2^32", "see criu(8)"))
    }

    fn size(&self) -> Result<u32> {
        let text = self.text()?;
        let units = [("K", 10), ("k", 10), ("M", 20), ("m", 20), ("G", 30), ("g", 30)];
        let unit = units.iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift)));
        let (digits, shift) = unit.unwrap_or((text, 0));
        let size = digits.parse::<u64>().ok().and_then(|count| count.checked_shl(shift));
        let size = size.filter(|size| size >> shift == digits.parse().unwrap_or(0));
        size.and_then(|size| u32::try_from(size).ok())
            .ok_or_else(|| self.refused("its value is no size below 4G", "write a number, with K, M or G"))
    }

    /// As criu(8) has them: names and commas, `^` before what is left out.
    fn processor(&self) -> Result<u32> {
        let Some(text) = self.value.as_deref() else { return Ok(7) };
        if let Ok(bits) = text.parse() {
            return Ok(bits);
        }
        let mut bits = 0;
        for word in text.split(',') {
            let (without, word) = word.strip_prefix('^').map_or((false, word), |word| (true, word));
            let own = match word {
                "fpu" => 1,
                "cpu" => 2,
                "ins" => 4,
                "all" => 7,
                "none" => 0,
                _ => {
                    return Err(
                        self.refused("its value is not understood", "it is fpu, cpu, ins, all or none")
                    );
                }
            };
            match (without, word) {
                (false, "none") => bits = 0,
                (true, "none") => bits = 7,
                (false, _) => bits |= own,
                (true, _) => bits &= !own,
            }
        }
        Ok(bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;

    fn opts(words: &[&str], direction: Direction) -> Result<Criu_opts> {
        let mut opts = Criu_opts::new();
        CriuOptions::of(words).add(&mut opts, direction)?;
        Ok(opts)
    }

    fn config() -> Config {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("rootfs")).unwrap();
        let spec = r#"{"ociVersion": "1.2.0", "root": {"path": "rootfs"}, "process": {"user": {"uid": 0, "gid": 0}, "args": ["x"], "cwd": "/"}}"#;
        let path = dir.path().join("config.json");
        floe_runtime::config::oci::from_json(spec.as_bytes(), &path, dir.path()).unwrap()
    }

    #[track_caller]
    fn refused(words: &[&str], direction: Direction, part: &str) {
        let error = opts(words, direction).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }

    #[test]
    fn each_has_its_type() {
        let words = [
            "ghost-limit=2M",
            "force_irmap",
            "external=dev[8/1]:disk",
            "external=net[1]:x",
            "--timeout=20",
            "cpu-cap=all,^fpu",
        ];
        let set = opts(&words, Direction::Dump).unwrap();
        assert_eq!(
            (set.ghost_limit(), set.force_irmap(), set.timeout(), set.cpu_cap()),
            (2 << 20, true, 20, 6)
        );
        assert_eq!(set.external, ["dev[8/1]:disk", "net[1]:x"]);
        let set = opts(&["weak-sysctls", "mntns-compat-mode=yes", "evasive-devices=no"], Direction::Restore)
            .unwrap();
        assert!(
            set.weak_sysctls()
                && set.mntns_compat_mode()
                && set.has_evasive_devices()
                && !set.evasive_devices()
        );
        let set = opts(&["unix-sk-ino=77", "cgroup-root=cpu:/a", "cg_root=/b"], Direction::Dump).unwrap();
        assert_eq!((set.unix_sk_ino[0].inode(), set.ext_unix_sk()), (77, true));
        assert_eq!(
            (set.cg_root[0].ctrl(), set.cg_root[0].path(), set.cg_root[1].path()),
            ("cpu", "/a", "/b")
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        refused(&["ghost-limit=much"], Direction::Dump, "no size");
        refused(&["ghost-limit=5G"], Direction::Dump, "no size");
        refused(&["timeout"], Direction::Dump, "needs a value");
        refused(&["force-irmap=perhaps"], Direction::Dump, "yes or no");
        refused(&["no-such-thing"], Direction::Dump, "no such option");
        refused(&["images-dir=/x"], Direction::Dump, "floe's own");
        refused(&["weak-sysctls"], Direction::Dump, "`floe restore`");
        refused(&["force-irmap"], Direction::Restore, "`floe checkpoint`");
        refused(&["cgroup-root=relative"], Direction::Restore, "not understood");
        refused(&["skip-mnt=/a\nroot /"], Direction::Dump, "needs a value");
    }

    #[test]
    fn every_field_of_the_rpc_is_known() {
        use protobuf::MessageFull;
        for field in Criu_opts::descriptor().fields() {
            let name = canonical(field.name());
            assert!(
                name == FILE || TABLE.iter().any(|(known, ..)| *known == name),
                "{name} is not in the table"
            );
        }
        let mut all: Vec<_> = TABLE.iter().map(|(name, ..)| name).collect();
        all.sort_unstable();
        assert!(all.windows(2).all(|pair| pair[0] != pair[1]), "a name is there twice");
    }

    #[test]
    fn a_file_goes_the_same_way() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("criu.conf");
        std::fs::write(
            &path,
            "# ours\ntcp-established\nghost-limit 2M # large\n\nno-force-irmap\nghost-fiemap\nlog-file x\n",
        )
        .unwrap();
        let mut config = config();
        config.annotations.insert(ANNOTATION.to_owned(), path.display().to_string());
        let given = CriuOptions::of(["ghost-limit=3M"]).with_file(&config, &Silent).unwrap();
        assert_eq!(given.flags().unwrap(), Flags { tcp_established: Some(true), ..Flags::default() });
        assert_eq!((given.ghost_limit(), given.force_irmap()), (Some(3 << 20), false));
        let mut set = Criu_opts::new();
        assert_eq!(given.add(&mut set, Direction::Dump).unwrap(), "ghost-fiemap\n");
        assert!(set.has_force_irmap() && !set.force_irmap());
        // Another file, or none, by the command line.
        for words in ["config-file=", "config-file=/dev/null"] {
            assert_eq!(CriuOptions::of([words]).with_file(&config, &Silent).unwrap(), CriuOptions::default());
        }
        // What is floe's is refused by its line.
        std::fs::write(&path, "tcp-close\nnetwork-lock iptables\n").unwrap();
        let given = CriuOptions::default().with_file(&config, &Silent).unwrap();
        let error = given.check(Direction::Dump).unwrap_err().to_string();
        assert!(error.contains("criu.conf:2: criu's option network-lock"), "{error}");
        std::fs::remove_file(&path).unwrap();
        assert!(
            CriuOptions::default().with_file(&config, &Silent).is_err(),
            "a file that was named has to be there"
        );
    }
}
