//! What the terminal is told while something runs, and how wide and colourful it is.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Arc;

use mipro_bench_reports::text::Style;
use mipro_harness::Watcher;
use mipro_loadgen::{Progress, silent};

mod live;

use live::Live;

const WIDTH_DEFAULT: usize = 120;

/// How to print to stdout: colour only for a terminal whose owner has not asked for none.
pub(crate) fn style(no_color: bool) -> Style {
    let color = io::stdout().is_terminal() && !no_color && std::env::var_os("NO_COLOR").is_none();
    Style { color, width: width() }
}

/// The terminal's columns, or `COLUMNS`, or room for a whole table where nobody looks.
fn width() -> usize {
    let asked = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    let seen = || rustix::termios::tcgetwinsize(io::stdout()).ok().map(|size| usize::from(size.ws_col));
    asked.or_else(seen).filter(|columns| *columns > 0).unwrap_or(WIDTH_DEFAULT)
}

/// Tells the steps of a run on stderr.
#[derive(Debug)]
pub(crate) struct Screen {
    /// Tells nothing.
    pub(crate) quiet: bool,
    /// Without colour, whatever the terminal and the environment say.
    pub(crate) no_color: bool,
}

impl Screen {
    /// The display of one stretch of load.
    pub(crate) fn progress(&self, label: &str) -> Arc<dyn Progress> {
        if self.quiet { silent() } else { Arc::new(Live::stderr(label, self.no_color)) }
    }
}

impl Watcher for Screen {
    fn step(&self, what: &str) {
        if !self.quiet {
            // A stderr that is gone takes no progress; the run goes on.
            let _ = writeln!(io::stderr(), "{what}");
        }
    }

    fn rung(&self, name: &str, index: usize, of: usize) -> Arc<dyn Progress> {
        self.progress(&format!("{}/{of} {name}", index + 1))
    }
}
