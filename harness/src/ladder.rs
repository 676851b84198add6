//! The rungs: one optimization each, cumulative, each a configuration of the same binary.

use std::str::FromStr;

/// How the service keeps state in a rung.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeping {
    /// No service at all.
    None,
    /// Everything loaded and saved at every call.
    Blob,
    /// Cached, saved before each answer.
    WriteThrough,
    /// Cached, saved behind.
    WriteBack,
    /// Shard actors behind an event log on disk; whole states saved behind, history inside.
    Logged,
    /// The same with bounded snapshots: history stays in the log and its archive.
    Bounded,
}

impl Keeping {
    /// The durability level that the service says it has when it keeps state so.
    #[must_use]
    pub const fn durability(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Blob | Self::WriteThrough => "stored",
            Self::WriteBack => "memory",
            Self::Logged | Self::Bounded => "disk",
        }
    }
}

/// Which link stands between the service and its stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RungLink {
    /// The one the run was told.
    AsTold,
    /// The same-region preset.
    SameRegion,
}

/// What a rung is: the settings it hands to service and load generator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RungPlan {
    /// Which one, or which one it is a variation of.
    pub name: RungName,
    /// What it is called in reports and file names: the rung's name, or a variation's own.
    pub label: &'static str,
    /// One line for people.
    pub title: &'static str,
    /// What it turns on over the rung before, all of it: what a rung bundles is said here.
    pub turns_on: &'static str,
    /// How state is kept.
    pub keeping: Keeping,
    /// Database connections pooled and statements prepared; S3 connections kept alive.
    pub pooled: bool,
    /// One `reward_done` call instead of `reward`, then `done`.
    pub one_call: bool,
    /// Many rollouts of one system in flight, instead of one after the other.
    pub parallel: bool,
    /// The link.
    pub link: RungLink,
}

macro_rules! rungs {
    ($($variant:ident => $text:literal),+ $(,)?) => {
        /// A rung's name on the command line and in reports.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum RungName { $(#[doc = $text] $variant),+ }

        impl RungName {
            /// Every rung, from the floor up.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Its name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }
    };
}

rungs! {
    Direct => "direct",
    Blob => "blob",
    Pooled => "pooled",
    WriteThrough => "write-through",
    WriteBack => "write-back",
    Logged => "logged",
    Bounded => "bounded",
    OneCall => "one-call",
    Parallel => "parallel",
    SameRegion => "same-region",
}

impl RungName {
    /// The rung's settings. Each starts from the one below and turns on one thing.
    #[must_use]
    pub fn plan(self) -> RungPlan {
        match self {
            Self::Direct => RungPlan {
                name: self,
                label: self.name(),
                title: "no service: the task app calls the LLM itself",
                turns_on: "nothing: the floor",
                keeping: Keeping::None,
                pooled: false,
                one_call: false,
                parallel: false,
                link: RungLink::AsTold,
            },
            Self::Blob => RungPlan {
                title: "the whole state loaded and saved at every call, as it was",
                turns_on: "nothing: the measured \"before\"",
                keeping: Keeping::Blob,
                ..Self::Direct.plan_as(self)
            },
            Self::Pooled => RungPlan {
                title: "the same over warm connections",
                turns_on: "connection pool, prepared statements, kept-alive S3",
                pooled: true,
                ..Self::Blob.plan_as(self)
            },
            Self::WriteThrough => RungPlan {
                title: "state kept in memory, saved before each answer",
                turns_on: "in-memory state cache, a lock per system",
                keeping: Keeping::WriteThrough,
                ..Self::Pooled.plan_as(self)
            },
            Self::WriteBack => RungPlan {
                title: "saved behind the caller's back; loses what it had not saved",
                turns_on: "dirty flag and debounce: saved every 500 events or 30 s",
                keeping: Keeping::WriteBack,
                ..Self::WriteThrough.plan_as(self)
            },
            Self::Logged => RungPlan {
                title: "an event log on disk: durable again, and still no store on the way",
                turns_on: "shard actors (single writer), event log with group commit, output gate; still the whole state, \
                           history inside, saved behind as JSON",
                keeping: Keeping::Logged,
                ..Self::WriteBack.plan_as(self)
            },
            Self::Bounded => RungPlan {
                title: "snapshots whose size does not grow with the history",
                turns_on: "history out of the hot state (it stays in the log and its archive); binary snapshots, compressed and \
                           checksummed",
                keeping: Keeping::Bounded,
                ..Self::Logged.plan_as(self)
            },
            Self::OneCall => RungPlan {
                title: "reward and done in one call",
                turns_on: "reward_done",
                one_call: true,
                ..Self::Bounded.plan_as(self)
            },
            Self::Parallel => RungPlan {
                title: "ten rollouts of one system in flight",
                turns_on: "rollouts in parallel",
                parallel: true,
                ..Self::OneCall.plan_as(self)
            },
            Self::SameRegion => RungPlan {
                title: "the same on the same-region link",
                turns_on: "stores moved into the service's region",
                link: RungLink::SameRegion,
                ..Self::Parallel.plan_as(self)
            },
        }
    }

    fn plan_as(self, name: Self) -> RungPlan {
        RungPlan { name, label: name.name(), ..self.plan() }
    }
}

impl std::fmt::Display for RungName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// A list of rungs could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no rung `{0}`; rungs are all, {names}", names = RungName::ALL.iter().map(|r| r.name()).collect::<Vec<_>>().join(", "))]
pub struct UnknownRung(String);

impl FromStr for RungName {
    type Err = UnknownRung;

    fn from_str(text: &str) -> Result<Self, UnknownRung> {
        Self::ALL.iter().copied().find(|r| r.name() == text).ok_or_else(|| UnknownRung(text.to_owned()))
    }
}

/// Reads `all` or a comma-separated list. Rungs run in the ladder's order, each once, whatever the list's order.
///
/// # Errors
/// Names the first word that is no rung; an empty list is an empty name.
pub fn parse_list(text: &str) -> Result<Vec<RungName>, UnknownRung> {
    if text == "all" {
        return Ok(RungName::ALL.to_vec());
    }
    let named: Vec<RungName> = text.split(',').map(|word| word.trim().parse()).collect::<Result<_, _>>()?;
    Ok(RungName::ALL.iter().copied().filter(|r| named.contains(r)).collect())
}

#[cfg(test)]
mod tests;
