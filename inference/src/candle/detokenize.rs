//! Token ids to text while they come: what a token adds, and no half characters.

use super::text::TextCodec;

/// Ids before the answer that are decoded along, because some decoders treat the start of a text specially (they drop a
/// leading space).
const CONTEXT: usize = 4;

/// Text of a growing list of ids. Decodes only a window, so that the work of a token does not grow with the text.
pub(super) struct Detokenizer {
    ids: Vec<u32>,
    /// Start of the window.
    start: usize,
    /// End of what was given out.
    given: usize,
}

impl Detokenizer {
    pub(super) fn new(prompt: &[u32]) -> Self {
        let ids = prompt[prompt.len().saturating_sub(CONTEXT)..].to_vec();
        Self {
            start: 0,
            given: ids.len(),
            ids,
        }
    }

    /// The text that `id` completes. Empty while a character is unfinished.
    pub(super) fn push(&mut self, codec: &TextCodec, id: u32) -> Result<String, String> {
        self.ids.push(id);
        let new = self.unseen(codec)?;
        // The replacement character ends a text whose last bytes are not a whole character yet.
        if new.ends_with('\u{fffd}') {
            return Ok(String::new());
        }
        self.start = self.given.max(self.ids.len().saturating_sub(CONTEXT));
        self.start = self.start.min(self.ids.len() - 1);
        self.given = self.ids.len();
        Ok(new)
    }

    /// What is left at the end, with a replacement for a character that never became whole.
    pub(super) fn finish(&self, codec: &TextCodec) -> Result<String, String> {
        self.unseen(codec)
    }

    fn unseen(&self, codec: &TextCodec) -> Result<String, String> {
        let before = codec.decode(&self.ids[self.start..self.given])?;
        let all = codec.decode(&self.ids[self.start..])?;
        Ok(all.get(before.len()..).unwrap_or_default().to_owned())
    }
}
