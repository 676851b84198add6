mod counters;
mod pipe;
mod spec;
