//! The bridge to CRIU.
