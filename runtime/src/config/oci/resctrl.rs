//! `linux.intelRdt`.

use oci_spec::runtime::{Linux, LinuxIntelRdt};

use super::Source;
use crate::config::IntelRdt;
use crate::error::Result;

pub(super) fn convert(linux: &Linux, source: Source<'_>) -> Result<Option<IntelRdt>> {
    let Some(given) = linux.intel_rdt() else { return Ok(None) };
    let key = |part: &str| format!("linux.intelRdt.{part}");
    let line = |text: &str, key: String| match text.contains('\n') {
        true => Err(source.bad(key, "holds the end of a line")),
        false => Ok(text.to_owned()),
    };
    let some_line = |text: &Option<String>, part: &str| {
        text.as_deref().filter(|text| !text.is_empty()).map(|text| line(text, key(part))).transpose()
    };
    let clos_id = given.clos_id().clone().filter(|name| !name.is_empty());
    if let Some(name) = &clos_id
        && (name == "." || name == ".." || (name != "/" && name.contains(['/', '\n'])))
    {
        return Err(source.bad(key("closID"), format!("{name:?} is no name of a folder")));
    }
    let mem_bw_schema = some_line(given.mem_bw_schema(), "memBwSchema")?;
    if mem_bw_schema.as_ref().is_some_and(|line| !line.starts_with("MB:")) {
        return Err(source.bad(key("memBwSchema"), "must begin with MB:"));
    }
    let schemata = given.schemata().iter().flatten().enumerate();
    Ok(Some(IntelRdt {
        clos_id,
        l3_cache_schema: given.l3_cache_schema().as_deref().and_then(about_caches),
        mem_bw_schema,
        schemata: schemata
            .map(|(number, text)| line(text, key(&format!("schemata[{number}]"))))
            .collect::<Result<_>>()?,
        enable_monitoring: monitors(given),
    }))
}

/// More than one line is discouraged and not forbidden (code and data apart). What is said of memory there has no effect
/// (version 1.2 of the specification).
fn about_caches(text: &str) -> Option<String> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty() && !line.starts_with("MB:")).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// Versions of the specification before 1.3 had two words for it.
#[allow(deprecated, reason = "configurations still have them")]
fn monitors(given: &LinuxIntelRdt) -> bool {
    let all = [given.enable_monitoring(), given.enable_cmt(), given.enable_mbm()];
    all.into_iter().any(|one| *one == Some(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_lines_about_caches_those_about_memory_are_left_out() {
        assert_eq!(about_caches("L3:0=f").as_deref(), Some("L3:0=f"));
        assert_eq!(
            about_caches("L3CODE:0=f\nMB:0=1\nL3DATA:0=1\n").as_deref(),
            Some("L3CODE:0=f\nL3DATA:0=1")
        );
        assert_eq!(about_caches("MB:0=1"), None);
        assert_eq!(about_caches(""), None);
    }
}
