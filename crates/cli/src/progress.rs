//! A progress bar on stderr, if that is a terminal.

use indicatif::{ProgressBar, ProgressStyle};
use std::{
    io::{self, IsTerminal},
    time::{Duration, Instant},
};

pub(crate) struct Progress {
    bar: ProgressBar,
    begun: Instant,
}

/// Short work needs no bar.
const LONG: Duration = Duration::from_secs(1);

impl Progress {
    pub(crate) fn new(verb: &'static str, total: Option<u64>) -> Self {
        let bar = match total {
            _ if !io::stderr().is_terminal() => ProgressBar::hidden(),
            Some(total) => ProgressBar::new(total),
            None => ProgressBar::new_spinner(),
        };
        let template = match total {
            Some(_) => "{msg} {human_pos} of {human_len} {wide_bar} {per_sec}, {eta} left",
            None => "{msg} {human_pos} {spinner} {per_sec}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(verb);
        Self { bar, begun: Instant::now() }
    }

    pub(crate) fn is_at(&self, n: u64) {
        if !self.bar.is_hidden() && n % 64 == 0 && self.begun.elapsed() > LONG {
            self.bar.set_position(n);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
