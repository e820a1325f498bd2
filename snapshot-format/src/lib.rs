//! Bytes of a snapshot.
