//! What stands in the way of a checkpoint or a restore, found before anything is touched.

use std::fmt;

/// One thing that CRIU could not take, with whose it is and what helps.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Blocker {
    /// The process, by its pid on this host; `None` where it is not one process's matter.
    pub pid: Option<i32>,
    /// Its name (`/proc/PID/comm`); may be empty.
    pub process: String,
    /// What is in the way, in words.
    pub what: String,
    /// The descriptor, path or address that it is about; may be empty.
    pub on: String,
    /// The flag or the change that helps.
    pub hint: String,
}

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(pid) = self.pid {
            write!(f, "process {pid}")?;
            if !self.process.is_empty() {
                write!(f, " ({})", self.process)?;
            }
            write!(f, ": ")?;
        }
        write!(f, "{}", self.what)?;
        if !self.on.is_empty() {
            write!(f, " {}", self.on)?;
        }
        if !self.hint.is_empty() {
            write!(f, "; {}", self.hint)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocker_names_the_process_the_thing_and_the_remedy() {
        let blocker = Blocker {
            pid: Some(42),
            process: "redis-server".into(),
            what: "has an established TCP connection".into(),
            on: "127.0.0.1:6379 -> 127.0.0.1:40000".into(),
            hint: "pass --tcp established".into(),
        };
        assert_eq!(
            blocker.to_string(),
            "process 42 (redis-server): has an established TCP connection 127.0.0.1:6379 -> 127.0.0.1:40000; \
             pass --tcp established"
        );
    }
}
