//! Sockets that systemd has opened for the container (`sd_listen_fds(3)`): descriptors from 3 on, and two variables that
//! say how many and for whom. As with runc, the container's first process gets both.

use floe_runtime::config::Process;

const COUNT: &str = "LISTEN_FDS";
const FOR_WHOM: &str = "LISTEN_PID";

/// How many descriptors are for this process, and so for the container.
pub fn descriptors() -> u32 {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    count(number(COUNT), number(FOR_WHOM), std::process::id())
}

/// They are there only for the process that is named: a child of it may have inherited the variables alone.
fn count(count: Option<u32>, for_whom: Option<u32>, own: u32) -> u32 {
    count.filter(|_| for_whom == Some(own)).unwrap_or(0)
}

/// Tells the container's first process, which has number 1 where it sees itself.
pub fn tell(process: &mut Process, descriptors: u32) {
    if descriptors > 0 {
        process.env.retain(|variable| !is_about_it(variable));
        process.env.extend([format!("{COUNT}={descriptors}"), format!("{FOR_WHOM}=1")]);
    }
}

/// Whether a variable is one of the two.
pub fn is_about_it(variable: &str) -> bool {
    variable.split_once('=').is_some_and(|(name, _)| name == COUNT || name == FOR_WHOM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_for_the_one_who_is_named() {
        assert_eq!(count(Some(2), Some(7), 7), 2);
        assert_eq!(count(Some(2), Some(8), 7), 0);
        assert_eq!(count(Some(2), None, 7), 0);
        assert_eq!(count(None, Some(7), 7), 0);
        assert!(
            is_about_it("LISTEN_PID=1") && !is_about_it("LISTEN_FDNAMES=a") && !is_about_it("LISTEN_FDS")
        );
    }
}
