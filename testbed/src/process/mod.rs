//! Child processes that are started, watched, drained and never left behind.
//!
//! Four belts keep a child from outliving its parent:
//! 1. [`Fleet::drain`] ends all children in the reverse order of their start: a polite signal, a deadline, then SIGKILL.
//! 2. Dropping a [`Fleet`] or the last handle of a [`Child`] (an early return, a panic) does the same, blocking, with a
//!    deadline of a few seconds.
//! 3. Each child holds the reading end of a pipe as its stdin, and the parent the writing end: when the parent ends in
//!    any way, SIGKILL included, the child reads end-of-file ([`stdin_closed`]) and shuts down by itself.
//! 4. Children are in process groups of their own, so a Ctrl-C at the terminal reaches only the parent, and a SIGKILL
//!    to the group takes the child's own children along.
//!
//! One thread per child does nothing but start it and wait for its end. That thread lives exactly as long as the
//! child, so a parent-death signal that the child asks for (it fires when the *thread* that started it ends) is safe.

mod child;
mod copy;
mod error;
mod fleet;
mod ready;
mod shutdown;
mod spec;
#[cfg(test)]
mod tests;
mod usage;

pub use child::{Child, Exit, Stopped};
pub use copy::ProgramCopy;
pub use error::Error;
pub(crate) use error::tail_text;
pub use fleet::{Death, Drained, Fleet};
pub use ready::Ready;
pub(crate) use ready::authority;
pub use shutdown::{shutdown_on_request, stdin_closed};
pub use spec::Spec;
pub use usage::Usage;
