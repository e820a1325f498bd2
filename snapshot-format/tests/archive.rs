//! The archive from outside: what goes in comes out, what is damaged is found, and other readers read it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by a panic")]

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use floe_snapshot_format::{
    Archive, ArchiveFile, Error, FORMAT_VERSION, Head, Manifest, MemberName, Sink, Source, Tool, Unheard,
    WriterOptions,
};

fn name(text: &str) -> MemberName {
    MemberName::new(text).unwrap()
}

fn head() -> Head {
    Head {
        format: FORMAT_VERSION,
        kind: "floe-archive".into(),
        snapshot: "00112233445566778899aabbccddeeff".into(),
        container: "web".into(),
        created: "2026-11-24T00:00:00Z".into(),
        tool: Tool { name: "floe".into(), version: "0.1.0".into() },
        extra: serde_json::Map::new(),
    }
}

fn manifest() -> Manifest {
    let head = head();
    Manifest {
        format: head.format,
        snapshot: head.snapshot,
        created: head.created,
        tool: head.tool,
        ..Manifest::default()
    }
}

/// Numbers that look random and are the same each time.
fn noise(mut seed: u64) -> impl FnMut() -> u64 {
    move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    }
}

fn pages(count: usize, seed: u64) -> Vec<u8> {
    let mut next = noise(seed | 1);
    let mut bytes = Vec::with_capacity(count * 4096);
    for page in 0..count {
        if page % 2 == 0 {
            (0..512).for_each(|_| bytes.extend_from_slice(&next().to_le_bytes()));
        } else {
            bytes.resize(bytes.len() + 4096, page as u8);
        }
    }
    bytes
}

fn write(path: &Path, page_bytes: &[u8], options: WriterOptions) {
    let mut archive = ArchiveFile::create(path, &head(), options).unwrap();
    archive.add(&name("config.dump"), 0o600, b"{}").unwrap();
    archive.add_directory(&name("checkpoint"), 0o755).unwrap();
    archive.begin(&name("checkpoint/pages-1.img"), 0o600).unwrap();
    archive.append(page_bytes).unwrap();
    archive.end().unwrap();
    archive.begin(&name("checkpoint/pages-2.img"), 0o600).unwrap();
    archive.end().unwrap();
    archive.add(&name("checkpoint/inventory.img"), 0o600, &[9; 700]).unwrap();
    archive.complete(manifest()).unwrap().publish().unwrap();
}

fn small_frames() -> WriterOptions {
    WriterOptions { frame_size: 4096, workers: 2, ..WriterOptions::default() }
}

struct Place {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("web.tar.zst");
    Place { _dir: dir, path }
}

/// Members of random sizes, small ones and grown ones by turns, in pieces of random sizes, come back whole.
#[test]
fn members_of_any_size_come_back() {
    let place = place();
    let mut next = noise(77);
    for round in 0..40 {
        let options = WriterOptions {
            frame_size: 4096 << (next() % 4),
            workers: 1 + (next() % 4) as usize,
            ..small_frames()
        };
        let mut archive = ArchiveFile::create(&place.path, &head(), options).unwrap();
        let mut written = Vec::new();
        for number in 0..next() % 12 {
            let member = name(&format!("folder/member-{number}"));
            let size = (next() % (1 << (next() % 18))) as usize;
            let content: Vec<u8> = pages(size.div_ceil(4096), next()).drain(..size).collect();
            if next().is_multiple_of(2) {
                archive.add(&member, 0o640, &content).unwrap();
            } else {
                archive.begin(&member, 0o600).unwrap();
                let mut left = &content[..];
                while !left.is_empty() {
                    let room = archive.room().unwrap();
                    let (now, later) =
                        left.split_at((1 + next() as usize % 50_000).min(left.len()).min(room.len()));
                    room[..now.len()].copy_from_slice(now);
                    archive.advance(now.len()).unwrap();
                    left = later;
                }
                archive.end().unwrap();
            }
            written.push((member, content));
        }
        let sealed = archive.complete(manifest()).unwrap().publish().unwrap();
        let archive = Archive::open(&place.path).unwrap();
        for (member, content) in &written {
            assert!(archive.read(member).unwrap() == *content, "round {round}: {member}");
        }
        let verified = archive.verify(&Unheard).unwrap();
        assert_eq!(verified.members, written.len() as u64 + 3);
        assert_eq!((verified.frames, verified.bytes), (sealed.frames, sealed.bytes));
        assert_eq!(verified.plain_bytes, sealed.plain_bytes);
    }
}

