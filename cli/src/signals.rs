//! Interrupts of long work.

use floe_criu_bridge::Cancel;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// From now on SIGINT, SIGTERM and SIGHUP ask the work to stop where the container can be left as it was. Starts a
/// thread: for verbs that make no process by copying this one.
pub fn cancel_on_signals() -> anyhow::Result<Cancel> {
    let cancel = Cancel::new()?;
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let raised = cancel.clone();
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for _ in signals.forever() {
            raised.raise();
        }
    })?;
    Ok(cancel)
}
