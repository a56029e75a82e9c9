//! config.json of the digits classifier: our own format.

use super::{check_dimensions, parse};
use crate::error::LoadError;
use serde::Deserialize;
use serde_json::Value;
use std::path::Path;

/// Our own small CNN: two 3x3 convolutions, one 2x2 max pool, two dense layers.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct DigitsConfig {
    pub(crate) image_size: [usize; 2],
    pub(crate) pixel_max: f32,
    pub(crate) channels: [usize; 2],
    pub(crate) hidden_size: usize,
    pub(crate) classes: usize,
}

/// Reads and checks the config.
pub(super) fn read(file: &Path, value: Value) -> Result<DigitsConfig, LoadError> {
    let config: DigitsConfig = parse(file, value)?;
    let [height, width] = config.image_size;
    let dimensions = [
        ("image_size[0]", height),
        ("image_size[1]", width),
        ("channels[0]", config.channels[0]),
        ("channels[1]", config.channels[1]),
        ("hidden_size", config.hidden_size),
        ("classes", config.classes),
    ];
    check_dimensions(file, &dimensions, 1)?;
    if config.image_size != [8, 8] {
        return Err(LoadError::unsupported(
            file,
            format!("image_size is {height}x{width}"),
            "only 8x8 is served",
        ));
    }
    if !(config.pixel_max.is_finite() && config.pixel_max > 0.0) {
        return Err(LoadError::malformed(
            file,
            format!("pixel_max is {}, it must be above 0", config.pixel_max),
        ));
    }
    Ok(config)
}
