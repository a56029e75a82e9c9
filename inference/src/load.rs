//! Loading a directory: the checks, then the engine of its family.

use crate::engine::Engine;
use crate::error::LoadError;
use crate::options::LoadOptions;
use crate::validate::check;
use std::path::Path;
use std::sync::Arc;

/// Checks a model directory, reads its weights and gives the engine of its family. Blocks for the length of the read.
///
/// # Errors
/// The first defect: file, what was found, remedy. Without the feature `candle` also a directory in order is refused,
/// as [`crate::LoadErrorKind::NoEngine`].
pub fn load(dir: &Path, options: &LoadOptions) -> Result<Arc<dyn Engine>, LoadError> {
    let checked = check(dir, options)?;
    #[cfg(feature = "candle")]
    return crate::candle::load(dir, checked);
    #[cfg(not(feature = "candle"))]
    {
        let problem = format!("this build cannot run {} models", checked.summary.family);
        let remedy = "build with the feature candle";
        Err(LoadError::new(
            dir,
            crate::error::LoadErrorKind::NoEngine,
            problem,
            remedy,
        ))
    }
}
