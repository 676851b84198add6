//! The load generator against a fake service and task app, over real sockets.

#[cfg(test)]
mod ends;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod rollouts;
