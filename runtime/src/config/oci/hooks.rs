//! The six kinds of hooks.

use std::time::Duration;

use oci_spec::runtime::{Hook as Oci, Spec};

use super::Source;
use crate::config::{Hook, Hooks};
use crate::error::Result;

pub(super) fn convert(spec: &Spec, source: Source<'_>) -> Result<Hooks> {
    let Some(hooks) = spec.hooks() else { return Ok(Hooks::default()) };
    #[allow(deprecated, reason = "what network and device tools still use")]
    let prestart = hooks.prestart();
    Ok(Hooks {
        prestart: list(prestart, "prestart", source)?,
        create_runtime: list(hooks.create_runtime(), "createRuntime", source)?,
        create_container: list(hooks.create_container(), "createContainer", source)?,
        start_container: list(hooks.start_container(), "startContainer", source)?,
        poststart: list(hooks.poststart(), "poststart", source)?,
        poststop: list(hooks.poststop(), "poststop", source)?,
    })
}

fn list(given: &Option<Vec<Oci>>, kind: &str, source: Source<'_>) -> Result<Vec<Hook>> {
    let convert = |(number, hook)| one(hook, &format!("hooks.{kind}[{number}]"), source);
    given.iter().flatten().enumerate().map(convert).collect()
}

fn one(hook: &Oci, key: &str, source: Source<'_>) -> Result<Hook> {
    if !hook.path().is_absolute() {
        return Err(source.bad(format!("{key}.path"), "must be absolute"));
    }
    let timeout = match hook.timeout() {
        Some(seconds) if seconds <= 0 => {
            return Err(source.bad(format!("{key}.timeout"), "must be above 0"));
        }
        Some(seconds) => Some(Duration::from_secs(seconds.unsigned_abs())),
        None => None,
    };
    Ok(Hook {
        path: hook.path().clone(),
        args: hook.args().clone().unwrap_or_default(),
        env: hook.env().clone().unwrap_or_default(),
        dir: None,
        timeout,
    })
}
