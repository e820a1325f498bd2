//! What has to be taken back when something fails half way.

use crate::error::Result;

/// One step back.
type Step = Box<dyn FnOnce() -> Result<()> + Send>;

/// Steps that undo what was done, newest first. Dropped, they are taken; [`Undo::keep`] forgets them.
#[derive(Default)]
pub(crate) struct Undo(Vec<(&'static str, Step)>);

impl Undo {
    pub(crate) fn push(&mut self, what: &'static str, step: impl FnOnce() -> Result<()> + Send + 'static) {
        self.0.push((what, Box::new(step)));
    }

    /// All went well.
    pub(crate) fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        while let Some((what, step)) = self.0.pop() {
            if let Err(error) = step() {
                tracing::warn!("could not {what}: {}", error.in_full());
            }
        }
    }
}

impl std::fmt::Debug for Undo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(what, _)| what)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[test]
    fn steps_are_taken_newest_first_unless_kept() {
        let log = Arc::new(Mutex::new(Vec::new()));
        let fill = |undo: &mut Undo| {
            for number in 1..=3 {
                let log = Arc::clone(&log);
                undo.push("test", move || {
                    log.lock().unwrap().push(number);
                    Ok(())
                });
            }
        };
        let mut undo = Undo::default();
        fill(&mut undo);
        undo.keep();
        assert!(log.lock().unwrap().is_empty());
        let mut undo = Undo::default();
        fill(&mut undo);
        drop(undo);
        assert_eq!(*log.lock().unwrap(), [3, 2, 1]);
    }
}
