//! Namespaces of others that the container joins again: those of a pod.
//!
//! A network or pid namespace is left out of the dump, and handed over by its key. Of the other kinds CRIU dumps what is in
//! them; told to join one, it leaves that aside.

use floe_runtime::config::{Config, NamespaceKind};
use rust_criu::rust_criu_protobuf::rpc::{Criu_req, Join_namespace};

/// The kinds that CRIU joins, by its names for them. It makes every container a time namespace of its own, in which the
/// monotonic clock goes on; in a joined one that clock would jump.
const KINDS: [(NamespaceKind, &str); 2] = [(NamespaceKind::Ipc, "ipc"), (NamespaceKind::Uts, "uts")];

/// Adds the namespaces that `config` names by path.
pub(super) fn add_to_request(config: &Config, request: &mut Criu_req) {
    let opts = request.opts.mut_or_insert_default();
    for (kind, name) in KINDS {
        if let Some(path) = config.namespace(kind).and_then(|namespace| namespace.path.as_ref()) {
            let mut joined = Join_namespace::new();
            joined.set_ns(name.to_owned());
            joined.set_ns_file(path.to_string_lossy().into_owned());
            opts.join_ns.push(joined);
        }
    }
}
