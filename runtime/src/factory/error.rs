//! What the interface promises to fail with.

use crate::container::Status;
use crate::error::Error as Cause;

/// A result of this interface.
pub type Result<T> = std::result::Result<T, Error>;

/// The errors that libcontainer's interface names. Each holds the runtime's own, which says what failed and on what.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The name is taken by a container.
    #[error("the id is already in use")]
    IdInUse(#[source] Cause),

    /// The name has characters that no name may have, or is too short or too long.
    #[error("the id has an incorrect format")]
    InvalidIdFormat(#[source] Cause),

    /// The configuration cannot be right, or asks for what this runtime cannot do.
    #[error("the configuration is invalid")]
    ConfigInvalid(#[source] Cause),

    /// The container no longer exists.
    #[error("the container does not exist")]
    ContainerNotExists(#[source] Cause),

    /// The container is paused, and this needs it to run.
    #[error("the container is paused")]
    ContainerPaused(#[source] Cause),

    /// The container is not paused, and this needs it to be.
    #[error("the container is not paused")]
    ContainerNotPaused(#[source] Cause),

    /// The container's first process has ended, and this needs it.
    #[error("the container is stopped")]
    ContainerStopped(#[source] Cause),

    /// The container's first process has not ended, and this needs that.
    #[error("the container is not stopped")]
    ContainerNotStopped(#[source] Cause),

    /// The system refused something.
    #[error("the system failed")]
    SystemError(#[source] Cause),
}

impl Error {
    /// The runtime's own error.
    #[must_use]
    pub fn cause(&self) -> &Cause {
        match self {
            Self::IdInUse(cause)
            | Self::InvalidIdFormat(cause)
            | Self::ConfigInvalid(cause)
            | Self::ContainerNotExists(cause)
            | Self::ContainerPaused(cause)
            | Self::ContainerNotPaused(cause)
            | Self::ContainerStopped(cause)
            | Self::ContainerNotStopped(cause)
            | Self::SystemError(cause) => cause,
        }
    }
}

impl From<Cause> for Error {
    fn from(cause: Cause) -> Self {
        match &cause {
            Cause::Exists { .. } => Self::IdInUse(cause),
            Cause::InvalidId { .. } => Self::InvalidIdFormat(cause),
            Cause::BadConfig { .. }
            | Cause::Unsupported { .. }
            | Cause::Json { .. }
            | Cause::Missing { .. }
            | Cause::Refused { .. } => Self::ConfigInvalid(cause),
            Cause::NotFound { .. } => Self::ContainerNotExists(cause),
            Cause::WrongStatus { status: Status::Paused, .. } => Self::ContainerPaused(cause),
            Cause::WrongStatus { status: Status::Stopped, .. } => Self::ContainerStopped(cause),
            Cause::WrongStatus { verb: "resume", .. } => Self::ContainerNotPaused(cause),
            Cause::WrongStatus { .. } => Self::ContainerNotStopped(cause),
            _ => Self::SystemError(cause),
        }
    }
}
