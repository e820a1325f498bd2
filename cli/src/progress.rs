//! Progress on stderr: a bar on a terminal, JSON lines for programs, or nothing.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::Instant;

use floe_criu_bridge::{Phase, Progress};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::args::{Globals, ProgressForm};
use crate::logging;

/// One of the forms.
#[derive(Debug)]
pub struct Shown {
    form: Form,
    began: Instant,
    globals: Globals,
    last: Mutex<Option<Instant>>,
}

#[derive(Debug)]
enum Form {
    Bar(ProgressBar),
    Json,
    Quiet,
}

impl Shown {
    /// In the form that was asked for.
    pub fn new(form: ProgressForm, globals: &Globals) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let form = match form {
            ProgressForm::Json => Form::Json,
            ProgressForm::None => Form::Quiet,
            ProgressForm::Auto if !terminal => Form::Quiet,
            ProgressForm::Auto | ProgressForm::Bar => Form::Bar(ProgressBar::no_length().with_style(style())),
        };
        Self { form, began: Instant::now(), globals: globals.clone(), last: Mutex::new(None) }
    }

    /// Takes the bar away, for what is printed next.
    pub fn finish(&self) {
        if let Form::Bar(bar) = &self.form {
            bar.finish_and_clear();
        }
    }

    fn line(&self, object: serde_json::Value) {
        if matches!(self.form, Form::Json) {
            logging::complain(&object.to_string());
        }
    }

    fn seconds(&self) -> f64 {
        (self.began.elapsed().as_secs_f64() * 1e6).round() / 1e6
    }
}

fn style() -> ProgressStyle {
    let template = "{elapsed_precise} {msg:<22} {bytes:>10} {binary_bytes_per_sec}";
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

impl Progress for Shown {
    fn phase(&self, phase: Phase) {
        if let Form::Bar(bar) = &self.form {
            bar.set_message(phase.name());
        }
        self.line(json!({"phase": phase.name(), "seconds": self.seconds()}));
    }

    fn bytes(&self, done: u64, total: Option<u64>) {
        if let Form::Bar(bar) = &self.form {
            bar.set_position(done);
        }
        // A line for each frame would be thousands a second.
        if let (Form::Json, Ok(mut last)) = (&self.form, self.last.lock())
            && last.is_none_or(|at| at.elapsed().as_millis() >= 100)
        {
            *last = Some(Instant::now());
            drop(last);
            self.line(json!({"bytes": done, "total": total, "seconds": self.seconds()}));
        }
    }

    fn warn(&self, message: &str) {
        match &self.form {
            Form::Bar(bar) => bar.suspend(|| logging::complain(&format!("floe: warning: {message}"))),
            Form::Json => self.line(json!({"warning": message})),
            // Who named a log reads it there; stderr may be the container's own.
            Form::Quiet if self.globals.log.is_some() => {}
            Form::Quiet => logging::complain(&format!("floe: warning: {message}")),
        }
        logging::to_file(&self.globals, "warning", message);
    }
}