/// More frames than a block of the index describes: the index is read in parts.
#[test]
fn an_index_of_many_blocks_is_read_in_parts() {
    let place = place();
    let bytes = pages(2100, 5);
    write(&place.path, &bytes, small_frames());
    let archive = Archive::open(&place.path).unwrap();
    assert_eq!(archive.manifest().index.parts.len(), 1 + 3);
    let index = archive.read(&name("floe-index")).unwrap();
    assert_eq!(index.len() as u64, archive.member(&name("floe-index")).unwrap().size);

    // A block that is damaged is in the way of the frames that it describes, and of no others.
    let block = &archive.manifest().index.parts[3];
    let file = std::fs::OpenOptions::new().write(true).open(&place.path).unwrap();
    file.write_all_at(&[0], block.offset + u64::from(block.packed) / 2).unwrap();
    let archive = Archive::open(&place.path).unwrap();
    let member = archive.member(&name("checkpoint/pages-1.img")).unwrap();
    let mut page = [0; 4096];
    archive.read_at(member, 0, &mut page).unwrap();
    assert_eq!(page, bytes[..4096]);
    let error = archive.read_at(member, 2099 * 4096, &mut page).unwrap_err();
    assert!(error.is_damage() && error.to_string().contains("the index"), "{error}");
    assert!(archive.verify(&Unheard).unwrap_err().is_damage());
}

#[test]
fn what_goes_in_comes_out() {
    let place = place();
    for count in [0, 1, 2, 31, 32, 33, 100] {
        let bytes = pages(count, count as u64 + 1);
        write(&place.path, &bytes, WriterOptions::default());
        let archive = Archive::open(&place.path).unwrap();
        assert_eq!(archive.head().container, "web");
        assert_eq!(archive.read(&name("config.dump")).unwrap(), b"{}");
        assert_eq!(archive.read(&name("checkpoint/pages-1.img")).unwrap(), bytes);
        assert_eq!(archive.read(&name("checkpoint/pages-2.img")).unwrap(), b"");
        assert_eq!(archive.read(&name("checkpoint/inventory.img")).unwrap(), [9; 700]);
        archive.verify(&Unheard).unwrap();
    }
}

#[test]
fn any_piece_of_a_member_is_read_by_itself() {
    let place = place();
    let bytes = pages(20, 3);
    write(&place.path, &bytes, small_frames());
    let archive = Archive::open(&place.path).unwrap();
    let member = archive.member(&name("checkpoint/pages-1.img")).unwrap();
    let mut next = noise(5);
    for _ in 0..200 {
        let from = (next() % bytes.len() as u64) as usize;
        let length = (next() % (bytes.len() - from) as u64) as usize;
        let mut buffer = vec![0; length];
        archive.read_at(member, from as u64, &mut buffer).unwrap();
        assert_eq!(buffer, bytes[from..from + length]);
    }
    assert!(archive.read_at(member, member.size, &mut [0]).is_err());
}

#[test]
fn members_are_unpacked_to_files() {
    let place = place();
    let bytes = pages(50, 8);
    write(&place.path, &bytes, small_frames());
    let archive = Archive::open(&place.path).unwrap();
    let out = tempfile::tempdir().unwrap();
    let wanted = |member: &floe_snapshot_format::Member| member.name.as_str().starts_with("checkpoint/");
    let mut make = |member: &floe_snapshot_format::Member| {
        std::fs::File::create(out.path().join(member.name.as_str().trim_start_matches("checkpoint/")))
    };
    archive.unpack(&wanted, &mut make, &Unheard).unwrap();
    assert_eq!(std::fs::read(out.path().join("pages-1.img")).unwrap(), bytes);
    assert_eq!(std::fs::read(out.path().join("inventory.img")).unwrap(), [9; 700]);
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 3);
}

