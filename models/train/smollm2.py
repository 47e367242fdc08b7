"""What the training scripts of the SmolLM2 scorers share: the base, its lower states, adapters, export.

A scorer is the lowest N_LAYERS layers of SmolLM2-135M-Instruct with LoRA (Hu et al. 2021) on the upper
ones, an own final norm and an own head. The layers below FIRST_TRAINED are as in the base, so that their
output is computed once for each text and kept on disk."""

import copy
import json
import pathlib

import gguf
import numpy
import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from common import length_batches

ROOT = pathlib.Path(__file__).resolve().parent.parent
BASE = ROOT / "smollm2" / "SmolLM2-135M-Instruct.Q4_1.gguf"
N_LAYERS, FIRST_TRAINED, RANK, ALPHA = 15, 8, 32, 64
N_HEADS, N_KV_HEADS = 9, 3
EOS = 2  # <|im_end|>
PROMPT_TOKENS_MAX, ANSWER_TOKENS_MAX = 96, 160
PROMPT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
CONFIG = LlamaConfig(
    vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
    num_attention_heads=N_HEADS, num_key_value_heads=N_KV_HEADS, max_position_embeddings=8192,
    rms_norm_eps=1e-5, rope_theta=100000.0, tie_word_embeddings=True, attn_implementation="sdpa")
MODULES = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
           "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
           "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
           "ffn_down": "mlp.down_proj"}
TARGETS = [name for name in MODULES.values() if name.endswith("_proj")]


