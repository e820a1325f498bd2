//! Asks the reader of bundles what it takes.

use std::path::Path;

use serde_json::{Value, json};

use crate::config::oci;

/// The reader of bundles.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader;

impl Reader {
    /// Those of `names` that it takes, in the configuration that `with` makes of one.
    pub(super) fn known<const N: usize>(
        self,
        names: [&'static str; N],
        with: impl Fn(&str) -> Value,
    ) -> Vec<&'static str> {
        names.into_iter().filter(|name| self.takes(&with(name))).collect()
    }

    /// Whether it takes an ordinary configuration with `change` in it.
    pub(super) fn takes(self, change: &Value) -> bool {
        let mut spec = ordinary();
        merge(&mut spec, change);
        // What is named there need not exist but for the root file system: nothing is looked at but the text.
        oci::from_json(spec.to_string().as_bytes(), Path::new("config.json"), Path::new("/")).is_ok()
    }
}

/// A configuration that is taken. Its root is a folder that every host of containers has.
fn ordinary() -> Value {
    let namespaces = ["pid", "network", "ipc", "uts", "mount"].map(|kind| json!({ "type": kind }));
    json!({
        "ociVersion": crate::OCI_VERSION,
        "process": { "args": ["true"], "cwd": "/", "user": { "uid": 0, "gid": 0 } },
        "root": { "path": "/proc" },
        "linux": { "namespaces": namespaces },
    })
}

/// Puts `change` into `spec`, key by key.
fn merge(spec: &mut Value, change: &Value) {
    match (spec, change) {
        (Value::Object(spec), Value::Object(change)) => {
            for (key, value) in change {
                merge(spec.entry(key.as_str()).or_insert(Value::Null), value);
            }
        }
        (spec, change) => *spec = change.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_is_told_from_what_is_taken() {
        assert!(Reader.takes(&json!({})), "the ordinary configuration");
        assert!(Reader.takes(&json!({ "process": { "noNewPrivileges": true } })));
        assert!(!Reader.takes(&json!({ "linux": { "namespaces": [{ "type": "nothing" }] } })));
        assert!(!Reader.takes(&json!({ "process": { "cwd": 7 } })));
    }

    #[test]
    fn a_change_leaves_its_neighbours() {
        let mut spec = json!({ "a": { "b": 1, "c": [1, 2] }, "d": 3 });
        merge(&mut spec, &json!({ "a": { "c": [4] }, "e": { "f": 5 } }));
        assert_eq!(spec, json!({ "a": { "b": 1, "c": [4] }, "d": 3, "e": { "f": 5 } }));
    }
}