/// Opens and verifies; what a caller does before it starts anything.
fn check(path: &Path) -> Result<(), Error> {
    Archive::open(path)?.verify(&Unheard).map(drop)
}

#[test]
fn every_flipped_bit_is_found() {
    let place = place();
    write(&place.path, &pages(2, 1), small_frames());
    check(&place.path).unwrap();
    let mut good = std::fs::read(&place.path).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&place.path).unwrap();
    for at in 0..good.len() {
        for bit in 0..8 {
            good[at] ^= 1 << bit;
            file.write_all_at(&good[at..=at], at as u64).unwrap();
            match check(&place.path) {
                Err(error) if error.is_damage() => {}
                other => panic!("bit {bit} flipped at byte {at} of {}: {other:?}", good.len()),
            }
            good[at] ^= 1 << bit;
        }
        file.write_all_at(&good[at..=at], at as u64).unwrap();
    }
    check(&place.path).unwrap();
}

#[test]
fn every_cut_is_found() {
    let place = place();
    write(&place.path, &pages(4, 1), small_frames());
    let good = std::fs::read(&place.path).unwrap();
    for end in 0..good.len() {
        std::fs::write(&place.path, &good[..end]).unwrap();
        match check(&place.path) {
            Err(error) if error.is_damage() => {}
            other => panic!("cut at byte {end} of {}: {other:?}", good.len()),
        }
    }
    let mut longer = good.clone();
    longer.push(0);
    std::fs::write(&place.path, &longer).unwrap();
    assert!(check(&place.path).unwrap_err().is_damage());
}

#[test]
fn damage_is_told_with_its_place() {
    let place = place();
    write(&place.path, &pages(4, 1), small_frames());
    let mut bytes = std::fs::read(&place.path).unwrap();
    let mid =
        bytes.windows(4).enumerate().filter(|(_, four)| *four == [0x28, 0xb5, 0x2f, 0xfd]).nth(3).unwrap().0;
    bytes[mid + 20] ^= 0x10;
    std::fs::write(&place.path, &bytes).unwrap();
    let error = check(&place.path).unwrap_err().to_string();
    assert!(error.contains(&format!("damaged at byte {mid}: frame 3 (checkpoint/pages-1.img)")), "{error}");
}

