//! Rules of the network lock: those that a killed CRIU leaves behind, and those that hold connections until their restore.
//!
//! CRIU makes a table `inet CRIU-ID` or a chain `CRIU`, and takes it out when it lets the container go, be it after a
//! failure. Killed, it does not, and the container would be cut off for ever. What was there before is noted
//! ([`crate::leftover`]), so that what is new can be told from what is not CRIU's of this dump.
//!
//! Where a checkpoint ends the container, CRIU leaves the lock: without it the kernel would answer the peers' next packets
//! with resets. It ends with the container's network namespace; but one that others made lives on, and everybody in it
//! would be cut off until the restore. There the lock is narrowed to the connections, by rules that drop what comes for
//! them, and the restore takes those out.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use super::lock::Method;
use super::nftables::{remove_table, tables_of_criu};
use super::tool::feed;
use super::{Connection, Fate, netns, repair};
use crate::error::{Error, Result};
use crate::tasks;

/// Whose the network namespace is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Whose {
    /// The container's own.
    Own,
    /// One that others made, which the container has joined.
    Joined,
    /// floe's own, in which CRIU locks each connection by itself.
    Floes,
}

/// A lock that CRIU is about to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lock {
    method: Method,
    /// Who holds the connections.
    pids: Vec<i32>,
    /// The network namespace: that of a process with its inode, and where the configuration has it.
    init: i32,
    inode: u64,
    path: Option<PathBuf>,
    whose: Whose,
    /// Tables of CRIU's that were there before.
    tables: HashSet<String>,
    /// The connections, from this side to the other.
    connections: Vec<(SocketAddr, SocketAddr)>,
}

impl Lock {
    /// Looks at the network namespace of `pids`, the first of which is the container's first process. The configuration has
    /// it at `path` if others made it.
    pub(crate) fn of(
        method: Method,
        pids: &[i32],
        path: Option<&Path>,
        connections: &[tasks::Connection],
    ) -> Result<Option<Self>> {
        let Some(&init) = pids.first() else { return Ok(None) };
        let inode = tasks::namespace(init, "net")?;
        let whose = match path {
            _ if inode == tasks::namespace(std::process::id().cast_signed(), "net")? => Whose::Floes,
            Some(_) => Whose::Joined,
            None => Whose::Own,
        };
        let ends = |one: &tasks::Connection| ends(&one.local, &one.remote);
        let connections = connections.iter().filter_map(ends).collect();
        let (path, tables) = (path.map(Path::to_owned), HashSet::new());
        let pids = pids.to_vec();
        let mut lock = Self { method, pids, init, inode, path, whose, tables, connections };
        if method == Method::Nftables {
            lock.tables = lock.within(tables_of_criu)?.unwrap_or_default().into_iter().collect();
        }
        Ok(Some(lock))
    }

    /// After a failure: connections can be used again, and the network is open.
    pub(crate) fn undo(&self) -> Result<()> {
        for pid in &self.pids {
            // Another process may have the number by now.
            if tasks::namespace(*pid, "net").is_ok_and(|inode| inode == self.inode) {
                repair::end(*pid);
            }
        }
        self.remove()
    }

    /// Whether others may have locks of theirs there.
    pub(crate) fn is_shared(&self) -> bool {
        self.method != Method::None && self.whose != Whose::Own
    }

    /// Takes out what is new. That the namespace is gone is no failure.
    fn remove(&self) -> Result<()> {
        self.within(|| match self.method {
            Method::None => Ok(()),
            Method::Nftables => {
                let mut new = tables_of_criu()?.into_iter().filter(|table| !self.tables.contains(table));
                new.try_for_each(|table| remove_table(&table))
            }
            Method::Iptables => {
                self.remove_chains();
                Ok(())
            }
        })
        .map(drop)
    }

