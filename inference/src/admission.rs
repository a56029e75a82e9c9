//! What is refused before a forward pass. Pure: a signature and a request in, the first defect out.
//!
//! Counting tokens needs the model's tokenizer, so engines do that after these checks, by [`check_text_tokens`].

use crate::error::InputError;
use crate::request::{InferRequest, Sampling};
use crate::signature::{Limits, Signature};
use crate::tensor::{Tensor, TensorData, TensorSpec};

/// Above this the distribution is noise; clients of other APIs know the same bound.
pub const TEMPERATURE_MAX: f32 = 2.0;

/// Checks names, types, shapes, counts, values and sizes of all inputs.
///
/// # Errors
/// The first defect, inputs taken in the order of the signature.
pub fn admit(signature: &Signature, request: &InferRequest) -> Result<(), InputError> {
    check_names(signature, &request.inputs)?;
    for spec in &signature.inputs {
        let tensor = request.inputs.iter().find(|tensor| tensor.name == spec.name);
        let tensor = tensor.ok_or_else(|| missing(signature, &spec.name))?;
        check_tensor(spec, tensor, &signature.limits)?;
    }
    if signature.limits.max_new_tokens.is_some() {
        check_sampling(&signature.limits, &request.sampling)
    } else {
        Ok(())
    }
}

/// Checks the bounds of `max_tokens`, temperature and `top_p`.
///
/// # Errors
/// The first value out of bounds.
pub fn check_sampling(limits: &Limits, sampling: &Sampling) -> Result<(), InputError> {
    let limit = limits.max_new_tokens.unwrap_or(0);
    if sampling.max_tokens == 0 || sampling.max_tokens > limit {
        return Err(InputError::MaxTokens {
            found: sampling.max_tokens,
            limit,
        });
    }
    // Written so that NaN is refused as well.
    if !(0.0..=TEMPERATURE_MAX).contains(&sampling.temperature) {
        return Err(InputError::Temperature {
            found: sampling.temperature,
            limit: TEMPERATURE_MAX,
        });
    }
    if !(sampling.top_p > 0.0 && sampling.top_p <= 1.0) {
        return Err(InputError::TopP {
            found: sampling.top_p,
        });
    }
    Ok(())
}

/// Checks one text before it is tokenized.
///
/// # Errors
/// Empty, or longer in bytes than the limit.
pub fn check_text(limits: &Limits, index: usize, text: &str) -> Result<(), InputError> {
    if text.trim().is_empty() {
        return Err(InputError::EmptyText { index });
    }
    match limits.max_text_bytes {
        Some(limit) if text.len() > limit => Err(InputError::TextBytes {
            index,
            bytes: text.len(),
            limit,
        }),
        _ => Ok(()),
    }
}

/// Checks the length of one tokenized text.
///
/// # Errors
/// More tokens than the model has positions.
pub fn check_text_tokens(limits: &Limits, index: usize, tokens: usize) -> Result<(), InputError> {
    match limits.max_tokens {
        Some(limit) if tokens > limit => Err(InputError::TextTokens { index, tokens, limit }),
        _ => Ok(()),
    }
}

/// Checks that a prompt and the asked-for answer fit together.
///
/// # Errors
/// The prompt alone is too long, or both together are.
pub fn check_context(limits: &Limits, prompt_tokens: usize, max_tokens: usize) -> Result<(), InputError> {
    check_text_tokens(limits, 0, prompt_tokens)?;
    match limits.max_tokens {
        Some(limit) if prompt_tokens.saturating_add(max_tokens) > limit => Err(InputError::Context {
            prompt_tokens,
            max_tokens,
            limit,
        }),
        _ => Ok(()),
    }
}

fn check_names(signature: &Signature, inputs: &[Tensor]) -> Result<(), InputError> {
    for (position, tensor) in inputs.iter().enumerate() {
        if !signature.inputs.iter().any(|spec| spec.name == tensor.name) {
            return Err(InputError::Unknown {
                name: tensor.name.clone(),
                expected: expected(signature),
            });
        }
        if inputs
            .iter()
            .take(position)
            .any(|earlier| earlier.name == tensor.name)
        {
            return Err(InputError::Duplicate {
                name: tensor.name.clone(),
            });
        }
    }
    Ok(())
}

fn check_tensor(spec: &TensorSpec, tensor: &Tensor, limits: &Limits) -> Result<(), InputError> {
    if tensor.data.datatype() != spec.datatype {
        let (found, expected) = (tensor.data.datatype(), spec.datatype);
        return Err(InputError::Datatype {
            name: spec.name.clone(),
            found,
            expected,
        });
    }
    // The batch before the fixed axes: an empty request is called empty, whatever its other axes say.
    if tensor.shape.contains(&0) || tensor.data.is_empty() {
        return Err(InputError::Empty {
            name: spec.name.clone(),
        });
    }
    if !spec.accepts_shape(&tensor.shape) {
        let (found, expected) = (tensor.shape.clone(), spec.shape.clone());
        return Err(InputError::Shape {
            name: spec.name.clone(),
            found,
            expected,
        });
    }
    check_count(tensor)?;
    match tensor.shape.first() {
        Some(&found) if found > limits.max_batch => Err(InputError::Batch {
            found,
            limit: limits.max_batch,
        }),
        _ => check_values(tensor, limits),
    }
}

fn check_count(tensor: &Tensor) -> Result<(), InputError> {
    // A shape is a caller's claim: its product may not fit a machine word.
    let needed = tensor
        .shape
        .iter()
        .try_fold(1usize, |all, axis| all.checked_mul(*axis));
    if needed == Some(tensor.data.len()) {
        return Ok(());
    }
    let expected = needed.map_or_else(
        || "more than can be counted".to_owned(),
        |count| count.to_string(),
    );
    let (name, shape) = (tensor.name.clone(), tensor.shape.clone());
    Err(InputError::Count {
        name,
        found: tensor.data.len(),
        shape,
        expected,
    })
}

fn check_values(tensor: &Tensor, limits: &Limits) -> Result<(), InputError> {
    match &tensor.data {
        TensorData::Fp32(values) => check_floats(&tensor.name, values, limits),
        TensorData::Bytes(texts) => texts
            .iter()
            .enumerate()
            .try_for_each(|(index, text)| check_text(limits, index, text)),
        TensorData::Int64(_) => Ok(()),
    }
}

fn check_floats(name: &str, values: &[f32], limits: &Limits) -> Result<(), InputError> {
    for (index, &value) in values.iter().enumerate() {
        if !value.is_finite() {
            return Err(InputError::NotFinite {
                name: name.to_owned(),
                index,
                value,
            });
        }
        if let Some((min, max)) = limits.value_range
            && !(min..=max).contains(&value)
        {
            return Err(InputError::OutOfRange {
                name: name.to_owned(),
                index,
                value,
                min,
                max,
            });
        }
    }
    Ok(())
}

fn missing(signature: &Signature, name: &str) -> InputError {
    InputError::Missing {
        name: name.to_owned(),
        expected: expected(signature),
    }
}

fn expected(signature: &Signature) -> String {
    let specs = signature
        .inputs
        .iter()
        .map(|spec| format!("{} {} {:?}", spec.name, spec.datatype, spec.shape));
    specs.collect::<Vec<_>>().join(", ")
}
