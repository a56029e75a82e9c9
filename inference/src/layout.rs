//! Which tensors a config implies: names and shapes. One list, used both to check a directory and to load it.

use crate::config::{BertConfig, DigitsConfig, LlamaConfig, ModelConfig};

/// A tensor that must be in the weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
}

fn expect(list: &mut Vec<Expected>, name: impl Into<String>, shape: &[usize]) {
    list.push(Expected {
        name: name.into(),
        shape: shape.to_vec(),
    });
}

/// A weight `[output, input]` and a bias `[output]`.
fn dense(list: &mut Vec<Expected>, name: &str, output: usize, input: usize) {
    expect(list, format!("{name}.weight"), &[output, input]);
    expect(list, format!("{name}.bias"), &[output]);
}

fn norm(list: &mut Vec<Expected>, name: &str, width: usize) {
    expect(list, format!("{name}.weight"), &[width]);
    expect(list, format!("{name}.bias"), &[width]);
}

/// The tensors of a safetensors file for this config, without any prefix.
pub(crate) fn safetensors(config: &ModelConfig) -> Vec<Expected> {
    match config {
        ModelConfig::Bert(config) => bert(config),
        ModelConfig::Digits(config) => digits(config),
        ModelConfig::Llama(config) => llama(config),
    }
}

fn bert(config: &BertConfig) -> Vec<Expected> {
    let (hidden, inner, mut list) = (config.hidden_size, config.intermediate_size, Vec::new());
    expect(
        &mut list,
        "embeddings.word_embeddings.weight",
        &[config.vocab_size, hidden],
    );
    expect(
        &mut list,
        "embeddings.position_embeddings.weight",
        &[config.max_position_embeddings, hidden],
    );
    expect(
        &mut list,
        "embeddings.token_type_embeddings.weight",
        &[config.type_vocab_size, hidden],
    );
    norm(&mut list, "embeddings.LayerNorm", hidden);
    for layer in 0..config.num_hidden_layers {
        let at = format!("encoder.layer.{layer}");
        for part in ["query", "key", "value"] {
            dense(&mut list, &format!("{at}.attention.self.{part}"), hidden, hidden);
        }
        dense(&mut list, &format!("{at}.attention.output.dense"), hidden, hidden);
        norm(&mut list, &format!("{at}.attention.output.LayerNorm"), hidden);
        dense(&mut list, &format!("{at}.intermediate.dense"), inner, hidden);
        dense(&mut list, &format!("{at}.output.dense"), hidden, inner);
        norm(&mut list, &format!("{at}.output.LayerNorm"), hidden);
    }
    list
}

fn digits(config: &DigitsConfig) -> Vec<Expected> {
    let ([first, second], mut list) = (config.channels, Vec::new());
    let [height, width] = config.image_size;
    // One 2x2 pool halves each side.
    let flat = second * (height / 2) * (width / 2);
    expect(&mut list, "conv1.weight", &[first, 1, 3, 3]);
    expect(&mut list, "conv1.bias", &[first]);
    expect(&mut list, "conv2.weight", &[second, first, 3, 3]);
    expect(&mut list, "conv2.bias", &[second]);
    dense(&mut list, "fc1", config.hidden_size, flat);
    dense(&mut list, "fc2", config.classes, config.hidden_size);
    list
}

fn llama(config: &LlamaConfig) -> Vec<Expected> {
    let mut list = Vec::new();
    expect(
        &mut list,
        "model.embed_tokens.weight",
        &[config.vocab_size, config.hidden_size],
    );
    expect(&mut list, "model.norm.weight", &[config.hidden_size]);
    if !config.tie_word_embeddings {
        expect(
            &mut list,
            "lm_head.weight",
            &[config.vocab_size, config.hidden_size],
        );
    }
    for layer in 0..config.num_hidden_layers {
        for (name, shape) in llama_layer(config) {
            expect(
                &mut list,
                format!("model.layers.{layer}.{}.weight", name.hugging_face()),
                &shape,
            );
        }
    }
    list
}

/// The tensors of a GGUF file for this config. The output head may be absent: then it is the embedding.
pub(crate) fn gguf(config: &LlamaConfig) -> Vec<Expected> {
    let mut list = Vec::new();
    expect(
        &mut list,
        "token_embd.weight",
        &[config.vocab_size, config.hidden_size],
    );
    expect(&mut list, "output_norm.weight", &[config.hidden_size]);
    if !config.tie_word_embeddings {
        expect(
            &mut list,
            "output.weight",
            &[config.vocab_size, config.hidden_size],
        );
    }
    for layer in 0..config.num_hidden_layers {
        for (name, shape) in llama_layer(config) {
            expect(&mut list, format!("blk.{layer}.{}.weight", name.gguf()), &shape);
        }
    }
    list
}

/// The weights of one Llama layer; two file formats call them by two names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LayerWeight {
    Query,
    Key,
    Value,
    Output,
    Gate,
    Up,
    Down,
    AttentionNorm,
    FeedForwardNorm,
}

impl LayerWeight {
    pub(crate) fn hugging_face(self) -> &'static str {
        match self {
            Self::Query => "self_attn.q_proj",
            Self::Key => "self_attn.k_proj",
            Self::Value => "self_attn.v_proj",
            Self::Output => "self_attn.o_proj",
            Self::Gate => "mlp.gate_proj",
            Self::Up => "mlp.up_proj",
            Self::Down => "mlp.down_proj",
            Self::AttentionNorm => "input_layernorm",
            Self::FeedForwardNorm => "post_attention_layernorm",
        }
    }

    pub(crate) fn gguf(self) -> &'static str {
        match self {
            Self::Query => "attn_q",
            Self::Key => "attn_k",
            Self::Value => "attn_v",
            Self::Output => "attn_output",
            Self::Gate => "ffn_gate",
            Self::Up => "ffn_up",
            Self::Down => "ffn_down",
            Self::AttentionNorm => "attn_norm",
            Self::FeedForwardNorm => "ffn_norm",
        }
    }
}

fn llama_layer(config: &LlamaConfig) -> [(LayerWeight, Vec<usize>); 9] {
    let (hidden, inner) = (config.hidden_size, config.intermediate_size);
    let query = config.num_attention_heads * config.head_dim();
    let key = config.kv_heads() * config.head_dim();
    [
        (LayerWeight::Query, vec![query, hidden]),
        (LayerWeight::Key, vec![key, hidden]),
        (LayerWeight::Value, vec![key, hidden]),
        (LayerWeight::Output, vec![hidden, query]),
        (LayerWeight::Gate, vec![inner, hidden]),
        (LayerWeight::Up, vec![inner, hidden]),
        (LayerWeight::Down, vec![hidden, inner]),
        (LayerWeight::AttentionNorm, vec![hidden]),
        (LayerWeight::FeedForwardNorm, vec![hidden]),
    ]
}