    /// After a checkpoint that has ended the container: what CRIU left becomes what the connections of the snapshot
    /// `snapshot` need, and no more.
    pub(crate) fn narrow(&self, snapshot: &str, kept: &[Connection]) -> Result<()> {
        match self.whose {
            // Gone with the namespace; or narrow enough, and CRIU takes it out at the restore.
            Whose::Own | Whose::Floes => Ok(()),
            Whose::Joined => {
                let held = self.within(|| hold(self.method, snapshot, &kept_ends(kept)));
                // Opened in any case: everybody in there would be cut off.
                self.remove().and(held).map(drop)
            }
        }
    }

    /// In the namespace, if it is there.
    fn within<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<Option<T>> {
        let own = PathBuf::from(format!("/proc/{}/ns/net", self.init));
        let places = [Some(&own), self.path.as_ref()];
        for place in places.into_iter().flatten() {
            use std::os::unix::fs::MetadataExt;
            if std::fs::metadata(place).is_ok_and(|about| about.ino() == self.inode) {
                return netns::within(place, work).map(Some);
            }
        }
        Ok(None)
    }

    /// What is not there is not there.
    fn remove_chains(&self) {
        for program in ["iptables", "ip6tables"] {
            if self.whose == Whose::Floes {
                for (local, remote) in of_family(&self.connections, program) {
                    run(program, &rule("-D", "INPUT", remote, local));
                    run(program, &rule("-D", "OUTPUT", local, remote));
                }
                continue;
            }
            let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
            for line in ["-D INPUT -j CRIU", "-D OUTPUT -j CRIU", "-F CRIU", "-X CRIU"] {
                run(program, &words(line));
            }
        }
    }
}

/// Drops what comes for these connections, in the calling thread's network namespace, until [`lift`].
fn hold(method: Method, snapshot: &str, connections: &[(SocketAddr, SocketAddr)]) -> Result<()> {
    if connections.is_empty() {
        return Ok(());
    }
    match method {
        Method::None => Ok(()),
        Method::Nftables => {
            if feed("nft", &["-f", "-"], &table(snapshot, connections))? {
                return Ok(());
            }
            Err(Error::call("run", "nft", std::io::Error::other("it could not make a table")))
        }
        Method::Iptables => {
            for program in ["iptables", "ip6tables"] {
                for (local, remote) in of_family(connections, program) {
                    if !run(program, &rule("-I", "INPUT", remote, local)) {
                        let failure = std::io::Error::other("it could not make a rule");
                        return Err(Error::call("run", program, failure));
                    }
                }
            }
            Ok(())
        }
    }
}

/// Takes out what holds the connections of the snapshot `snapshot` in the calling thread's network namespace.
pub(crate) fn lift(method: Method, snapshot: &str, kept: &[Connection]) -> Result<()> {
    match method {
        Method::None => Ok(()),
        Method::Nftables => remove_table(&table_name(snapshot)),
        Method::Iptables => {
            for program in ["iptables", "ip6tables"] {
                for (local, remote) in of_family(&kept_ends(kept), program) {
                    run(program, &rule("-D", "INPUT", remote, local));
                }
            }
            Ok(())
        }
    }
}

/// Names of tables are no longer than 255 bytes, and ids of snapshots are hexadecimal.
fn table_name(snapshot: &str) -> String {
    let word: String = snapshot.chars().filter(char::is_ascii_alphanumeric).take(64).collect();
    format!("floe-{word}")
}

/// A table in the words of nft(8).
fn table(snapshot: &str, connections: &[(SocketAddr, SocketAddr)]) -> String {
    let drop = |(local, remote): &(SocketAddr, SocketAddr)| {
        let family = if local.is_ipv4() { "ip" } else { "ip6" };
        let (from, to) = (remote.ip(), local.ip());
        let (sport, dport) = (remote.port(), local.port());
        format!("{family} saddr {from} {family} daddr {to} tcp sport {sport} tcp dport {dport} drop\n")
    };
    let rules: String = connections.iter().map(drop).collect();
    let name = table_name(snapshot);
    format!(
        "table inet {name} {{\nchain input {{\ntype filter hook input priority filter; policy accept;\n{rules}}}\n}}\n"
    )
}

