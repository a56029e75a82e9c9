"""Trains `demo.tinylm`: a small Llama-architecture language model over short stories that this file makes up.

The corpus is a grammar with memory: hero, helper, object, place and trouble are chosen once a story and stay, so a
model that has learned it tells stories that hang together. Held out: stories made with another seed.
"""

import json
import math
import pathlib
import random

import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

OUT = pathlib.Path(__file__).resolve().parent.parent / "tinylm"
SEED, STEPS, BATCH, CONTEXT, STORIES = 5, 1600, 24, 128, 12000
HIDDEN, LAYERS, HEADS, KV_HEADS, FFN, VOCAB, MAX_POSITIONS = 128, 3, 4, 2, 256, 768, 256
HEAD, EPS, THETA = HIDDEN // HEADS, 1e-5, 10000.0
BOS, EOS = "<s>", "</s>"
GREEDY = 32

NAMES = {"she": ["Mia", "Lena", "Ruby", "Ida", "Nora", "Wren", "Tilly", "Ada"], "he": ["Tom", "Otto", "Finn", "Bruno", "Max", "Leo", "Hugo", "Sam"]}
ANIMALS = ["fox", "rabbit", "bear", "mouse", "duck", "cat", "owl", "hedgehog", "frog", "squirrel"]
MANNERS = ["small", "brave", "quiet", "curious", "kind", "clever", "shy", "cheerful"]
PLACES = ["near the river", "in the forest", "on a green hill", "by the sea", "under an old oak", "at the edge of the village", "behind the mill", "beside the lake"]
THINGS = ["red ball", "silver key", "little boat", "warm blanket", "wooden flute", "blue kite", "golden bell", "old map", "glass lamp", "round stone"]
TIMES = ["One morning", "One day", "One evening", "After the rain", "On a cold day", "In the spring"]
WEATHER = ["The sun was shining.", "The wind was strong.", "It was raining a little.", "Snow lay on the ground.", "The air was warm and still.", "Clouds moved over the sky."]
FEEL = ["sad", "worried", "tired", "afraid", "lonely"]
GLAD = ["happy", "proud", "glad", "thankful"]
FOOD = ["soup", "bread", "berries", "honey cake", "warm milk", "apples"]
LOST = ["in the tall grass", "in the deep water", "under the snow", "behind a big rock", "in a dark cave", "between the roots of a tree"]
HOW = ["looked everywhere", "searched all day", "walked slowly along the path", "asked the wind", "called out loud"]
TOOLS = ["a long rope", "a small light", "a strong stick", "a wide net", "a good idea"]


def story(rng):
    pick = rng.choice
    she, helper_is = pick(["she", "he"]), pick(["she", "he"])
    hero, her = pick(NAMES[she]), {"she": "her", "he": "his"}[she]
    helper = pick([n for n in NAMES[helper_is] if n != hero])
    animal, friend_animal = rng.sample(ANIMALS, 2)
    thing, place, lost, tool = pick(THINGS), pick(PLACES), pick(LOST), pick(TOOLS)
    She = she.capitalize()
    article = lambda word: ("an " if word[0] in "aeiou" else "a ") + word
    opening = pick([
        f"Once upon a time there was a {pick(MANNERS)} {animal} named {hero}. {hero} lived {place}.",
        f"{hero} was a {pick(MANNERS)} {animal} who lived {place}.",
        f"There once lived a {pick(MANNERS)} {animal} {place}. {her.capitalize()} name was {hero}.",
    ])
    middle = pick([finding, losing, trading, cooking])(rng, hero, she, She, her, helper, friend_animal, thing, lost, tool, article)
    ending = pick([
        f"From that day on, {hero} and {helper} were good friends.",
        f"That night {hero} slept well and dreamed of the {thing}.",
        f"{hero} was {pick(GLAD)}, and {helper} was {pick(GLAD)} too.",
        f"And {hero} never forgot what {helper} had done.",
    ])
    return f"{opening} {middle} {ending}"


def finding(rng, hero, she, She, her, helper, other, thing, lost, tool, article):
    return (f"{rng.choice(TIMES)} {she} found {article(thing)} {lost}. {rng.choice(WEATHER)} {hero} wanted to know whose {thing} it was. "
            f"{She} met {helper} the {other}. \"Is this your {thing}?\" asked {hero}. \"Yes, it is mine,\" said {helper}. "
            f"\"I lost it {lost}.\" {hero} gave the {thing} back.")


