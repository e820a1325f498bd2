//! Pages that a dump leaves to the one before it.
//!
//! CRIU finds them by a link in the folder of its images, which for floe is a tmpfs without one. So the pages of all rounds are
//! put together there first; what CRIU reads then is whole.

use std::io::{BufWriter, Read, Write};

use floe_snapshot_format::criu::pagemap::{self, Layout, Run};
use floe_snapshot_format::{MemberName, Source};

use crate::checkpoint::rounds::BEFORE_KEY;
use crate::error::{Error, Result};
use crate::pages::wire::{PAGE_SIZE, flags};
use crate::scratch::Scratch;

/// Most rounds. Each is looked at for every page that the one behind it leaves out.
const ROUNDS: usize = 64;

/// Pages that are read at once.
const AT_ONCE: u64 = 256;

/// Puts together what the images in `scratch`, those of `archive`, leave to rounds before.
pub(super) fn complete(archive: &dyn Source, scratch: &Scratch, layout: Layout) -> Result<()> {
    let mut rounds: Option<Vec<Box<dyn Source>>> = None;
    for name in scratch.names()?.into_iter().filter(|name| name.starts_with("pagemap-")) {
        let (pages_id, runs) = pagemap::decode(&scratch.read(&name)?)?;
        let leaves = |run: &Run| run.flags & flags::PARENT != 0;
        if !runs.iter().any(leaves) {
            continue;
        }
        if rounds.is_none() {
            rounds = Some(before(archive)?);
        }
        let layers =
            rounds.iter().flatten().map(|round| Layer::of(&**round, &name)).collect::<Result<Vec<_>>>()?;
        let (own, whole) = (format!("pages-{pages_id}.img"), format!("whole-{pages_id}"));
        let mut from = scratch.open(&own)?;
        let mut to = BufWriter::with_capacity(1 << 20, scratch.create(&whole)?);
        let mut buffer = vec![0u8; usize::try_from(AT_ONCE * PAGE_SIZE).unwrap_or(1 << 20)];
        let mut complete = Vec::with_capacity(runs.len());
        for run in runs {
            let mut done = 0;
            while done < run.pages {
                let (vaddr, most) = (run.vaddr + done * PAGE_SIZE, (run.pages - done).min(AT_ONCE));
                let mut count = most;
                if leaves(&run) {
                    count = fill(&layers, vaddr, most, &mut buffer)?;
                } else if run.flags & flags::PRESENT != 0 {
                    let part = &mut buffer[..bytes(most)];
                    from.read_exact(part).map_err(|source| Error::call("read", &own, source))?;
                } else {
                    done += count;
                    continue;
                }
                to.write_all(&buffer[..bytes(count)])
                    .map_err(|source| Error::call("write", &whole, source))?;
                done += count;
            }
            let present = if leaves(&run) { flags::PRESENT } else { run.flags };
            complete.push(Run { flags: present, ..run });
        }
        to.flush().map_err(|source| Error::call("write", &whole, source))?;
        drop(to);
        scratch.rename(&whole, &own)?;
        scratch.replace(&name, &pagemap::encode(pages_id, &complete, layout)?)?;
    }
    Ok(())
}

fn bytes(pages: u64) -> usize {
    usize::try_from(pages * PAGE_SIZE).unwrap_or(usize::MAX)
}

/// The rounds before, the last one first. A manifest names the one that it builds on, byte for byte.
fn before(archive: &dyn Source) -> Result<Vec<Box<dyn Source>>> {
    let mut found: Vec<Box<dyn Source>> = Vec::new();
    loop {
        let last = found.last().map_or(archive, |round| &**round);
        let Some(next) = last.parent()? else { break };
        let named = last.manifest().extra.get(BEFORE_KEY).and_then(|digest| digest.as_str());
        if named.is_some_and(|digest| digest != next.manifest_digest()) {
            return Err(Error::Unfit {
                what: format!(
                    "the round in {} is another than the one that it builds on",
                    next.path().display()
                ),
                hint: "put the folder back that it was made with".to_owned(),
            });
        }
        found.push(next);
        if found.len() > ROUNDS {
            return Err(Error::Unfit {
                what: format!("it builds on more than {ROUNDS} rounds"),
                hint: "checkpoint the container whole now and then".to_owned(),
            });
        }
    }
    if found.is_empty() {
        return Err(Error::Unfit {
            what: "it leaves memory to a round before it, and has no link to one".to_owned(),
            hint: "put the folder beside it that it was made with, and the link `parent`".to_owned(),
        });
    }
    Ok(found)
}

/// The pages of one address space in one round.
struct Layer<'a> {
    source: &'a dyn Source,
    pages: MemberName,
    /// Each run, and where its bytes begin.
    runs: Vec<(Run, u64)>,
}

impl<'a> Layer<'a> {
    fn of(source: &'a dyn Source, name: &str) -> Result<Self> {
        let map = MemberName::new(&format!("checkpoint/{name}"))?;
        // A process that is younger than the round is not in it.
        let there = source.members().iter().any(|member| member.name == map);
        let (pages_id, runs) = if there { pagemap::decode(&source.read(&map)?)? } else { (0, Vec::new()) };
        let mut at = 0;
        let place = |run: Run| {
            let begins = at;
            if run.flags & flags::PRESENT != 0 {
                at += run.pages.saturating_mul(PAGE_SIZE);
            }
            (run, begins)
        };
        let runs = runs.into_iter().map(place).collect();
        Ok(Self { source, pages: MemberName::new(&format!("checkpoint/pages-{pages_id}.img"))?, runs })
    }
}

/// Fills the buffer with up to `most` pages from `vaddr` on; how many.
fn fill(layers: &[Layer<'_>], vaddr: u64, most: u64, buffer: &mut [u8]) -> Result<u64> {
    let mut most = most;
    for layer in layers {
        let ends = |run: &Run| run.vaddr.saturating_add(run.pages.saturating_mul(PAGE_SIZE));
        let found = layer.runs.iter().find(|(run, _)| run.vaddr <= vaddr && vaddr < ends(run));
        let Some((run, begins)) = found else { break };
        most = most.min((ends(run) - vaddr) / PAGE_SIZE);
        if run.flags & flags::PRESENT != 0 {
            let member = layer.source.member(&layer.pages)?;
            layer.source.read_at(member, begins + (vaddr - run.vaddr), &mut buffer[..bytes(most)])?;
            return Ok(most);
        }
        if run.flags & flags::PARENT == 0 {
            break;
        }
    }
    Err(Error::Unfit {
        what: format!("the page at {vaddr:#x}, which it leaves to a round before it, is in none"),
        hint: "put the folders back that it was made with".to_owned(),
    })
}
