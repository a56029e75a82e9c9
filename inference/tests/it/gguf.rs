//! GGUF files: the tiny language model, rewritten by candle in the layout of llama.cpp.

use crate::support::{copy_of, engine, model_dir};
use candle_core::quantized::gguf_file::{Value, write};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};
use inference::{GenerateRequest, LoadErrorKind, LoadOptions, load, validate_dir};
use std::ops::ControlFlow;
use std::path::Path;
use tempfile::TempDir;

const NAMES: [(&str, &str); 9] = [
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
    ("input_layernorm", "attn_norm"),
    ("post_attention_layernorm", "ffn_norm"),
];

fn gguf_name(name: &str) -> String {
    let name = name
        .replace("model.layers.", "blk.")
        .replace("model.embed_tokens", "token_embd");
    let name = name.replace("model.norm", "output_norm");
    NAMES.iter().fold(name, |name, (from, to)| name.replace(from, to))
}

/// llama.cpp keeps the two halves of a rotary pair side by side.
fn interleave(weight: &Tensor, heads: usize) -> Tensor {
    let (rows, columns) = weight.dims2().unwrap();
    let split = weight.reshape((heads, 2, rows / heads / 2, columns)).unwrap();
    split
        .transpose(1, 2)
        .unwrap()
        .contiguous()
        .unwrap()
        .reshape((rows, columns))
        .unwrap()
}

fn quantise(name: &str, tensor: &Tensor, kind: GgmlDType) -> (String, QTensor) {
    let tensor = tensor.to_dtype(DType::F32).unwrap();
    let tensor = match name {
        name if name.contains("q_proj") => interleave(&tensor, 4),
        name if name.contains("k_proj") => interleave(&tensor, 2),
        _ => tensor,
    };
    let kind = if tensor.rank() == 1 { GgmlDType::F32 } else { kind };
    (gguf_name(name), QTensor::quantize(&tensor, kind).unwrap())
}

fn write_gguf(file: &Path, architecture: &str, kind: GgmlDType) {
    let weights =
        candle_core::safetensors::load(model_dir("tinylm").join("model.safetensors"), &Device::Cpu).unwrap();
    let tensors: Vec<_> = weights
        .iter()
        .map(|(name, tensor)| quantise(name, tensor, kind))
        .collect();
    let tensors: Vec<_> = tensors
        .iter()
        .map(|(name, tensor)| (name.as_str(), tensor))
        .collect();
    let architecture = Value::String(architecture.to_owned());
    let list = Value::Array(vec![Value::String("a".to_owned()), Value::String("b".to_owned())]);
    let metadata = [
        ("general.architecture", &architecture),
        ("tokenizer.ggml.tokens", &list),
    ];
    write(&mut std::fs::File::create(file).unwrap(), &metadata, &tensors).unwrap();
}

fn directory(architecture: &str, kind: GgmlDType) -> TempDir {
    let copy = copy_of("tinylm");
    std::fs::remove_file(copy.path().join("model.safetensors")).unwrap();
    write_gguf(&copy.path().join("model.gguf"), architecture, kind);
    copy
}

fn story(engine: &dyn inference::Engine) -> Vec<u32> {
    let request = GenerateRequest::greedy("There once lived a shy owl in the forest. His name was Leo.", 32);
    engine
        .generate(&request, &mut |_| ControlFlow::Continue(()))
        .unwrap()
        .ids
}

#[test]
fn f32_gguf_gives_the_tokens_of_the_safetensors_file() {
    let dir = directory("llama", GgmlDType::F32);
    assert_eq!(validate_dir(dir.path()).unwrap().format, "gguf");
    let loaded = load(dir.path(), &LoadOptions::default()).unwrap();
    assert_eq!(story(loaded.as_ref()), story(engine("tinylm").as_ref()));
}

#[test]
fn q8_gguf_starts_the_same_story() {
    let dir = directory("llama", GgmlDType::Q8_0);
    let loaded = load(dir.path(), &LoadOptions::default()).unwrap();
    // Eight bits move near ties, so only the start must be the same.
    assert_eq!(story(loaded.as_ref())[..8], story(engine("tinylm").as_ref())[..8]);
}

#[test]
fn gguf_of_another_architecture_is_refused() {
    let error = validate_dir(directory("falcon", GgmlDType::F32).path()).unwrap_err();
    assert_eq!(error.kind, LoadErrorKind::UnknownArchitecture);
    assert!(error.to_string().contains("\"falcon\""), "{error}");
}

#[test]
fn a_cut_or_scrambled_gguf_is_refused_and_never_panics() {
    let dir = directory("llama", GgmlDType::Q8_0);
    let file = dir.path().join("model.gguf");
    let whole = std::fs::read(&file).unwrap();
    let lengths = (0..200)
        .chain((200..4096).step_by(61))
        .chain([whole.len() / 2, whole.len() - 1]);
    for length in lengths {
        std::fs::write(&file, &whole[..length]).unwrap();
        assert!(
            load(dir.path(), &LoadOptions::default()).is_err(),
            "cut at {length}"
        );
    }
    for position in 0..800 {
        let mut bytes = whole.clone();
        bytes[position] ^= 0xff;
        std::fs::write(&file, &bytes).unwrap();
        // Some bytes (padding, a key's letters) do no harm; none may panic.
        let _ = validate_dir(dir.path());
    }
}
