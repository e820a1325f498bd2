//! What the bundle mounts and joins.

use floe_runtime::config::{MountKind, NamespaceKind};

use super::super::Finding;
use super::Arrival;

/// Sources of bind mounts.
pub(super) fn sources(arrival: &Arrival<'_>) -> Vec<Finding> {
    let Some(config) = arrival.config else { return Vec::new() };
    let mut found = Vec::new();
    if !config.rootfs.is_dir() {
        let hint = "put it back, or name another bundle with --bundle";
        found.push(Finding::general(
            "rootfs-missing",
            "the root file system is not there:",
            config.rootfs.display(),
            hint,
        ));
    }
    for mount in config.mounts.iter().filter(|mount| matches!(mount.kind, MountKind::Bind { .. })) {
        if let Some(source) = mount.source.as_ref().filter(|source| !source.exists()) {
            let what = format!("what the bundle mounts at {} is not there:", mount.destination.display());
            let hint = "make it, or change the mount in the bundle's config.json";
            found.push(Finding::general("mount-source", what, source.display(), hint));
        }
    }
    found
}

/// Namespaces that are to be joined.
pub(super) fn namespaces(arrival: &Arrival<'_>) -> Vec<Finding> {
    let Some(config) = arrival.config else { return Vec::new() };
    let mut found = Vec::new();
    for (kind, name) in [(NamespaceKind::Network, "net"), (NamespaceKind::Pid, "pid")] {
        let path = config.namespace(kind).and_then(|namespace| namespace.path.as_ref());
        let shared = arrival.shared.iter().any(|shared| shared == name);
        match path {
            Some(path) if !path.exists() => {
                let what = format!("the {name} namespace that the bundle joins is not there:");
                found.push(Finding::general(
                    "namespace-missing",
                    what,
                    path.display(),
                    "make it, or give another path in config.json",
                ));
            }
            // It is made of the configuration, as it was.
            None if kind == NamespaceKind::Network && floe_runtime::network_is_made(config) => {
                found.extend((!shared).then(network_in_images));
            }
            None if shared => {
                let what = format!("it shared its {name} namespace, and the bundle names none to join");
                let hint = "give the namespace a path in the bundle's config.json";
                found.push(Finding::general("namespace-missing", what, "", hint));
            }
            _ => {}
        }
    }
    found
}

fn network_in_images() -> Finding {
    Finding::general(
        "network-in-images",
        "its network is in its images, and the bundle has floe make one:",
        "networks, routes or linux.netDevices",
        "take those out of the bundle's configuration, or name a network namespace to join there",
    )
}

#[cfg(test)]
mod tests {
    use floe_runtime::Blueprint;
    use floe_snapshot_format::Manifest;

    use super::*;

    fn config(folder: &std::path::Path, mounts: &str) -> floe_runtime::config::Config {
        std::fs::create_dir_all(folder.join("rootfs")).unwrap();
        let text = format!(
            r#"{{"ociVersion":"1.0.2","process":{{"args":["x"],"cwd":"/","user":{{"uid":0,"gid":0}}}},"root":{{"path":"rootfs"}},
               "mounts":[{mounts}],"linux":{{"namespaces":[{{"type":"mount"}},{{"type":"pid"}}]}}}}"#
        );
        std::fs::write(folder.join("config.json"), text).unwrap();
        Blueprint::of_bundle(folder).unwrap().config
    }

    #[test]
    fn a_source_that_is_gone_is_told_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let mounts =
            r#"{"destination":"/data","type":"bind","source":"/no/such/folder","options":["rbind"]}"#;
        let config = config(folder.path(), mounts);
        let manifest = Manifest::default();
        let mut arrival = Arrival::of(&manifest);
        arrival.config = Some(&config);
        let found = sources(&arrival);
        assert_eq!((found.len(), found[0].blocker.on.as_str()), (1, "/no/such/folder"));
        assert!(namespaces(&arrival).is_empty());
        arrival.shared = vec!["net".to_owned()];
        assert_eq!(namespaces(&arrival)[0].kind, "namespace-missing");
    }
}
