//! Users and groups by the names that a container's own files give them. `passwd(5)`, `group(5)`.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use serde_json::{Value, json};

use crate::error::{Error, Result};

/// Most of a file that is read, in bytes. An image that has more users is no reason to fill the memory.
const MOST: u64 = 4 << 20;

/// `USER[:GROUP]` as OCI's `user`. A user by name has the groups that the container's `/etc/group` gives; a number that
/// `/etc/passwd` does not know has group 0.
pub(super) fn resolve(text: &str, rootfs: &Path) -> Result<Value> {
    let (user, group_name) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    let passwd = read(rootfs, "etc/passwd")?;
    let entry = passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.len() >= 4 && (fields[0] == user || fields[2] == user));
    let number = |text: &str| text.parse::<u32>().ok();
    let known = entry.as_ref().and_then(|fields| Some((number(fields[2])?, number(fields[3])?)));
    let (uid, own_gid) = match known {
        Some(ids) => ids,
        None => (number(user).ok_or_else(|| unknown("user", user, "etc/passwd"))?, 0),
    };
    let mut resolved = json!({ "uid": uid, "gid": own_gid });
    match group_name.filter(|name| !name.is_empty()) {
        Some(name) => resolved["gid"] = json!(group(name, rootfs)?),
        None => {
            let name = entry.as_ref().map_or(user, |fields| fields[0]);
            let groups = memberships(&read(rootfs, "etc/group")?, name);
            if !groups.is_empty() {
                resolved["additionalGids"] = json!(groups);
            }
        }
    }
    Ok(resolved)
}

/// A group, as a number or by its name.
pub(super) fn group(name: &str, rootfs: &Path) -> Result<u32> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let text = read(rootfs, "etc/group")?;
    text.lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.first() == Some(&name))
        .and_then(|fields| fields.get(2)?.parse().ok())
        .ok_or_else(|| unknown("group", name, "etc/group"))
}

fn memberships(groups: &str, user: &str) -> Vec<u32> {
    groups
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let member = fields.get(3)?.split(',').any(|member| member == user);
            fields.get(2)?.parse().ok().filter(|_| member)
        })
        .collect()
}

fn unknown(what: &str, name: &str, file: &str) -> Error {
    Error::Refused {
        problem: format!("there is no {what} {name:?} in /{file} of the container"),
        hint: "write the number",
    }
}

/// Reads a file of the image: no link leads out of it, and only an ordinary file is opened. One that isn't there is empty.
fn read(rootfs: &Path, file: &str) -> Result<String> {
    let shown = rootfs.join(file);
    let root = openat(CWD, rootfs, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(Error::at("open", rootfs))?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let beneath = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    let opened = match openat2(&root, file, flags, Mode::empty(), beneath) {
        Ok(opened) => File::from(opened),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(String::new()),
        Err(errno) => return Err(Error::call("open", shown.display(), errno)),
    };
    if !opened.metadata().map_err(Error::at("stat", &shown))?.is_file() {
        return Err(Error::Refused {
            problem: format!("{} is no ordinary file", shown.display()),
            hint: "write users and groups as numbers, or repair the image",
        });
    }
    let mut bytes = Vec::new();
    opened.take(MOST).read_to_end(&mut bytes).map_err(Error::at("read", &shown))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> tempfile::TempDir {
        let image = tempfile::tempdir().unwrap();
        std::fs::create_dir(image.path().join("etc")).unwrap();
        let passwd = "root:x:0:0:root:/root:/bin/sh\nada:x:1001:100::/home/ada:/bin/sh\nbroken\n";
        std::fs::write(image.path().join("etc/passwd"), passwd).unwrap();
        let group = "root:x:0:\nusers:x:100:\nwheel:x:10:root,ada\n";
        std::fs::write(image.path().join("etc/group"), group).unwrap();
        image
    }

    #[test]
    fn names_and_numbers_are_looked_up() {
        let image = image();
        let of = |text: &str| resolve(text, image.path()).unwrap();
        assert_eq!(of("ada"), json!({ "uid": 1001, "gid": 100, "additionalGids": [10] }));
        assert_eq!(of("1001"), of("ada"));
        assert_eq!(of("ada:users"), json!({ "uid": 1001, "gid": 100 }));
        assert_eq!(of("ada:7"), json!({ "uid": 1001, "gid": 7 }));
        assert_eq!(of("4711"), json!({ "uid": 4711, "gid": 0 }));
        assert!(resolve("eve", image.path()).unwrap_err().to_string().contains("\"eve\""));
        assert!(resolve("ada:eve", image.path()).unwrap_err().to_string().contains("group"));
    }

    #[test]
    fn the_hosts_files_are_not_read_through_a_link() {
        let image = image();
        std::fs::remove_file(image.path().join("etc/passwd")).unwrap();
        std::os::unix::fs::symlink("/etc/shadow", image.path().join("etc/passwd")).unwrap();
        assert!(resolve("root", image.path()).is_err(), "beneath the root there is no such file");
        std::fs::remove_file(image.path().join("etc/passwd")).unwrap();
        nix::unistd::mkfifo(&image.path().join("etc/passwd"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(resolve("root", image.path()).unwrap_err().to_string().contains("no ordinary file"));
    }
}
