//! Memory pages, as they come from CRIU.
//!
//! CRIU believes that it talks to a page server (`ps.fd`): for each address space it opens a stream, announces runs
//! of pages and sends their bytes. We are that server, over a UNIX socket pair:
//!
//! ```text
//!   criu                                     receiver
//!    │ ── OPEN2 (pid or shared memory) ──►     │  begins pages-N.img
//!    │ ◄── 1 byte: is there a dump before ──   │
//!    │ ── ADD_F (address, count, flags) ──►    │  a run; with PRESENT its pages follow, with PARENT not
//!    │ ── bytes of count pages ──►             │  into buffers that go to compression as they are
//!    │            …                            │
//!    │ ── OPEN2 (the next one) ──►             │  ends the stream before
//!    │ ── FORCE_CLOSE ──►                      │
//!    │ ◄── int32: 0 ──                         │
//! ```
//!
//! (criu/page-xfer.c of CRIU; the two layouts of a message are in [`wire`].)

mod receiver;
pub mod wire;

pub use receiver::{PageReceiver, Received, ReceiverHandle, Stream, StreamKind};
pub use wire::Owner;
