//! The load generator against a fake service and task app, over real sockets.

#[cfg(test)]
mod ends;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod open;
#[cfg(test)]
mod replay;
#[cfg(test)]
mod rollouts;
#[cfg(test)]
mod stall;
#[cfg(test)]
mod stall_server;
