//! The views of a profile: how their files are called, and what is said of each.

/// From whose point of view time is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum View {
    /// Wall-clock time of requests, by our own layer: `[await]` and `[poll]`.
    Wall,
    /// Samples of the CPU, by perf.
    Cpu,
    /// Busy time, by tracing-flame.
    Busy,
}

impl View {
    /// In the order in which they are shown.
    pub const ALL: [Self; 3] = [Self::Wall, Self::Cpu, Self::Busy];

    /// What its files' names begin with.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Wall => "wall",
            Self::Cpu => "cpu",
            Self::Busy => "busy",
        }
    }

    /// What its pictures are titled with.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Wall => "wall clock",
            Self::Cpu => "CPU",
            Self::Busy => "busy time only",
        }
    }

    /// How to read it, and what it does not show.
    #[must_use]
    pub const fn note(self) -> &'static str {
        match self {
            Self::Wall => {
                "Wall-clock time of a rollout's calls inside the service. [await]: none of the request's code ran; [poll]: it did."
            }
            Self::Cpu => {
                "Samples of the service's threads while on a CPU. Waiting is not in it; _[k] is the kernel."
            }
            Self::Busy => {
                "Busy time only, by tracing-flame: awaits are not in it, and only stages that are polled as such stand apart."
            }
        }
    }

    fn of(name: &str) -> Option<Self> {
        let (view, _) = name.split_once('-')?;
        Self::ALL.into_iter().find(|one| one.name() == view)
    }
}

const TO: &str = "-to-";
const BACK: &str = "-back";

/// A side's name as a part of file names.
#[must_use]
pub fn file_label(label: &str) -> String {
    let mut name = String::new();
    for c in label.chars() {
        match c {
            c if c.is_ascii_alphanumeric() || c == '.' || c == '_' => name.push(c),
            _ if name.ends_with('-') || name.is_empty() => {}
            _ => name.push('-'),
        }
    }
    let name: String = name.trim_matches(['-', '.']).chars().take(60).collect();
    let name = name.replace(TO, "_to_");
    if name.is_empty() { "side".to_owned() } else { name }
}

/// `wall-blob`: one side's picture, without the file's ending.
#[must_use]
pub fn single(view: View, label: &str) -> String {
    format!("{}-{}", view.name(), file_label(label))
}

/// `wall-blob-to-bounded`, and `wall-blob-to-bounded-back` the other way round.
#[must_use]
pub fn differences(view: View, a: &str, b: &str) -> [String; 2] {
    let there = format!("{}{TO}{}", single(view, a), file_label(b));
    let back = format!("{there}{BACK}");
    [there, back]
}

/// Whether a picture of that name shows a difference.
pub(crate) fn is_difference(name: &str) -> bool {
    View::of(name).is_some() && name.contains(TO)
}

/// Where a picture of that name stands among others: single ones first, those of one view together; what is not ours comes last.
pub(crate) fn place(name: &str) -> (u8, bool, String) {
    let view = View::of(name).map_or(View::ALL.len(), |view| view as usize);
    (view as u8, is_difference(name), name.to_owned())
}

/// What the page says of a picture; empty of one that is not ours.
pub(crate) fn note(name: &str) -> String {
    let Some(view) = View::of(name) else { return String::new() };
    let Some((a, b)) = name.split_once(TO).filter(|_| is_difference(name)) else {
        return view.note().to_owned();
    };
    let a = a.split_once('-').map_or(a, |(_, a)| a);
    let (was, is) = match b.strip_suffix(BACK) {
        Some(b) => (b, a),
        None => (a, b),
    };
    let scaled = if view == View::Cpu { ", samples scaled to the same total" } else { "" };
    format!(
        "{}, the widths of {is}: red takes more than in {was}, blue less{scaled}. What {is} does not do at all has no width here: see the other way.",
        view.title()
    )
}
