//! A manifest for images that floe did not write: what they tell themselves.

use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;

use super::{BESIDE, IMAGES};
use crate::criu::{files, ids, memory, pagemap, sockets, stats, tasks};
use crate::error::{Error, Result};
use crate::manifest::{Container, Cpu, Manifest, Member, MemberKind, Stats, Task, Tool};
use crate::name::MemberName;
use crate::{FORMAT_VERSION, limits};

/// Opens a file of the folder.
type Open<'a> = dyn Fn(&str) -> std::io::Result<File> + 'a;

/// The text of a manifest for the folder `path`.
pub(super) fn manifest(path: &Path, open: &Open<'_>) -> Result<Vec<u8>> {
    let members = members(path, open)?;
    let read = |name: &str| {
        let file = open(name).ok()?;
        super::source::read_limited(file, limits::IMAGE as u64, &path.join(name)).ok()
    };
    let manifest = of_images(members, &read)?;
    serde_json::to_vec(&manifest).map_err(|source| Error::io("encode for", path, source.into()))
}

fn members(path: &Path, open: &Open<'_>) -> Result<Vec<Member>> {
    match open("inventory.img") {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(Error::NoImages { path: path.to_owned() });
        }
        Err(source) => return Err(Error::io("open", &path.join("inventory.img"), source)),
    }
    let failed = |source| Error::io("read", path, source);
    let mut members = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        let member = match name.as_str() {
            name if name.ends_with(".img") || name == "descriptors.json" => format!("{IMAGES}/{name}"),
            name if BESIDE.contains(&name) => name.to_owned(),
            _ => continue,
        };
        let file = open(&name).map_err(|source| Error::io("open", &path.join(&name), source))?;
        let size = file.metadata().map_err(failed)?.len();
        members.push(member_of(&member, size)?);
        if members.len() > limits::MEMBERS {
            return Err(Error::Limit { what: "the number of members", limit: limits::MEMBERS as u64 });
        }
    }
    members.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(members)
}

/// A member whose digest nobody knows.
pub(crate) fn member_of(name: &str, size: u64) -> Result<Member> {
    let (name, digest) = (MemberName::new(name)?, String::new());
    Ok(Member { name, kind: MemberKind::File, mode: 0o600, offset: 0, size, digest, of_frames: false })
}

/// A manifest that says what the images say. `read` finds them by their names in `checkpoint/`, and what lies beside that.
pub(crate) fn of_images(members: Vec<Member>, read: &tasks::Images<'_>) -> Result<Manifest> {
    let mut manifest = Manifest {
        format: FORMAT_VERSION,
        tool: Tool { name: "criu".to_owned(), version: String::new() },
        // Images of another machine have other registers, and CRIU says so.
        cpu: Cpu { architecture: std::env::consts::ARCH.to_owned(), ..Cpu::default() },
        container: Container::default(),
        tasks: task_list(read)?,
        stats: match read("stats-dump") {
            Some(image) => stats::decode(&image)?.unwrap_or_default(),
            None => Stats::default(),
        },
        members,
        ..Manifest::default()
    };
    if let Some(image) = read("files.img") {
        manifest.files = files::files(&image)?;
        manifest.sockets = sockets::decode(&image)?;
    }
    let mut hasher = blake3::Hasher::new();
    if let Some(image) = read("inventory.img") {
        manifest.container.security_module = ids::inventory(&image)?.security_module;
        hasher.update(&image);
    }
    for name in ["pstree.img", "files.img"] {
        hasher.update(&read(name).unwrap_or_default());
    }
    // Not drawn at random, so that it is the same whenever it is opened; nobody can choose one that is taken.
    manifest.snapshot = hasher.finalize().to_hex()[..32].to_owned();
    Ok(manifest)
}

fn task_list(read: &tasks::Images<'_>) -> Result<Vec<Task>> {
    let mut found = tasks::tree(read)?;
    for task in &mut found {
        let Some(map) = read(&format!("pagemap-{}.img", task.pid)) else { continue };
        let (pages_id, runs) = pagemap::decode(&map)?;
        task.bytes = present(&runs);
        task.pages = Some(format!("{IMAGES}/pages-{pages_id}.img"));
        let name = format!("mm-{}.img", task.pid);
        if let Some(image) = read(&name) {
            task.areas = memory::areas(&name, &image, &runs)?;
        }
    }
    Ok(found)
}

/// Bytes that a page image has to have.
fn present(runs: &[pagemap::Run]) -> u64 {
    let pages: u64 = runs.iter().filter(|run| run.flags & 4 != 0).map(|run| run.pages).sum();
    pages.saturating_mul(4096)
}

/// Whether each page image is as long as its map says: what can be checked without digests.
pub(crate) fn check(manifest: &Manifest, read: &tasks::Images<'_>) -> Result<()> {
    for member in &manifest.members {
        let Some(name) = member.name.as_str().strip_prefix("checkpoint/pagemap-") else { continue };
        let image = format!("pagemap-{name}");
        let Some(bytes) = read(&image) else { continue };
        let (pages_id, runs) = pagemap::decode(&bytes)?;
        let pages = format!("{IMAGES}/pages-{pages_id}.img");
        let found = manifest.members.iter().find(|member| member.name.as_str() == pages);
        let (size, needed) = (found.map_or(0, |member| member.size), present(&runs));
        if size != needed {
            return Err(Error::BadImage {
                image: format!("pages-{pages_id}.img"),
                what: format!("it has {size} bytes, and {image} needs {needed}"),
            });
        }
    }
    Ok(())
}