def losing(rng, hero, she, She, her, helper, other, thing, lost, tool, article):
    return (f"{hero} loved {her} {thing} very much. {rng.choice(TIMES)} the {thing} was gone. {hero} was {rng.choice(FEEL)}. {She} {rng.choice(HOW)}. "
            f"Then {helper} the {other} came by. \"Why are you so {rng.choice(FEEL)}?\" asked {helper}. \"I lost my {thing},\" said {hero}. "
            f"{helper} had {tool}. Together they found the {thing} {lost}.")


def trading(rng, hero, she, She, her, helper, other, thing, lost, tool, article):
    return (f"{rng.choice(TIMES)} {hero} went to the market with {article(thing)}. {rng.choice(WEATHER)} There {she} saw {helper} the {other}. "
            f"{helper} had {tool}. \"I will give you {tool} for the {thing},\" said {helper}. {hero} thought about it. "
            f"\"Let us share both,\" said {hero}. They shared the {thing}, and they were {rng.choice(GLAD)}.")


def cooking(rng, hero, she, She, her, helper, other, thing, lost, tool, article):
    food = rng.choice(FOOD)
    return (f"{rng.choice(TIMES)} {hero} made {food} for {her} friends. {rng.choice(WEATHER)} {helper} the {other} smelled the {food} and knocked at the door. "
            f"\"May I have some {food}?\" asked {helper}. \"Of course,\" said {hero}. They ate the {food} together. "
            f"Then {helper} gave {hero} {article(thing)} as a present.")


def build_tokenizer(texts):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=VOCAB, special_tokens=[BOS, EOS], show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.token_to_id(BOS))])
    return tokenizer


def rotary(length):
    angles = torch.outer(torch.arange(length).float(), THETA ** (-torch.arange(0, HEAD, 2).float() / HEAD))
    return torch.cat([angles.cos()] * 2, -1), torch.cat([angles.sin()] * 2, -1)


def rotate(x, cos, sin):
    left, right = x.chunk(2, -1)
    return x * cos + torch.cat([-right, left], -1) * sin


