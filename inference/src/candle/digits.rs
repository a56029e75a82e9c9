//! The digits classifier: two 3x3 convolutions, a 2x2 max pool, two dense layers.

use super::internal;
use super::product::product;
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
    bias: Tensor,
}

impl Layer {
    fn load(source: &mut WeightSource, name: &str) -> std::result::Result<Self, LoadError> {
        Ok(Self {
            weight: source.dense(&format!("{name}.weight"))?,
            bias: source.dense(&format!("{name}.bias"))?,
        })
    }

    /// A 3x3 convolution with a border of zeros, `[channels, height, width]` to `[filters, height, width]`: one product
    /// over the nine shifted images.
    fn convolve(&self, x: &Tensor) -> Result<Tensor> {
        let (channels, height, width) = x.dims3()?;
        let padded = x.pad_with_zeros(1, 1, 1)?.pad_with_zeros(2, 1, 1)?;
        let shift = |at: usize| {
            padded
                .narrow(1, at / 3, height)?
                .narrow(2, at % 3, width)?
                .contiguous()
        };
        let shifts = (0..9).map(shift).collect::<Result<Vec<_>>>()?;
        let columns = Tensor::cat(&shifts, 0)?.reshape((9 * channels, height * width))?;
        let y = product(&self.weight, &columns)?.broadcast_add(&self.bias.unsqueeze(1)?)?;
        y.relu()?.reshape(((), height, width))
    }

    /// The weight `[filters, channels, 3, 3]` as a matrix `[filters, 9 * channels]`, shifts before channels.
    fn load_convolution(source: &mut WeightSource, name: &str) -> std::result::Result<Self, LoadError> {
        let layer = Self::load(source, name)?;
        let weight = layer
            .weight
            .permute((0, 2, 3, 1))
            .and_then(|weight| weight.contiguous()?.flatten_from(1));
        let failed =
            |error: candle_core::Error| LoadError::malformed(&source.index().file, error.to_string());
        Ok(Self {
            weight: weight.map_err(failed)?,
            bias: layer.bias,
        })
    }

    fn dense(&self, x: &Tensor) -> Result<Tensor> {
        product(x, &self.weight.t()?)?.broadcast_add(&self.bias)
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
            conv1: Layer::load_convolution(source, "conv1")?,
            conv2: Layer::load_convolution(source, "conv2")?,
            fc1: Layer::load(source, "fc1")?,
            fc2: Layer::load(source, "fc2")?,
        })
    }

    /// One image to its probabilities.
    fn forward(&self, pixels: &[f32]) -> Result<Vec<f32>> {
        let [height, width] = self.side;
        let x = (Tensor::from_slice(pixels, (1, height, width), &Device::Cpu)? / self.pixel_max)?;
        let x = self
            .conv2
            .convolve(&self.conv1.convolve(&x)?)?
            .unsqueeze(0)?
            .max_pool2d(2)?;
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
            if row.iter().any(|value| !value.is_finite()) {
                return Err(InferError::Internal {
                    what: "the probabilities are not finite".to_owned(),
                });
            }
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
