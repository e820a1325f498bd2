//! Programs that are frozen by the tests, and check themselves afterwards.
