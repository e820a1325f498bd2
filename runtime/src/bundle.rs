//! What containers are made of: bundles, which are folders with a `config.json`, and native configurations. Either may
//! come from anybody.

use std::fs;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::config::native::{self, ProcessArguments};
use crate::config::{Config, oci};
use crate::error::{Error, Result};

/// Name of the file with the bundle's configuration, in the bundle and in a container's folder.
pub(crate) const CONFIG_FILE: &str = "config.json";

/// Longest `config.json`, in bytes. That of ten thousand mounts has a megabyte.
const MOST_CONFIGURATION: u64 = 32 << 20;

/// What a container is made of: its configuration, as it was given and as this runtime understands it.
#[derive(Debug, Clone)]
pub struct Blueprint {
    /// The folder that it was given in, absolute: a bundle, or where a native configuration lies.
    pub bundle: PathBuf,
    /// In OCI's words.
    pub spec: Vec<u8>,
    /// As this runtime understands it.
    pub config: Config,
    /// Whether it was a native configuration: then `bundle` holds no `config.json`, or that of another container.
    pub native: bool,
}

impl Blueprint {
    /// Of an OCI bundle: a folder with a `config.json`.
    ///
    /// # Errors
    /// As [`read_bundle`]; [`Error::Missing`] without the folder.
    pub fn of_bundle(bundle: &Path) -> Result<Self> {
        let bundle = fs::canonicalize(bundle)
            .map_err(|_| Error::Missing { what: "bundle", path: bundle.to_owned() })?;
        let (spec, config) = read_bundle(&bundle)?;
        Ok(Self { bundle, spec, config, native: false })
    }

    /// Of a native configuration, the JSON of libcontainer's `Config` ([`native`]), with what is to be executed.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Json`], [`Error::BadConfig`], [`Error::Unsupported`].
    pub fn native(file: &Path, process: &ProcessArguments) -> Result<Self> {
        let missing = || Error::Missing { what: "configuration", path: file.to_owned() };
        let path = fs::canonicalize(file).map_err(|_| missing())?;
        let text = read_configuration(&path)?;
        let (spec, config) = native::from_json(&text, &path, process)?;
        let bundle = path.parent().ok_or_else(missing)?.to_owned();
        Ok(Self { bundle, spec, config, native: true })
    }
}

/// Reads a bundle's `config.json`, as it is and as this runtime understands it.
///
/// # Errors
/// [`Error::Missing`], [`Error::Json`], [`Error::BadConfig`], [`Error::Unsupported`].
pub fn read_bundle(bundle: &Path) -> Result<(Vec<u8>, Config)> {
    let path = bundle.join(CONFIG_FILE);
    let spec = read_configuration(&path)?;
    let config = oci::from_json(&spec, &path, bundle)?;
    Ok((spec, config))
}

fn read_configuration(path: &Path) -> Result<Vec<u8>> {
    // A bundle may come from anybody: this is not to wait at a fifo, nor to read a device without an end.
    let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY;
    let file = fs::File::options().read(true).custom_flags(flags).open(path).map_err(|error| match error
        .kind()
    {
        std::io::ErrorKind::NotFound => {
            Error::Missing { what: "bundle's configuration", path: path.to_owned() }
        }
        _ => Error::call("open", path.display(), error),
    })?;
    let about = file.metadata().map_err(Error::at("stat", path))?;
    if !about.is_file() || about.len() > MOST_CONFIGURATION {
        return Err(Error::Refused {
            problem: format!("{} is no file of at most {} MiB", path.display(), MOST_CONFIGURATION >> 20),
            hint: "a bundle's config.json is an ordinary file of some kilobytes",
        });
    }
    let mut spec = Vec::new();
    file.take(MOST_CONFIGURATION).read_to_end(&mut spec).map_err(Error::at("read", path))?;
    Ok(spec)
}