def unpermuted(weight, n_heads):
    """Rows of a query or key matrix in the order of Hugging Face; GGUF interleaves the rotated halves."""
    rows, cols = weight.shape
    return weight.reshape(n_heads, rows // n_heads // 2, 2, cols).swapaxes(1, 2).reshape(rows, cols)


def hf_name(name):
    """Hugging Face's name of a GGUF tensor."""
    if name in ("token_embd.weight", "output_norm.weight"):
        return {"t": "model.embed_tokens.weight", "o": "model.norm.weight"}[name[0]]
    _, layer, part, _ = name.split(".")
    return f"model.layers.{layer}.{MODULES[part]}.weight"


def load_base(path=BASE):
    """The whole model in float32, dequantised as the gguf package defines it."""
    state = {}
    for tensor in gguf.GGUFReader(path).tensors:
        weight = gguf.dequantize(tensor.data, tensor.tensor_type).astype(numpy.float32)
        heads = {"attn_q": N_HEADS, "attn_k": N_KV_HEADS}.get(tensor.name.split(".")[-2])
        if heads:
            weight = unpermuted(weight, heads)
        state[hf_name(tensor.name)] = torch.from_numpy(numpy.ascontiguousarray(weight))
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model = LlamaForCausalLM(CONFIG)
    model.load_state_dict(state)
    return model.eval()


def load_tokenizer(path=BASE):
    """The tokenizer of the file: byte-level BPE, digits one by one."""
    fields = gguf.GGUFReader(path).fields
    pieces = fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"].contents()]
    kinds = fields["tokenizer.ggml.token_type"].contents()
    tokenizer = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    control = int(gguf.TokenType.CONTROL)
    tokenizer.add_special_tokens(
        [AddedToken(piece, special=True, normalized=False) for piece, kind in zip(pieces, kinds) if kind == control])
    return tokenizer


def encode(tokenizer, prompt, answer):
    """(ids, n_prompt): the last tokens of a prompt, an answer that may be cut, EOS."""
    head = tokenizer.encode(PROMPT.format(prompt.strip())).ids[-PROMPT_TOKENS_MAX:]
    return head + tokenizer.encode(answer).ids[:ANSWER_TOKENS_MAX] + [EOS], len(head)


class LoRA(nn.Module):
    """A linear layer and its low-rank update: W x + ALPHA / RANK B A x."""

    def __init__(self, linear):
        super().__init__()
        self.linear = linear
        self.a = nn.Parameter(torch.randn(RANK, linear.in_features) / linear.in_features**0.5)
        self.b = nn.Parameter(torch.zeros(linear.out_features, RANK))

    def forward(self, x):
        return self.linear(x) + functional.linear(functional.linear(x, self.a), self.b) * (ALPHA / RANK)


def run_layers(layers, rotary, hidden):
    """hidden[n_rows, n_tokens, 576] through layers; causal, so padding at the right needs no mask."""
    embedding = rotary(hidden, torch.arange(hidden.shape[1])[None])
    for layer in layers:
        hidden = layer(hidden, attention_mask=None, position_embeddings=embedding)
        hidden = hidden[0] if isinstance(hidden, tuple) else hidden
    return hidden


class Scorer(nn.Module):
    """Upper layers with adapters, norm and head over the states below FIRST_TRAINED."""

    def __init__(self, body, bias):
        super().__init__()
        self.rotary = body.rotary_emb
        self.layers = copy.deepcopy(body.layers[FIRST_TRAINED:N_LAYERS])
        self.requires_grad_(False)
        for layer in self.layers:
            for name in TARGETS:
                parent, child = name.split(".")
                module = getattr(layer, parent)
                setattr(module, child, LoRA(getattr(module, child)))
        self.norm = copy.deepcopy(body.norm)
        nn.init.ones_(self.norm.weight)
        self.head = nn.Linear(CONFIG.hidden_size, 1, bias=bias)
        nn.init.normal_(self.head.weight, std=0.02)
        if bias:
            nn.init.zeros_(self.head.bias)

    def forward(self, states):
        """Scores [n_rows, n_tokens] of states [n_rows, n_tokens, 576]."""
        return self.head(self.norm(run_layers(self.layers, self.rotary, states))).squeeze(-1)

    def trained(self):
        """What training changes, by name."""
        return {name: value for name, value in self.named_parameters() if value.requires_grad}


class States:
    """Output of the layers below FIRST_TRAINED for each token of many texts, f16 on disk."""

    @torch.no_grad()
    def __init__(self, body, texts, path, tokens_max=4096):
        self.texts = texts
        self.starts = numpy.cumsum([0] + [len(ids) for ids, *_ in texts])
        self.values = numpy.memmap(path, numpy.float16, "w+", shape=(int(self.starts[-1]), CONFIG.hidden_size))
        for batch in self.batches(tokens_max, numpy.random):
            width = max(len(texts[i][0]) for i in batch)
            ids = torch.tensor([texts[i][0] + [EOS] * (width - len(texts[i][0])) for i in batch])
            hidden = run_layers(body.layers[:FIRST_TRAINED], body.rotary_emb, body.embed_tokens(ids))
            for row, index in zip(hidden, batch):
                self.values[self.starts[index]:self.starts[index + 1]] = row[:len(texts[index][0])].numpy()

    def batches(self, tokens_max, rng, chosen=None):
        """As length_batches, over the chosen texts; None: all."""
        chosen = range(len(self.texts)) if chosen is None else chosen
        found = length_batches([len(self.texts[i][0]) for i in chosen], tokens_max, rng)
        return [[chosen[i] for i in batch] for batch in found]

    def rows(self, batch):
        """f32 [n_rows, n_tokens_max, 576], zeros behind each text's end."""
        width = max(len(self.texts[i][0]) for i in batch)
        out = torch.zeros(len(batch), width, CONFIG.hidden_size)
        for row, index in zip(out, batch):
            values = self.values[self.starts[index]:self.starts[index + 1]]
            row[:len(values)] = torch.from_numpy(values.astype(numpy.float32))
        return out

    def places(self, batch):
        """(mask, last): which positions [n_rows, n_tokens_max] hold the answer; index of each EOS."""
        last = torch.tensor([len(self.texts[i][0]) - 1 for i in batch])
        first = torch.tensor([self.texts[i][1] for i in batch])
        position = torch.arange(int(last.max()) + 1)
        return (position >= first[:, None]) & (position < last[:, None]), last


def exported_name(name, head):
    """(file, tensor) of a trained parameter; LoRA as PEFT names it."""
    part, *place = name.split(".")
    if part != "layers":
        return "model.safetensors", name.replace("norm.", "model.norm.").replace("head.", f"{head}.")
    layer, module, matrix, kind = place
    place = f"layers.{int(layer) + FIRST_TRAINED}.{module}.{matrix}.lora_{kind.upper()}.weight"
    return "adapter_model.safetensors", f"base_model.model.model.{place}"


def load_exported(directory, scorer, head):
    """Takes what `export` wrote."""
    files = {name: load_file(str(directory / name)) for name in ("adapter_model.safetensors", "model.safetensors")}
    with torch.no_grad():
        for name, value in scorer.trained().items():
            file, tensor = exported_name(name, head)
            value.copy_(files[file][tensor])


def export(directory, scorer, head, config, profile):
    """Writes a directory over the base: adapters, norm and head, all f16."""
    directory.mkdir(parents=True, exist_ok=True)
    files = {}
    for name, value in scorer.trained().items():
        file, tensor = exported_name(name, head)
        files.setdefault(file, {})[tensor] = value.detach().half().contiguous()
    for file, tensors in files.items():
        save_file(tensors, str(directory / file), metadata={"format": "pt"})
    adapter = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "lora_dropout": 0.0, "bias": "none",
               "target_modules": [name.split(".")[1] for name in TARGETS],
               "layers_to_transform": list(range(FIRST_TRAINED, N_LAYERS))}
    profile = {"schema": 1, "base": f"../{BASE.parent.name}/{BASE.name}",
               "base_hint": "sh cluster/models.sh smollm2 fetches it", "chat_template": "chatml", **profile}
    for name, value in (("adapter_config.json", adapter), ("surefoot.json", profile),
                        ("config.json", {"num_hidden_layers": N_LAYERS, **config})):
        (directory / name).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    for path in directory.iterdir():
        path.chmod(0o644)
    print(f"{directory.name}: {sum(path.stat().st_size for path in directory.iterdir()) / 1e6:.1f} MB")
