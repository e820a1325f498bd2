//! What this host remembers of a snapshot, and the snapshot must not say.
//!
//! A snapshot may come from anywhere, so no path in it is opened on this host. Where it was made here, though, its
//! owner expects it back without naming everything again: the bundle, the log files that were open. For that a small
//! record is written beside the container states when a snapshot is made. It outlives `delete`. It is found by the
//! snapshot's id and believed only when it also holds the digest of the container's configuration.
//!
//! With the default root, which a reboot empties, records are in `/var/lib/floe/records`; another root keeps its own
//! in `@records` (no container can have that name).

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use floe_runtime::config::{Config, MountKind, Resources};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::leftover::Watch;
use crate::outside::rules::Lock;

/// Most records that are kept; the oldest go first. Each is a few kilobytes.
const KEPT: usize = 4096;

/// Longest record that is read back.
const SIZE_LIMIT: u64 = 16 << 20;

/// One record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The id of the snapshot.
    pub snapshot: String,
    /// The container that it was made of.
    pub container: String,
    /// Its bundle.
    pub bundle: PathBuf,
    /// Its configuration, where it was not made of that bundle's `config.json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub native: Option<Native>,
    /// BLAKE3 of the OCI configuration, as the snapshot has it.
    pub spec_digest: String,
    /// BLAKE3 of the snapshot's manifest, which stands for all of it.
    #[serde(default)]
    pub manifest: String,
    /// The sources of its bind mounts by their places in it: `restore --map` may have made them others than the bundle's.
    #[serde(default)]
    pub binds: BTreeMap<PathBuf, PathBuf>,
    /// Its limits as they were: `update` may have made them others than the bundle's.
    #[serde(default)]
    pub resources: Option<Resources>,
    /// Host files by CRIU's key.
    pub files: BTreeMap<String, PathBuf>,
    /// Inode numbers of those files, to tell a file from another that took its name.
    pub inodes: BTreeMap<String, u64>,
}

/// A container that was made of a native configuration, and of what was typed behind its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Native {
    /// In OCI's words, as the snapshot has it.
    pub spec: String,
    /// As the runtime understands it.
    pub config: Config,
}

/// The sources of a configuration's bind mounts by their places.
pub(crate) fn binds(config: &Config) -> BTreeMap<PathBuf, PathBuf> {
    let binds = config.mounts.iter().filter(|mount| matches!(mount.kind, MountKind::Bind { .. }));
    binds.filter_map(|mount| Some((mount.destination.clone(), mount.source.clone()?))).collect()
}

/// The records of one state root.
#[derive(Debug, Clone)]
pub struct Records(PathBuf);

impl Records {
    /// Those that belong to the state root `root`.
    pub fn of(root: &Path) -> Self {
        if root == Path::new(floe_runtime::DEFAULT_ROOT) {
            Self(PathBuf::from("/var/lib/floe/records"))
        } else {
            Self(root.join("@records"))
        }
    }

    /// Where the logs of failures are kept: beside the records.
    pub fn failures(&self) -> PathBuf {
        let name = if self.0.ends_with("@records") { "@failures" } else { "failures" };
        self.0.with_file_name(name)
    }

    /// Does what floes that were killed while CRIU worked could not do any more.
    pub fn sweep(&self) {
        crate::leftover::sweep(&self.0);
    }

    /// Notes that a CRIU begins its work.
    pub(crate) fn watch(&self, lock_of_network: Option<Lock>) -> Result<Watch> {
        self.make_folder()?;
        Watch::begin(&self.0, lock_of_network)
    }

