//! The proxy: picks the prompt, calls the LLM, passes its answer through. The only place with an HTTP client.
//!
//! - [`request`]: the client's body, read only as far as prompts care;
//! - [`render`]: the candidate's messages;
//! - [`upstream`]: the call, and what is passed on;
//! - [`stream`]: event streams on their way through.

mod connect;
pub mod render;
pub mod request;
pub mod stream;
pub mod upstream;