#[test]
fn other_files_are_told_apart() {
    let place = place();
    let said = |bytes: &[u8]| {
        std::fs::write(&place.path, bytes).unwrap();
        match Archive::open(&place.path) {
            Err(Error::NotAFloeArchive { what, .. }) => what,
            other => panic!("{other:?}"),
        }
    };
    assert!(said(b"").contains("empty"));
    assert!(said(&[0x1f, 0x8b, 8, 0, 0]).contains("gzip"));
    assert!(said(b"hello").contains("no zstd"));
    let mut tar = [0; 1024];
    tar[257..262].copy_from_slice(b"ustar");
    assert!(said(&tar).contains("tar that is not packed"));
    assert!(said(&zstd::bulk::compress(&[7; 4096], 1).unwrap().repeat(20)).contains("podman"));
    assert!(matches!(Archive::open(place.path.parent().unwrap()), Err(Error::NotAFloeArchive { .. })));
    assert!(matches!(Archive::open(Path::new("/nonexistent/x")), Err(Error::Io { .. })));
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output =
        output.unwrap_or_else(|error| panic!("{program} is needed ({error}): scripts/setup installs it"));
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

const NAMES: &str = "floe-head.json\nconfig.dump\ncheckpoint/\ncheckpoint/pages-1.img\ncheckpoint/pages-2.img\n\
                     checkpoint/inventory.img\nfloe-index\nfloe.json\n";

#[test]
fn tar_zstd_and_python_read_it() {
    let place = place();
    let bytes = pages(40, 2);
    write(&place.path, &bytes, small_frames());
    let path = place.path.to_str().unwrap();
    assert_eq!(run("tar", &["--zstd", "-tf", path]), NAMES);
    run("zstd", &["-q", "-t", path]);
    let plain = place.path.with_extension("plain");
    run("zstd", &["-q", "-d", path, "-o", plain.to_str().unwrap()]);
    let script = "import sys, tarfile, hashlib\n\
                  for m in tarfile.open(sys.argv[1]):\n    print(m.name + ('/' if m.isdir() else ''))\n";
    assert_eq!(run("python3", &["-c", script, plain.to_str().unwrap()]), NAMES);
    let out = tempfile::tempdir().unwrap();
    run("tar", &["--zstd", "-xf", path, "-C", out.path().to_str().unwrap()]);
    assert_eq!(std::fs::read(out.path().join("checkpoint/pages-1.img")).unwrap(), bytes);
}

#[test]
fn a_foreign_seekable_reader_finds_the_frames() {
    let place = place();
    let bytes = pages(40, 2);
    write(&place.path, &bytes, small_frames());
    let archive = Archive::open(&place.path).unwrap();
    let member = archive.member(&name("checkpoint/pages-1.img")).unwrap();
    let file = std::fs::File::open(&place.path).unwrap();
    let mut decoder = zeekstd::DecodeOptions::new(file).into_decoder().unwrap();
    decoder.set_offset(member.offset + 5000).unwrap();
    decoder.set_offset_limit(member.offset + 9000).unwrap();
    let mut read = Vec::new();
    std::io::Read::read_to_end(&mut decoder, &mut read).unwrap();
    assert_eq!(read, bytes[5000..9000]);
}

/// Written by floe 0.1.0 with format 1. It must be read for ever.
#[test]
fn the_golden_archive_of_format_1_is_read() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/format-1.tar.zst");
    let archive = Archive::open(&path).unwrap();
    archive.verify(&Unheard).unwrap();
    assert_eq!(archive.read(&name("checkpoint/pages-1.img")).unwrap(), pages(6, 11));
    assert_eq!(archive.manifest().snapshot, head().snapshot);
    let mut decoder =
        zeekstd::DecodeOptions::new(std::fs::File::open(&path).unwrap()).into_decoder().unwrap();
    let mut plain = Vec::new();
    std::io::Read::read_to_end(&mut decoder, &mut plain).unwrap();
    assert_eq!(plain.len() % 512, 0);
    assert!(plain.starts_with(b"floe-head.json"));
}

#[test]
#[ignore = "long: writes the golden archive of the present format, for a new format version only"]
fn write_the_golden_archive() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/format-{FORMAT_VERSION}.tar.zst"));
    assert!(!path.exists(), "a golden archive is never replaced");
    write(&path, &pages(6, 11), small_frames());
}

#[test]
fn a_writer_that_is_dropped_leaves_nothing() {
    let place = place();
    let mut archive = ArchiveFile::create(&place.path, &head(), small_frames()).unwrap();
    archive.begin(&name("checkpoint/pages-1.img"), 0o600).unwrap();
    archive.append(&pages(50, 1)).unwrap();
    drop(archive);
    let mut archive = ArchiveFile::create(&place.path, &head(), small_frames()).unwrap();
    archive.add(&name("x"), 0o600, b"x").unwrap();
    drop(archive.complete(manifest()).unwrap());
    assert_eq!(std::fs::read_dir(place.path.parent().unwrap()).unwrap().count(), 0);
}

#[test]
fn a_full_disk_is_an_error_with_the_file_and_leaves_nothing() {
    // A child with a small limit on file sizes (RLIMIT_FSIZE) meets the end as a full disk would: write(2) fails.
    if let Ok(path) = std::env::var("FLOE_TEST_FULL") {
        let mut archive = ArchiveFile::create(Path::new(&path), &head(), small_frames()).unwrap();
        archive.begin(&name("checkpoint/pages-1.img"), 0o600).unwrap();
        // The spool may take all pages in before the first write fails: the error then comes at the end.
        let written = (0..10_000).try_for_each(|round| archive.append(&pages(1, round)));
        let ended = written.and_then(|()| archive.end()).and_then(|()| archive.complete(manifest()));
        let Err(error) = ended else { panic!("ten thousand pages went into a file of 64 KiB") };
        let error = error.to_string();
        assert!(error.starts_with(&format!("write {path}: File too large")), "{error}");
        return;
    }
    let place = place();
    let me = std::env::current_exe().unwrap();
    let script = format!(
        "trap '' XFSZ; ulimit -f 64; exec '{}' --exact a_full_disk_is_an_error_with_the_file_and_leaves_nothing",
        me.display()
    );
    // What the child says is caught: its limit counts for this test's own output too, if that goes to a long file.
    let child =
        Command::new("bash").args(["-c", &script]).env("FLOE_TEST_FULL", &place.path).output().unwrap();
    let said = String::from_utf8_lossy(&child.stdout).into_owned() + &String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success(), "{said}");
    assert_eq!(std::fs::read_dir(place.path.parent().unwrap()).unwrap().count(), 0);
}

