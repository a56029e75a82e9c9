//! A deterministic engine without weights, for tests of everything above this crate.
//!
//! It admits and refuses exactly as a real engine of its family, with one token a word. Answers are simple functions of
//! the input. [`FakeEngine::gated`] holds every call until the test lets it go, so tests of queues need no sleep.

use crate::admission::{admit, check_context, check_sampling, check_text, check_text_tokens};
use crate::engine::{Engine, TokenSink};
use crate::error::{InferError, InputError};
use crate::request::{FinishReason, GenerateRequest, Generated, InferRequest, Output, TokenEvent, Usage};
use crate::signature::{Family, Signature};
use crate::tensor::{Tensor, TensorData};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// See the module.
pub struct FakeEngine {
    signature: Signature,
    gate: Gate,
}

/// Calls pass one by one, or all at once when it is open.
#[derive(Default)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Default)]
struct GateState {
    open: bool,
    permits: usize,
    waiting: usize,
    passed: usize,
}

impl FakeEngine {
    /// A fake of that signature that answers at once.
    #[must_use]
    pub fn new(signature: Signature) -> Self {
        let fake = Self::gated(signature);
        fake.open();
        fake
    }

    /// A fake whose calls wait for [`FakeEngine::pass`] or [`FakeEngine::open`].
    #[must_use]
    pub fn gated(signature: Signature) -> Self {
        Self {
            signature,
            gate: Gate::default(),
        }
    }

    /// Lets one more call through.
    pub fn pass(&self) {
        self.gate.change(|state| state.permits += 1);
    }

    /// Lets all calls through from now on.
    pub fn open(&self) {
        self.gate.change(|state| state.open = true);
    }

    /// Blocks until a call waits at the gate.
    pub fn await_call(&self) {
        let state = self.gate.lock();
        drop(self.gate.changed.wait_while(state, |state| state.waiting == 0));
    }

    /// Calls that passed the gate so far.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.gate.lock().passed
    }
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, GateState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut GateState)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    fn wait(&self) {
        self.change(|state| state.waiting += 1);
        let blocked = |state: &mut GateState| !state.open && state.permits == 0;
        let mut state = self
            .changed
            .wait_while(self.lock(), blocked)
            .unwrap_or_else(PoisonError::into_inner);
        state.permits = state.permits.saturating_sub(1);
        state.waiting -= 1;
        state.passed += 1;
    }
}

impl Engine for FakeEngine {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn admit(&self, request: &InferRequest) -> Result<(), InputError> {
        admit(&self.signature, request)?;
        let texts = request.inputs.iter().filter_map(Tensor::as_texts).flatten();
        texts
            .enumerate()
            .try_for_each(|(index, text)| check_text_tokens(&self.signature.limits, index, words(text)))?;
        match (self.signature.family, first_text(request)) {
            (Family::Generator, Some(prompt)) => {
                check_context(&self.signature.limits, words(prompt), request.sampling.max_tokens)
            }
            _ => Ok(()),
        }
    }

    fn infer(&self, request: &InferRequest) -> Result<Output, InferError> {
        self.admit(request)?;
        if let (Family::Generator, Some(prompt)) = (self.signature.family, first_text(request)) {
            let request = GenerateRequest {
                prompt: prompt.to_owned(),
                sampling: request.sampling,
            };
            let generated = self.generate(&request, &mut |_| std::ops::ControlFlow::Continue(()))?;
            return Ok(generated.into_output());
        }
        self.gate.wait();
        let rows = request
            .inputs
            .first()
            .map_or(0, |tensor| tensor.shape.first().copied().unwrap_or(0));
        let sums = row_sums(request, rows);
        let tensors = self.signature.outputs.iter().map(|spec| {
            let width: usize = spec
                .shape
                .iter()
                .skip(1)
                .filter_map(|axis| usize::try_from(*axis).ok())
                .product();
            fill(spec, rows, width, &sums)
        });
        let input_tokens = request
            .inputs
            .iter()
            .filter_map(Tensor::as_texts)
            .flatten()
            .map(|text| words(text))
            .sum();
        Ok(Output {
            tensors: tensors.collect(),
            usage: Usage {
                input_tokens,
                output_tokens: 0,
            },
        })
    }