fn kept_ends(connections: &[Connection]) -> Vec<(SocketAddr, SocketAddr)> {
    let kept = connections.iter().filter(|one| one.fate == Fate::Kept);
    kept.filter_map(|one| ends(&one.local, &one.peer)).collect()
}

/// Both ends, with addresses of IPv4 as what they are on the wire.
fn ends(local: &str, remote: &str) -> Option<(SocketAddr, SocketAddr)> {
    let end = |text: &str| {
        let end = text.parse::<SocketAddr>().ok()?;
        Some(SocketAddr::new(end.ip().to_canonical(), end.port()))
    };
    Some((end(local)?, end(remote)?))
}

/// Those that `program` is for.
fn of_family<'a>(
    connections: &'a [(SocketAddr, SocketAddr)],
    program: &str,
) -> impl Iterator<Item = &'a (SocketAddr, SocketAddr)> {
    let six = program.starts_with("ip6");
    connections.iter().filter(move |(local, _)| local.is_ipv6() == six)
}

/// The rule by which a connection's packets in one direction are dropped, in the form that CRIU uses.
fn rule(verb: &str, chain: &str, from: &SocketAddr, to: &SocketAddr) -> Vec<String> {
    let (source, sport) = (from.ip().to_string(), from.port().to_string());
    let (destination, dport) = (to.ip().to_string(), to.port().to_string());
    let words = [
        verb,
        chain,
        "--protocol",
        "tcp",
        "--source",
        &source,
        "--sport",
        &sport,
        "--destination",
        &destination,
        "--dport",
        &dport,
        "-j",
        "DROP",
    ];
    words.map(str::to_owned).to_vec()
}

fn run(program: &str, words: &[String]) -> bool {
    let mut command = Command::new(program);
    command.arg("-w").args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nft(words: &str) -> String {
        let output = Command::new("nft").args(words.split(' ')).output();
        let output = output.expect("nft is needed: scripts/setup installs it");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn tables_of_a_dead_criu_are_removed_and_others_stay() {
        netns::in_a_new_one(|| {
            let me = nix::unistd::gettid().as_raw();
            assert_eq!(tables_of_criu()?, Vec::<String>::new());
            for table in ["inet CRIU-before", "inet mine", "ip CRIU-ip"] {
                nft(&format!("add table {table}"));
            }
            let lock = Lock::of(Method::Nftables, &[me], None, &[])?.unwrap();
            nft("add table inet CRIU-77");
            nft("add chain inet CRIU-77 x");
            assert_eq!(tables_of_criu()?, ["CRIU-before", "CRIU-77"]);
            lock.remove()?;
            assert_eq!(tables_of_criu()?, ["CRIU-before"]);
            assert!(nft("list tables").contains("inet mine") && nft("list tables").contains("ip CRIU-ip"));
            remove_table("CRIU-77")
        })
        .unwrap();
    }

    #[test]
    fn what_holds_a_connection_names_both_ends() {
        let (local, remote) = ends("[::ffff:10.0.0.2]:9", "10.0.0.1:80").unwrap();
        assert_eq!(
            rule("-D", "INPUT", &remote, &local).join(" "),
            "-D INPUT --protocol tcp --source 10.0.0.1 --sport 80 --destination 10.0.0.2 --dport 9 -j DROP"
        );
        let six = ends("[fd00::2]:9", "[fd00::1]:80").unwrap();
        netns::in_a_new_one(|| {
            hold(Method::Nftables, "ab/../12", &[(local, remote), six])?;
            let listed = nft("list table inet floe-ab12");
            for rule in [
                "ip saddr 10.0.0.1 ip daddr 10.0.0.2 tcp sport 80 tcp dport 9 drop",
                "ip6 saddr fd00::1 ip6 daddr fd00::2 tcp sport 80 tcp dport 9 drop",
            ] {
                assert!(listed.contains(rule), "{listed}");
            }
            lift(Method::Nftables, "ab/../12", &[])?;
            assert_eq!(nft("list tables"), "");
            // What is not there is lifted already.
            lift(Method::Nftables, "ab/../12", &[])
        })
        .unwrap();
    }
}
