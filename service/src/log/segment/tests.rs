//! The log of files against disks that lose, tear, refuse and lie.

mod crashes;
mod decoders;
mod faults;
mod flips;
mod golden;
mod lifecycle;
mod producers;
mod support;