    fn admit_generate(&self, request: &GenerateRequest) -> Result<(), InputError> {
        if self.signature.family != Family::Generator {
            return Err(InputError::NotAGenerator {
                family: self.signature.family,
            });
        }
        let limits = &self.signature.limits;
        check_sampling(limits, &request.sampling)?;
        check_text(limits, 0, &request.prompt)?;
        check_context(limits, words(&request.prompt), request.sampling.max_tokens)
    }

    /// Repeats the words of the prompt, one call of the gate a token.
    fn generate(&self, request: &GenerateRequest, sink: &mut TokenSink<'_>) -> Result<Generated, InferError> {
        self.admit_generate(request)?;
        let (mut text, mut ids, mut finish) = (String::new(), Vec::new(), FinishReason::Length);
        for (index, word) in request
            .prompt
            .split_whitespace()
            .cycle()
            .take(request.sampling.max_tokens)
            .enumerate()
        {
            self.gate.wait();
            let event = TokenEvent {
                index,
                id: checksum(word),
                text: format!(" {word}"),
            };
            text.push_str(&event.text);
            ids.push(event.id);
            if sink(event).is_break() {
                finish = FinishReason::Cancelled;
                break;
            }
        }
        let usage = Usage {
            input_tokens: words(&request.prompt),
            output_tokens: ids.len(),
        };
        Ok(Generated {
            text,
            ids,
            finish,
            usage,
        })
    }
}

fn words(text: &str) -> usize {
    text.split_whitespace().count()
}

fn first_text(request: &InferRequest) -> Option<&str> {
    request
        .inputs
        .iter()
        .find_map(Tensor::as_texts)?
        .first()
        .map(String::as_str)
}

fn checksum(text: &str) -> u32 {
    text.bytes().fold(7, |sum: u32, byte| {
        sum.wrapping_mul(31).wrapping_add(u32::from(byte)) % 1009
    })
}

/// One number a row of the first input.
fn row_sums(request: &InferRequest, rows: usize) -> Vec<u32> {
    let Some(tensor) = request.inputs.first() else {
        return Vec::new();
    };
    let row = |index: usize, width: usize| match &tensor.data {
        TensorData::Fp32(values) => values
            .iter()
            .skip(index * width)
            .take(width)
            .fold(0, |sum: u32, value| sum.wrapping_mul(31) ^ value.to_bits()),
        TensorData::Int64(values) => values
            .iter()
            .skip(index * width)
            .take(width)
            .fold(0, |sum: u32, value| checksum(&format!("{sum} {value}"))),
        TensorData::Bytes(values) => values.get(index).map_or(0, |text| checksum(text)),
    };
    let width = tensor.data.len().checked_div(rows).unwrap_or(0);
    (0..rows).map(|index| row(index, width)).collect()
}

fn fill(spec: &crate::tensor::TensorSpec, rows: usize, width: usize, sums: &[u32]) -> Tensor {
    let shape: Vec<usize> = if spec.shape.len() > 1 {
        vec![rows, width]
    } else {
        vec![rows]
    };
    let cell = |sum: &u32, column: usize| {
        f64::from(sum.wrapping_add(u32::try_from(column).unwrap_or(0)) % 97) / 97.0
    };
    let each = sums
        .iter()
        .flat_map(|sum| (0..width).map(move |column| cell(sum, column)));
    match spec.datatype {
        crate::tensor::Datatype::Fp32 => {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "a fraction of 97 needs no more digits than an f32 has"
            )]
            let values = each.map(|value| value as f32).collect();
            Tensor::fp32(&spec.name, &shape, values)
        }
        crate::tensor::Datatype::Int64 => Tensor::int64(
            &spec.name,
            &shape,
            sums.iter().map(|sum| i64::from(sum % 10)).collect(),
        ),
        crate::tensor::Datatype::Bytes => {
            Tensor::texts(&spec.name, sums.iter().map(u32::to_string).collect())
        }
    }
}
