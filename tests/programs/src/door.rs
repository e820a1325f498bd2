//! The conversation of a test with a program inside a container: files in one folder of the root file system.
//!
//! ```text
//! program                      test
//!   ready            ────────►           the state is built
//!                    ◄────────  ask      "TOKEN WORDS…", put in place by a rename
//!   (removes ask)
//!   answer-TOKEN     ────────►           put in place by a rename, so it is whole
//! ```
//!
//! Plain files outlive every freeze, are there for a process under whatever name it was restored, and need neither
//! a descriptor that stays open nor a signal. A question is taken away before it is answered: a snapshot that is
//! restored later never answers an old one.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

/// How long a program sleeps between two looks for a question.
pub const PATIENCE: Duration = Duration::from_millis(10);

/// The folder that the conversation goes through.
#[derive(Debug)]
pub struct Door {
    folder: PathBuf,
}

/// Something that a test asked.
#[derive(Debug, PartialEq, Eq)]
pub struct Question {
    /// Chosen by the test; names the answer.
    pub token: String,
    /// What is asked; empty: the program's usual check.
    pub words: Vec<String>,
}

impl Door {
    /// Opens the conversation in a folder that exists.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// A path in the folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Says that the state is built.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn ready(&self, text: &str) -> Result<()> {
        self.place("ready", text)
    }

    /// Takes a question away, if there is one.
    ///
    /// # Errors
    /// The folder cannot be read or written to, or a question without a token was put.
    pub fn question(&self) -> Result<Option<Question>> {
        let path = self.path("ask");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
        };
        fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
        let mut words = text.split_whitespace().map(str::to_owned);
        let token = words.next().context("a question without a token")?;
        Ok(Some(Question { token, words: words.collect() }))
    }

    /// Waits for a question.
    ///
    /// # Errors
    /// As [`Self::question`].
    pub fn wait(&self) -> Result<Question> {
        loop {
            if let Some(question) = self.question()? {
                return Ok(question);
            }
            std::thread::sleep(PATIENCE);
        }
    }

    /// Answers a question.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn answer(&self, question: &Question, text: &str) -> Result<()> {
        self.place(&format!("answer-{}", question.token), text)
    }

    fn place(&self, name: &str, text: &str) -> Result<()> {
        let (path, beside) = (self.path(name), self.path(&format!(".{name}")));
        fs::write(&beside, text).with_context(|| format!("write {}", beside.display()))?;
        fs::rename(&beside, &path).with_context(|| format!("rename to {}", path.display()))
    }
}