class Norm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(HIDDEN))

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPS) * self.weight


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        linear = lambda i, o: nn.Linear(i, o, bias=False)
        self.q, self.k, self.v, self.o = linear(HIDDEN, HIDDEN), linear(HIDDEN, HEAD * KV_HEADS), linear(HIDDEN, HEAD * KV_HEADS), linear(HIDDEN, HIDDEN)
        self.gate, self.up, self.down = linear(HIDDEN, FFN), linear(HIDDEN, FFN), linear(FFN, HIDDEN)
        self.norm1, self.norm2 = Norm(), Norm()

    def forward(self, x, cos, sin, mask):
        b, t, _ = x.shape
        h = self.norm1(x)
        split = lambda m, n: m(h).view(b, t, n, HEAD).transpose(1, 2)
        q, k, v = rotate(split(self.q, HEADS), cos, sin), rotate(split(self.k, KV_HEADS), cos, sin), split(self.v, KV_HEADS)
        k, v = k.repeat_interleave(HEADS // KV_HEADS, 1), v.repeat_interleave(HEADS // KV_HEADS, 1)
        scores = q @ k.transpose(-1, -2) / HEAD**0.5 + mask
        x = x + self.o((scores.softmax(-1) @ v).transpose(1, 2).reshape(b, t, HIDDEN))
        h = self.norm2(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Llama(nn.Module):
    def __init__(self, vocab):
        super().__init__()
        self.embed = nn.Embedding(vocab, HIDDEN)
        nn.init.normal_(self.embed.weight, std=0.02)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.norm = Norm()

    def forward(self, ids):
        x, t = self.embed(ids), ids.shape[1]
        cos, sin = rotary(t)
        mask = torch.full((t, t), -1e9).triu(1)
        for layer in self.layers:
            x = layer(x, cos, sin, mask)
        return self.norm(x) @ self.embed.weight.T

    def tensors(self):
        """Names as in the published Llama checkpoints; the output head is the embedding."""
        out = {"model.embed_tokens.weight": self.embed.weight, "model.norm.weight": self.norm.weight}
        for i, l in enumerate(self.layers):
            names = {"self_attn.q_proj": l.q, "self_attn.k_proj": l.k, "self_attn.v_proj": l.v, "self_attn.o_proj": l.o, "mlp.gate_proj": l.gate,
                     "mlp.up_proj": l.up, "mlp.down_proj": l.down, "input_layernorm": l.norm1, "post_attention_layernorm": l.norm2}
            for name, module in names.items():
                out[f"model.layers.{i}.{name}.weight"] = module.weight
        return out


def token_stream(tokenizer, texts):
    eos = tokenizer.token_to_id(EOS)
    return torch.tensor([i for t in texts for i in tokenizer.encode(t).ids + [eos]])


def train(net, stream):
    generator = torch.Generator().manual_seed(SEED)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=0.05, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=5e-3, total_steps=STEPS, pct_start=0.1)
    for step in range(STEPS):
        starts = torch.randint(0, len(stream) - CONTEXT - 1, (BATCH,), generator=generator)
        rows = torch.stack([stream[s : s + CONTEXT + 1] for s in starts])
        loss = F.cross_entropy(net(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(step, round(loss.item(), 4), flush=True)


def held_out(net, tokenizer, texts):
    """Mean loss a token and bits a byte over whole stories never seen."""
    loss = tokens = 0
    with torch.no_grad():
        for text in texts:
            ids = token_stream(tokenizer, [text])[None, :MAX_POSITIONS]
            loss += F.cross_entropy(net(ids[:, :-1])[0], ids[0, 1:], reduction="sum").item()
            tokens += ids.shape[1] - 1
    size = sum(len(t.encode()) for t in texts)
    return loss / tokens, loss / math.log(2) / size


def greedy(net, tokenizer, prompt):
    """Prompt ids, the next ids, and the smallest gap between best and second-best logit on the way."""
    ids, gap = tokenizer.encode(prompt).ids, math.inf
    start, eos = len(ids), tokenizer.token_to_id(EOS)
    with torch.no_grad():
        for _ in range(GREEDY):
            best = net(torch.tensor([ids]))[0, -1].topk(2).values
            gap = min(gap, (best[0] - best[1]).item())
            ids.append(int(net(torch.tensor([ids]))[0, -1].argmax()))
            if ids[-1] == eos:
                break
    return ids[:start], ids[start:], gap


def main():
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    rng = random.Random(SEED)
    texts = [story(rng) for _ in range(STORIES)]
    known, fresh = set(texts), random.Random(SEED + 1)
    held = [t for t in (story(fresh) for _ in range(220)) if t not in known][:200]
    tokenizer = build_tokenizer(texts)
    stream = token_stream(tokenizer, texts)
    net = Llama(tokenizer.get_vocab_size())
    print("tokens", len(stream), "bytes", sum(map(len, texts)), "vocabulary", tokenizer.get_vocab_size(), "parameters", sum(p.numel() for p in net.parameters()), flush=True)
    train(net, stream)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(parameter.half().float())
    nats, bits = held_out(net, tokenizer, held)
    print(f"held-out: {nats:.4f} nats a token, perplexity {math.exp(nats):.2f}, {bits:.3f} bits a byte, {len(held)} stories")

    OUT.mkdir(exist_ok=True)
    save_file({k: v.detach().half().contiguous() for k, v in net.tensors().items()}, OUT / "model.safetensors", metadata={"format": "pt"})
    (OUT / "tokenizer.json").write_text(json.dumps(json.loads(tokenizer.to_str()), separators=(",", ":"), ensure_ascii=False) + "\n")
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": HIDDEN, "intermediate_size": FFN,
        "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "rms_norm_eps": EPS, "rope_theta": THETA,
        "max_position_embeddings": MAX_POSITIONS, "vocab_size": tokenizer.get_vocab_size(), "tie_word_embeddings": True,
        "bos_token_id": tokenizer.token_to_id(BOS), "eos_token_id": tokenizer.token_to_id(EOS), "torch_dtype": "float16",
    }
    (OUT / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    prompts = ["Once upon a time", "Mia was a brave fox who lived", "One morning Tom found a silver key", "There once lived a shy owl in the forest. His name was Leo.",
               "Ruby loved her blue kite very much. One day the", "Then Otto the bear came by. \"Why are you so sad?\" asked"]
    cases = []
    for prompt in prompts:
        prompt_ids, ids, gap = greedy(net, tokenizer, prompt)
        cases.append({"prompt": prompt, "prompt_ids": prompt_ids, "ids": ids, "text": tokenizer.decode(ids), "smallest_logit_gap": round(gap, 5)})
        print(round(gap, 4), len(ids), prompt, "->", tokenizer.decode(ids))
    fixtures = {"about": f"greedy continuation of {GREEDY} tokens by torch (float32 arithmetic on the shipped float16 weights)",
                "held_out_nats_per_token": round(nats, 4), "held_out_bits_per_byte": round(bits, 4), "cases": cases}
    (OUT / "fixtures.json").write_text(json.dumps(fixtures, separators=(",", ":"), ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
