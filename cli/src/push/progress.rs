//! A bar on stderr while bytes move, where a person watches; nothing otherwise.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::is_watched;

/// One bar.
#[derive(Clone, Debug)]
pub(crate) struct Bar(ProgressBar);

impl Bar {
    /// A bar of so many bytes.
    pub(crate) fn bytes(total: u64) -> Self {
        let bar = ProgressBar::new(total);
        if !is_watched() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        let style =
            ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes}  {bytes_per_sec}  {wide_msg}");
        // The template is a constant; a bar in another style is no reason to fail.
        if let Ok(style) = style {
            bar.set_style(style);
        }
        Self(bar)
    }
    /// So many bytes more.
    pub(crate) fn add(&self, bytes: u64) {
        self.0.inc(bytes);
    }
    /// What moves now.
    pub(crate) fn about(&self, what: &str) {
        self.0.set_message(what.to_owned());
    }
    /// Takes the bar away.
    pub(crate) fn done(&self) {
        self.0.finish_and_clear();
    }
}
