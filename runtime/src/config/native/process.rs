//! What is executed: from the command line (or a caller of the library), with what the configuration says about it.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Native, user};
use crate::config::RlimitKind;
use crate::config::source::Source;
use crate::error::Result;

/// Where programs are looked for when nothing else is said.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The process of a native configuration, which is no part of it. What is left empty is the file's (`process`, which is
/// OCI's object), and else nothing, `/` or root.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct ProcessArguments {
    /// The program and its arguments.
    pub args: Vec<String>,
    /// Its environment, `NAME=VALUE` each; one without a `PATH` gets the usual.
    pub env: Vec<String>,
    /// Its working directory.
    pub cwd: Option<PathBuf>,
    /// `USER[:GROUP]`, as numbers or as names of the container's `/etc/passwd` and `/etc/group`.
    pub user: Option<String>,
    /// Whether it gets a terminal.
    pub terminal: bool,
}

/// The list of 2016, which meant all five sets, or each of them.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Capabilities {
    All(Vec<String>),
    Sets(Sets),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sets {
    #[serde(default)]
    bounding: Vec<String>,
    #[serde(default)]
    effective: Vec<String>,
    #[serde(default)]
    inheritable: Vec<String>,
    #[serde(default)]
    permitted: Vec<String>,
    #[serde(default)]
    ambient: Vec<String>,
}

impl Capabilities {
    fn in_oci_words(&self) -> Value {
        let [bounding, effective, inheritable, permitted, ambient] = match self {
            Self::All(list) => [list; 5],
            Self::Sets(sets) => {
                [&sets.bounding, &sets.effective, &sets.inheritable, &sets.permitted, &sets.ambient]
            }
        };
        json!({ "bounding": bounding, "effective": effective, "inheritable": inheritable, "permitted": permitted,
            "ambient": ambient })
    }
}

/// A limit: `{"type":7,"hard":1024,"soft":512}`.
#[derive(Debug, Deserialize)]
pub(super) struct Rlimit {
    r#type: u32,
    hard: u64,
    soft: u64,
    #[serde(flatten)]
    pub(super) unknown: Map<String, Value>,
}

impl Native {
    /// OCI's `process`. `rootfs` is where names of users are looked up.
    pub(super) fn process(
        &self,
        given: &ProcessArguments,
        rootfs: &Path,
        source: Source<'_>,
    ) -> Result<Value> {
        let mut process = self.process.clone().unwrap_or_else(|| json!({}));
        if !process.is_object() {
            return Err(source.bad("process", "must be an object, as OCI's `process`"));
        }
        if !given.args.is_empty() {
            process["args"] = json!(given.args);
        }
        let mut env: Vec<Value> = process["env"].as_array().cloned().unwrap_or_default();
        for variable in &given.env {
            let name = variable.split('=').next().unwrap_or(variable);
            env.retain(|other| other.as_str().is_none_or(|other| other.split('=').next() != Some(name)));
            env.push(json!(variable));
        }
        if !env.iter().any(|variable| variable.as_str().is_some_and(|text| text.starts_with("PATH="))) {
            env.insert(0, json!(PATH));
        }
        process["env"] = env.into();
        if let Some(cwd) = &given.cwd {
            process["cwd"] = json!(cwd);
        } else if process["cwd"].is_null() {
            process["cwd"] = json!("/");
        }
        process["terminal"] = json!(given.terminal || process["terminal"].as_bool().unwrap_or(false));
        if process["user"].is_null() {
            process["user"] = json!({ "uid": 0, "gid": 0 });
        }
        if let Some(text) = &given.user {
            process["user"] = user::resolve(text, rootfs)?;
        }
        self.groups(&mut process["user"], rootfs)?;
        self.rights(&mut process, source)?;
        Ok(process)
    }

    fn groups(&self, user: &mut Value, rootfs: &Path) -> Result<()> {
        if let Some(mask) = self.umask {
            user["umask"] = json!(mask);
        }
        if !self.additional_groups.is_empty() {
            let mut groups = user["additionalGids"].as_array().cloned().unwrap_or_default();
            for name in &self.additional_groups {
                groups.push(json!(user::group(name, rootfs)?));
            }
            user["additionalGids"] = groups.into();
        }
        Ok(())
    }

    /// What the configuration says of it goes before what `process` in the file says.
    fn rights(&self, process: &mut Value, source: Source<'_>) -> Result<()> {
        if let Some(capabilities) = &self.capabilities {
            process["capabilities"] = capabilities.in_oci_words();
        }
        if !self.rlimits.is_empty() {
            let mut rlimits = Vec::new();
            for (number, limit) in self.rlimits.iter().enumerate() {
                let kind = RlimitKind::of_number(limit.r#type).ok_or_else(|| {
                    let problem = format!("{} is no limit of setrlimit(2)", limit.r#type);
                    source.bad(format!("rlimits[{number}].type"), problem)
                })?;
                rlimits.push(json!({ "type": kind.name(), "hard": limit.hard, "soft": limit.soft }));
            }
            process["rlimits"] = rlimits.into();
        }
        if let Some(score) = self.oom_score_adj {
            process["oomScoreAdj"] = json!(score);
        }
        if self.no_new_privileges {
            process["noNewPrivileges"] = json!(true);
        }
        for (name, text) in
            [("apparmorProfile", &self.apparmor_profile), ("selinuxLabel", &self.process_label)]
        {
            if !text.is_empty() {
                process[name] = json!(text);
            }
        }
        Ok(())
    }
}
