//! Over real files: a log, objects, a table, made as the actor makes them; then damaged.

mod carrying;
mod damage;
mod repairing;
mod site;
