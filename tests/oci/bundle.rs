//! Bundles with busybox in them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::stage::Stage;
use crate::support::tool;

/// A bundle whose container runs this shell script: `spec`'s configuration, without terminal, with a root that may be
/// written to.
pub fn shell(stage: &Stage, script: &str) -> PathBuf {
    with(stage, |config| config["process"]["args"] = json!(["sh", "-c", script]))
}

/// The same, changed.
pub fn with(stage: &Stage, change: impl FnOnce(&mut Value)) -> PathBuf {
    let bundle = stage.path().join(stage.name());
    make_rootfs(&bundle);
    stage.ok(&["spec", "--bundle", bundle.to_str().unwrap()]);
    let mut config = read(&bundle);
    config["process"]["terminal"] = json!(false);
    config["root"]["readonly"] = json!(false);
    change(&mut config);
    write(&bundle, &config);
    bundle
}

/// A bundle's configuration.
pub fn read(bundle: &Path) -> Value {
    serde_json::from_slice(&fs::read(bundle.join("config.json")).unwrap()).unwrap()
}

/// Replaces it.
pub fn write(bundle: &Path, config: &Value) {
    fs::write(bundle.join("config.json"), serde_json::to_vec_pretty(config).unwrap()).unwrap();
}

/// By the script that people use too; its configuration gives way to that of `spec`.
fn make_rootfs(bundle: &Path) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/bundle-busybox");
    tool(Command::new(script).arg(bundle));
    fs::remove_file(bundle.join("config.json")).unwrap();
}
