use serde_json::{Value, json};

use super::*;
use crate::config::{IdMapping, NO_SYMLINK_FOLLOW, Propagation};

fn convert(mount: Value) -> Result<Mount> {
    let parsed: Oci = serde_json::from_value(mount).unwrap();
    let mut all = convert_all(&[parsed], Source { file: Path::new("/b/config.json") }, Path::new("/b"))?;
    Ok(all.remove(0))
}

fn options(list: &[&str]) -> Result<Mount> {
    convert(json!({"destination": "/x", "type": "none", "source": "/s", "options": list}))
}

#[track_caller]
fn refused(mount: Value, key: &str, words: &str) {
    let error = convert(mount).unwrap_err().to_string();
    assert!(error.starts_with(&format!("mounts[0].{key} in /b/config.json")), "{error}");
    assert!(error.contains(words), "{error}");
}

#[test]
fn flags_are_set_and_cleared_and_the_last_one_counts() {
    let mount =
        options(&["bind", "ro", "nosuid", "rw", "nosymfollow", "noatime", "strictatime", "rro"]).unwrap();
    assert_eq!(mount.flags.set, MsFlags::MS_NOSUID | MsFlags::MS_STRICTATIME | NO_SYMLINK_FOLLOW);
    assert_eq!(mount.flags.clear, MsFlags::MS_RDONLY);
    assert_eq!(mount.recursive_flags.set, MsFlags::MS_RDONLY);
    let mount = options(&["bind", "nosymfollow", "symfollow", "rnosymfollow", "rsymfollow"]).unwrap();
    assert_eq!((mount.flags.set, mount.flags.clear), (MsFlags::empty(), NO_SYMLINK_FOLLOW));
    assert_eq!(mount.recursive_flags.clear, NO_SYMLINK_FOLLOW);
}

#[test]
fn what_is_mounted_is_seen_from_type_and_options() {
    assert_eq!(options(&["rbind"]).unwrap().kind, MountKind::Bind { recursive: true });
    assert_eq!(options(&["remount", "ro"]).unwrap().kind, MountKind::Remount { bind: false });
    assert_eq!(options(&["remount", "bind"]).unwrap().kind, MountKind::Remount { bind: true });
    let bind = convert(json!({"destination": "/x", "type": "bind", "source": "data"})).unwrap();
    assert_eq!(bind.kind, MountKind::Bind { recursive: false });
    assert_eq!(bind.source.as_deref(), Some(Path::new("/b/data")));
    let propagation = options(&["bind", "rslave", "unbindable"]).unwrap().propagation;
    let expected = [Propagation::Slave { recursive: true }, Propagation::Unbindable { recursive: false }];
    assert_eq!(propagation, expected);
    let tmpfs = convert(
        json!({"destination": "/x", "type": "tmpfs", "options": ["size=1m", "tmpcopyup", "huge=never"]}),
    );
    let tmpfs = tmpfs.unwrap();
    assert_eq!((tmpfs.data.as_str(), tmpfs.copy_up), ("size=1m,huge=never", true));
}

#[test]
fn destinations_are_plain() {
    let at =
        |path: &str| convert(json!({"destination": path, "type": "tmpfs"})).map(|mount| mount.destination);
    for (given, plain) in [("/a//b/./c/", "/a/b/c"), ("proc", "/proc"), ("./a", "/a")] {
        assert_eq!(at(given).unwrap(), Path::new(plain), "{given}");
    }
    for (given, words) in [("/a/../b", ".."), ("..", ".."), ("/", "root itself"), ("", "root itself")] {
        refused(json!({"destination": given, "type": "tmpfs"}), "destination", words);
    }
}

#[test]
fn ids_are_mapped_with_both_maps_or_the_containers() {
    let map = json!([{"containerID": 0, "hostID": 7, "size": 3}]);
    let bind = |change: Value| {
        let mut mount = json!({"destination": "/x", "source": "/s", "options": ["bind"]});
        mount.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        mount
    };
    let mount = convert(bind(json!({"uidMappings": map, "gidMappings": map}))).unwrap();
    let range = vec![IdMapping { container: 0, host: 7, count: 3 }];
    let maps = Some(IdMaps { uids: range.clone(), gids: range });
    assert_eq!(mount.ids, Some(MountIds { maps, recursive: false }));
    let mount = convert(bind(json!({"options": ["rbind", "ridmap"]}))).unwrap();
    assert_eq!(mount.ids, Some(MountIds { maps: None, recursive: true }));
    refused(bind(json!({"uidMappings": map})), "gidMappings", "missing");
    refused(bind(json!({"gidMappings": map})), "uidMappings", "missing");
    refused(
        json!({"destination": "/x", "type": "tmpfs", "options": ["idmap"]}),
        "uidMappings",
        "bind mounts only",
    );
}

#[test]
fn what_does_not_go_together_is_refused() {
    let bind = |options: &[&str]| json!({"destination": "/x", "source": "/s", "options": options});
    refused(bind(&["bind", "size=1m"]), "options", "\"size=1m\"");
    refused(bind(&["bind", "tmpcopyup"]), "options", "tmpcopyup");
    refused(bind(&["bind", "copy-symlink", "dest-nofollow"]), "options", "copy-symlink");
    refused(
        json!({"destination": "/x", "type": "tmpfs", "options": ["src-nofollow"]}),
        "options",
        "bind mounts",
    );
    refused(json!({"destination": "/x", "type": "bind"}), "source", "missing");
    refused(json!({"destination": "/x", "source": "/s"}), "type", "missing");
}

#[test]
fn more_mounts_than_the_kernel_makes_are_refused_at_once() {
    let one: Oci = serde_json::from_value(json!({"destination": "/x", "type": "tmpfs"})).unwrap();
    let all = vec![one; MOST_MOUNTS + 1];
    let error = convert_all(&all, Source { file: Path::new("/c") }, Path::new("/")).unwrap_err().to_string();
    assert!(error.starts_with("mounts in /c: has 100001 entries"), "{error}");
}