    fn make_folder(&self) -> Result<()> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0);
        made.map_err(|source| Error::call("mkdir", &self.0, source))
    }

    /// Keeps `record`, whole or not at all.
    ///
    /// # Errors
    /// [`Error::Call`] if it cannot be written.
    pub fn keep(&self, record: &Record) -> Result<()> {
        let dir = &self.0;
        self.make_folder()?;
        let path = self.path(&record.snapshot)?;
        let text = serde_json::to_vec_pretty(record)
            .map_err(|source| Error::call("encode", &path, std::io::Error::from(source)))?;
        let written = || -> std::io::Result<()> {
            let mut file = tempfile::Builder::new().prefix(".record").tempfile_in(dir)?;
            file.write_all(&text)?;
            file.as_file().sync_all()?;
            file.persist(&path).map_err(|error| error.error)?;
            fs::File::open(dir)?.sync_all()
        };
        written().map_err(|source| Error::call("write", &path, source))?;
        self.prune();
        Ok(())
    }

    /// The record of `snapshot`, if this host has one.
    ///
    /// # Errors
    /// [`Error::Call`] if it is there and cannot be read.
    pub fn find(&self, snapshot: &str) -> Result<Option<Record>> {
        let path = self.path(snapshot)?;
        let read = || -> std::io::Result<Vec<u8>> {
            use std::io::Read;
            let mut bytes = Vec::new();
            fs::File::open(&path)?.take(SIZE_LIMIT).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        match read() {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|source| Error::call("parse", &path, std::io::Error::from(source))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::call("read", &path, source)),
        }
    }

    /// Counts a restore of `snapshot` on this host, and returns its number; the first is 1. No two restores get the same, be
    /// they at the same time.
    ///
    /// # Errors
    /// [`Error::Call`] if the count cannot be kept.
    pub fn next_clone(&self, snapshot: &str) -> Result<u64> {
        self.make_folder()?;
        let path = self.path(snapshot)?.with_extension("clones");
        let failed = |call| move |source: std::io::Error| (call, source);
        let count = || -> std::result::Result<u64, (&'static str, std::io::Error)> {
            use std::io::{Read, Seek};
            let file = fs::File::options().read(true).write(true).create(true).truncate(false).open(&path);
            let mut file = file.map_err(failed("open"))?;
            rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)
                .map_err(|errno| ("flock", errno.into()))?;
            let mut text = String::new();
            (&file).take(32).read_to_string(&mut text).map_err(failed("read"))?;
            // A count that was cut off by a full disk is none; it was never given away then.
            let number = text.trim().parse::<u64>().unwrap_or_default().saturating_add(1);
            file.rewind().map_err(failed("seek"))?;
            writeln!(file, "{number}").map_err(failed("write"))?;
            Ok(number)
        };
        count().map_err(|(call, source)| Error::call(call, &path, source))
    }

    /// Forgets `snapshot`. That it was never known is no failure.
    pub fn forget(&self, snapshot: &str) {
        if let Ok(path) = self.path(snapshot) {
            let _ = fs::remove_file(path.with_extension("clones"));
            let _ = fs::remove_file(path);
        }
    }

    /// A snapshot's id is data from outside: only hexadecimal digits become a file name.
    fn path(&self, snapshot: &str) -> Result<PathBuf> {
        if snapshot.is_empty()
            || snapshot.len() > 64
            || !snapshot.bytes().all(|byte| byte.is_ascii_hexdigit())
        {
            return Err(Error::Unfit {
                what: "its id is not a row of hexadecimal digits".to_owned(),
                hint: "it was not made by floe".to_owned(),
            });
        }
        Ok(self.0.join(format!("{snapshot}.json")))
    }

    fn prune(&self) {
        let Ok(entries) = fs::read_dir(&self.0) else { return };
        let mut all: Vec<_> = entries
            .flatten()
            .filter(|entry| entry.path().extension().is_some_and(|kind| kind == "json"))
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        if all.len() > KEPT {
            all.sort();
            for (_, path) in all.iter().take(all.len() - KEPT) {
                let _ = fs::remove_file(path.with_extension("clones"));
                let _ = fs::remove_file(path);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_clone_has_a_number_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records(dir.path().to_owned());
        let numbers = std::thread::scope(|scope| {
            let one = || (0..8).map(|_| records.next_clone("ab").unwrap()).collect::<Vec<_>>();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(one)).collect();
            let mut all: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
            all.sort_unstable();
            all
        });
        assert_eq!(numbers, (1..=32).collect::<Vec<_>>());
        assert_eq!(records.next_clone("cd").unwrap(), 1);
        assert!(records.next_clone("../x").is_err());
    }

    fn record(snapshot: &str) -> Record {
        Record {
            snapshot: snapshot.to_owned(),
            container: "web".to_owned(),
            native: None,
            bundle: PathBuf::from("/srv/web"),
            spec_digest: "00".to_owned(),
            manifest: "11".to_owned(),
            binds: BTreeMap::from([(PathBuf::from("/data"), PathBuf::from("/srv/data"))]),
            resources: Some(Resources { pids: Some(7), ..Default::default() }),
            files: BTreeMap::from([("file[1d:2]".to_owned(), PathBuf::from("/var/log/web"))]),
            inodes: BTreeMap::from([("file[1d:2]".to_owned(), 2)]),
        }
    }

    #[test]
    fn a_record_is_found_by_its_snapshot_until_it_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::of(dir.path());
        assert_eq!(records.find("ab12").unwrap(), None);
        records.keep(&record("ab12")).unwrap();
        assert_eq!(records.find("ab12").unwrap(), Some(record("ab12")));
        records.forget("ab12");
        assert_eq!(records.find("ab12").unwrap(), None);
    }

    #[test]
    fn an_id_cannot_lead_out_of_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::of(dir.path());
        for id in ["", "../x", "a/b", "ZZ"] {
            assert!(records.find(id).is_err(), "{id}");
        }
    }
}
