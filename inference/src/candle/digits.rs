//! The digits classifier: two 3x3 convolutions, a 2x2 max pool, two dense layers.

use super::internal;
use super::source::WeightSource;
use crate::admission::admit;
use crate::config::DigitsConfig;
use crate::engine::Engine;
use crate::error::{InferError, InputError, LoadError};
use crate::request::{InferRequest, Output, Usage};
use crate::sampling::argmax;
use crate::signature::Signature;
use crate::tensor::Tensor as Plain;
use candle_core::{Device, Result, Tensor};

/// Images `[batch, 64]` to classes `[batch]` and probabilities `[batch, 10]`.
pub(super) struct Digits {
    signature: Signature,
    side: [usize; 2],
    classes: usize,
    pixel_max: f64,
    conv1: Layer,
    conv2: Layer,
    fc1: Layer,
    fc2: Layer,
}

struct Layer {
    weight: Tensor,
    /// Shaped to broadcast: `[1, channels, 1, 1]` or `[width]`.
    bias: Tensor,
}

impl Layer {
    fn load(source: &mut WeightSource, name: &str) -> std::result::Result<Self, LoadError> {
        Ok(Self {
            weight: source.dense(&format!("{name}.weight"))?,
            bias: source.dense(&format!("{name}.bias"))?,
        })
    }

    fn convolve(&self, x: &Tensor) -> Result<Tensor> {
        let bias = self.bias.reshape((1, (), 1, 1))?;
        x.conv2d(&self.weight, 1, 1, 1, 1)?.broadcast_add(&bias)?.relu()
    }

    fn dense(&self, x: &Tensor) -> Result<Tensor> {
        x.matmul(&self.weight.t()?)?.broadcast_add(&self.bias)
    }
}

impl Digits {
    pub(super) fn load(
        config: &DigitsConfig,
        signature: Signature,
        source: &mut WeightSource,
    ) -> std::result::Result<Self, LoadError> {
        Ok(Self {
            signature,
            side: config.image_size,
            classes: config.classes,
            pixel_max: f64::from(config.pixel_max),
            conv1: Layer::load(source, "conv1")?,
            conv2: Layer::load(source, "conv2")?,
            fc1: Layer::load(source, "fc1")?,
            fc2: Layer::load(source, "fc2")?,
        })
    }

    /// One image to its probabilities.
    fn forward(&self, pixels: &[f32]) -> Result<Vec<f32>> {
        let [height, width] = self.side;
        let x = (Tensor::from_slice(pixels, (1, 1, height, width), &Device::Cpu)? / self.pixel_max)?;
        let x = self.conv2.convolve(&self.conv1.convolve(&x)?)?.max_pool2d(2)?;
        let x = self.fc1.dense(&x.flatten_from(1)?)?.relu()?;
        candle_nn::ops::softmax_last_dim(&self.fc2.dense(&x)?)?
            .flatten_all()?
            .to_vec1()
    }
}

impl Engine for Digits {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn admit(&self, request: &InferRequest) -> std::result::Result<(), InputError> {
        admit(&self.signature, request)
    }

    fn infer(&self, request: &InferRequest) -> std::result::Result<Output, InferError> {
        self.admit(request)?;
        let pixels = request
            .inputs
            .first()
            .and_then(Plain::as_fp32)
            .unwrap_or_default();
        let (mut classes, mut probabilities) = (Vec::new(), Vec::new());
        for image in pixels.chunks_exact(self.side[0] * self.side[1]) {
            let row = self.forward(image).map_err(internal)?;
            let class = argmax(&row).and_then(|class| i64::try_from(class).ok());
            classes.push(class.ok_or_else(|| InferError::Internal {
                what: "no probabilities".to_owned(),
            })?);
            probabilities.extend(row);
        }
        let rows = classes.len();
        let tensors = vec![
            Plain::int64("class", &[rows], classes),
            Plain::fp32("probabilities", &[rows, self.classes], probabilities),
        ];
        Ok(Output {
            tensors,
            usage: Usage::default(),
        })
    }
}
