//! What every container has.

use crate::support::Bundle;

pub const TESTS: &[(&str, fn())] = &[("a_program_runs", a_program_runs)];

fn a_program_runs() {
    let bundle = Bundle::with_script(
        "echo $$; hostname; pwd; id; ip link; cat /proc/self/mountinfo; ls -l /dev /proc/self/fd; cat /proc/self/status; cat /proc/self/limits;env",
    );
    eprintln!("{}", bundle.run());
}
