//! Messages: warnings on stderr, and all in the file that `--log` names, in runc's shape.

use std::fs::OpenOptions;
use std::io::Write;
use std::sync::Mutex;
use std::time::SystemTime;

use serde_json::json;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use crate::args::{Format, Globals};

/// Sets up where messages go. A log file that cannot be opened is said once, and nothing else fails for it.
pub fn begin(globals: &Globals) {
    let level = if globals.debug { LevelFilter::DEBUG } else { LevelFilter::WARN };
    let stderr =
        fmt::layer().with_writer(std::io::stderr).without_time().with_target(false).with_filter(level);
    let file =
        globals.log.as_ref().and_then(|path| match OpenOptions::new().create(true).append(true).open(path) {
            Ok(file) => Some(FileLog { file: Mutex::new(file), form: globals.log_format }.with_filter(level)),
            Err(error) => {
                complain(&format!("floe: open the log {}: {error}", path.display()));
                None
            }
        });
    tracing_subscriber::registry().with(stderr).with(file).init();
}

/// A line on stderr. One that nobody reads any more (`floe … 2>&1 | head`) is no reason to end.
pub fn complain(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// One message straight into the log file: the last words of a failed call.
pub fn to_file(globals: &Globals, level: &str, message: &str) {
    let Some(path) = &globals.log else { return };
    if let Ok(mut file) = OpenOptions::new().create(true).append(true).open(path) {
        let _ = file.write_all(line(globals.log_format, level, message).as_bytes());
    }
}

fn line(form: Format, level: &str, message: &str) -> String {
    let time = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    match form {
        Format::Json => format!("{}\n", json!({"level": level, "msg": message, "time": time})),
        Format::Text => format!("time={time:?} level={level} msg={message:?}\n"),
    }
}

struct FileLog {
    file: Mutex<std::fs::File>,
    form: Format,
}

impl<S: tracing::Subscriber> Layer<S> for FileLog {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        let mut words = Words(String::new());
        event.record(&mut words);
        let level = event.metadata().level().to_string().to_lowercase().replace("warn", "warning");
        if let Ok(mut file) = self.file.lock() {
            let _ = file.write_all(line(self.form, &level, &words.0).as_bytes());
        }
    }
}

struct Words(String);

impl tracing::field::Visit for Words {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0.push_str(&format!("{value:?}"));
        }
    }
}