/// Most memory that a process had, in bytes (`VmHWM` of proc_pid_status(5)).
fn most_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
fn the_spool_stays_within_its_budget() {
    // In a process of its own, whose memory is measured.
    if std::env::var_os("FLOE_TEST_SPOOL").is_none() {
        let me = std::env::current_exe().unwrap();
        let test = ["--exact", "the_spool_stays_within_its_budget"];
        let status = Command::new(me).args(test).env("FLOE_TEST_SPOOL", "1").status().unwrap();
        assert!(status.success());
        return;
    }
    let place = place();
    let (budget, piece) = (8 << 20, pages(32, 4));
    let options = WriterOptions { spool_budget: budget, level: 6, workers: 2, ..WriterOptions::default() };
    let mut archive = ArchiveFile::create(&place.path, &head(), options).unwrap();
    archive.begin(&name("checkpoint/pages-1.img"), 0o600).unwrap();
    let before = most_memory();
    for _ in 0..1024 {
        archive.append(&piece).unwrap();
    }
    let grown = most_memory() - before;
    archive.end().unwrap();
    let sealed = archive.complete(manifest()).unwrap().publish().unwrap();
    assert!(sealed.plain_bytes > 128 << 20);
    assert!(sealed.spool_peak <= budget, "{}", sealed.spool_peak);
    assert!(sealed.blocked > std::time::Duration::ZERO);
    // The budget, two sets of eight buffers that are kept, and what zstd needs for each worker.
    assert!(grown < budget + (24 << 20), "{} MiB beyond a budget of {} MiB", grown >> 20, budget >> 20);
}

#[test]
fn a_header_for_more_than_eight_gigabytes_is_understood_elsewhere() {
    // ustar has eleven octal digits for a size; beyond them it is written in binary, as GNU tar does.
    let mut header = tar::Header::new_ustar();
    header.set_path("checkpoint/pages-1.img").unwrap();
    header.set_size(9 << 30);
    header.set_cksum();
    let place = place();
    std::fs::write(&place.path, header.as_bytes()).unwrap();
    let script = "import sys, tarfile\n\
                  print(tarfile.TarInfo.frombuf(open(sys.argv[1], 'rb').read(512), 'utf-8', 'strict').size)";
    assert_eq!(
        run("python3", &["-c", script, place.path.to_str().unwrap()]).trim(),
        (9u64 << 30).to_string()
    );
}

#[test]
fn verification_can_be_stopped() {
    struct Stop;
    impl floe_snapshot_format::Progress for Stop {
        fn cancelled(&self) -> bool {
            true
        }
    }
    let place = place();
    write(&place.path, &pages(4, 1), small_frames());
    let error = Archive::open(&place.path).unwrap().verify(&Stop).unwrap_err();
    assert!(matches!(error, Error::Interrupted { .. }) && !error.is_damage());
}

#[test]
fn misuse_and_bad_names_are_errors() {
    let place = place();
    let mut archive = ArchiveFile::create(&place.path, &head(), small_frames()).unwrap();
    assert!(matches!(archive.room(), Err(Error::Misuse { .. })));
    assert!(matches!(archive.advance(1), Err(Error::Misuse { .. })));
    assert!(matches!(archive.end(), Err(Error::Misuse { .. })));
    archive.add(&name("a"), 0o600, b"").unwrap();
    for taken in ["a", "floe-head.json", "floe-index", "floe.json"] {
        assert!(matches!(archive.add(&name(taken), 0o600, b""), Err(Error::BadName { .. })), "{taken}");
    }
    archive.begin(&name("b"), 0o600).unwrap();
    assert!(matches!(archive.add(&name("c"), 0o600, b""), Err(Error::Misuse { .. })));
}
