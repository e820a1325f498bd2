//! A CRIU that was found, asked who it is, and fits this kernel.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rust_criu::rust_criu_protobuf::rpc::{Criu_features, Criu_opts, Criu_req, Criu_req_type};

use crate::error::{Error, Result};
use crate::failure::{Evidence, Failure};
use crate::progress::Phase;
use crate::session::{Answer, Handler, Session};
use crate::version::{OLDEST, OLDEST_FOR_VVAR_VCLOCK, Version};

/// How long a question about itself may take CRIU. It probes the kernel at its first start after a boot.
const QUESTION_LIMIT: Duration = Duration::from_secs(30);

/// A usable CRIU.
#[derive(Debug, Clone)]
pub struct Criu {
    path: PathBuf,
    version: Version,
}

/// What CRIU says this kernel offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Features {
    /// Soft-dirty tracking, which CRIU's own pre-dump needs.
    pub mem_track: bool,
    /// userfaultfd, complete enough for lazy pages.
    pub lazy_pages: bool,
    /// pidfds that survive being stored in a socket.
    pub pidfd_store: bool,
}

impl Criu {
    /// Asks the program at `path` for its version, and refuses one that cannot work here.
    ///
    /// # Errors
    /// [`Error::NotCriu`], [`Error::CriuTooOld`].
    pub fn open(path: &Path) -> Result<Self> {
        let version = ask_version(path)?;
        let too_old = |need, why| Error::CriuTooOld { path: path.to_owned(), found: version, need, why };
        if version < OLDEST {
            return Err(too_old(OLDEST, "floe"));
        }
        if version < OLDEST_FOR_VVAR_VCLOCK && has_vvar_vclock() {
            return Err(too_old(OLDEST_FOR_VVAR_VCLOCK, "the running kernel"));
        }
        Ok(Self { path: path.to_owned(), version })
    }

    /// Finds CRIU as [`crate::find::find`] does, and opens it.
    ///
    /// # Errors
    /// As [`crate::find::find`] and [`Criu::open`].
    pub fn locate(named: Option<&Path>) -> Result<Self> {
        Self::open(&crate::find::find(named)?)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Asks what the kernel offers (FEATURE_CHECK).
    ///
    /// # Errors
    /// [`Error::NotCriu`] if it does not answer.
    pub fn features(&self) -> Result<Features> {
        let mut request = Criu_req::new();
        request.set_type(Criu_req_type::FEATURE_CHECK);
        let mut wanted = Criu_features::new();
        wanted.set_mem_track(true);
        wanted.set_lazy_pages(true);
        wanted.set_pidfd_store(true);
        request.features = protobuf::MessageField::some(wanted);
        let reply = self.ask(&request)?;
        let features = reply.features.as_ref().ok_or_else(|| self.silent("FEATURE_CHECK"))?;
        Ok(Features {
            mem_track: features.mem_track(),
            lazy_pages: features.lazy_pages(),
            pidfd_store: features.pidfd_store(),
        })
    }

    /// Lets CRIU check the kernel for what a dump and a restore need at all (CHECK).
    ///
    /// # Errors
    /// [`Error::Criu`] with what is missing.
    pub fn check(&self) -> Result<()> {
        let scratch = crate::scratch::Scratch::new()?;
        let mut request = Criu_req::new();
        request.set_type(Criu_req_type::CHECK);
        let mut opts = Criu_opts::new();
        opts.set_images_dir_fd(crate::session::own_number(&scratch));
        opts.set_work_dir_fd(crate::session::own_number(&scratch));
        opts.set_log_file("check.log".to_owned());
        opts.set_log_level(2);
        request.opts = protobuf::MessageField::some(opts);
        let (session, _) = Session::spawn(&self.path, Vec::new())?;
        let outcome = session.call(&request, &mut Deaf, None, QUESTION_LIMIT)?;
        if outcome.succeeded() {
            return Ok(());
        }
        let log = scratch.read_text("check.log");
        Err(Error::Criu(Box::new(Failure::of(&Evidence {
            phase: Phase::Collect,
            errno: None,
            message: "",
            log: &log,
            stderr: &outcome.stderr,
            names: &BTreeMap::new(),
        }))))
    }

    fn ask(&self, request: &Criu_req) -> Result<rust_criu::rust_criu_protobuf::rpc::Criu_resp> {
        let (session, _) = Session::spawn(&self.path, Vec::new())?;
        let outcome = session.call(request, &mut Deaf, None, QUESTION_LIMIT)?;
        match outcome.reply {
            Some(reply) if reply.success() => Ok(reply),
            _ => Err(self.silent("a question about itself")),
        }
    }

    fn silent(&self, question: &str) -> Error {
        Error::NotCriu { path: self.path.clone(), detail: format!("no answer to {question}") }
    }
}

fn ask_version(path: &Path) -> Result<Version> {
    let mut request = Criu_req::new();
    request.set_type(Criu_req_type::VERSION);
    let (session, _) = Session::spawn(path, Vec::new())?;
    let outcome = session.call(&request, &mut Deaf, None, QUESTION_LIMIT)?;
    let words = || match outcome.stderr.lines().find(|line| !line.trim().is_empty()) {
        Some(line) => line.trim().to_owned(),
        None => outcome.death().unwrap_or_else(|| format!("it ended with {}", outcome.status)),
    };
    let version = outcome.reply.as_ref().and_then(|reply| reply.version.as_ref());
    let Some(version) = version else {
        return Err(Error::NotCriu { path: path.to_owned(), detail: words() });
    };
    let number = |value: i32| u32::try_from(value).unwrap_or(0);
    Ok(Version::new(
        number(version.major_number()),
        number(version.minor_number()),
        number(version.sublevel()),
    ))
}

/// Whether the kernel maps the vDSO's second data page (Linux 6.13 and later, and what was backported).
fn has_vvar_vclock() -> bool {
    std::fs::read_to_string("/proc/self/maps").is_ok_and(|maps| maps.contains("[vvar_vclock]"))
}

struct Deaf;

impl Handler for Deaf {
    fn notify(&mut self, _: &str, _: Option<i32>, _: Option<std::os::fd::OwnedFd>) -> Result<Answer> {
        Ok(Answer::yes())
    }

    fn phase(&self) -> Phase {
        Phase::Collect
    }
}
