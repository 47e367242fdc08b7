"""Writes tests/vectors/lora/: adapters as PEFT saves them, over tests/vectors/gguf/llama.gguf, and
cases.json: logits or scores of the models that PEFT merges, in float32.

    python tests/parity/make_lora_vectors.py      # needs torch, transformers, gguf and peft
"""
import json
import pathlib
import shutil

import peft
import torch
import transformers

VECTORS = pathlib.Path(__file__).resolve().parent.parent / "vectors"
OUT = VECTORS / "lora"
IDS = [5, 1, 17, 30, 22, 9, 9, 3, 28, 14, 6, 11]


def base(kind, **more):
    return kind.from_pretrained(VECTORS / "gguf", gguf_file="llama.gguf", dtype=torch.float32,
                                **more)


def make(name, model, task, extra=None, **options):
    torch.manual_seed(sum(map(ord, name)))
    config = peft.LoraConfig(task_type=task, **options)
    adapted = peft.get_peft_model(model, config)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.normal_(0, 0.2)
    directory = OUT / name
    shutil.rmtree(directory, ignore_errors=True)
    adapted.save_pretrained(directory)
    (directory / "README.md").unlink(missing_ok=True)
    settings = json.loads((directory / "adapter_config.json").read_text())
    settings["base_model_name_or_path"] = "../../gguf/llama.gguf"
    settings["target_modules"] = sorted(settings["target_modules"])
    (directory / "adapter_config.json").write_text(json.dumps(settings, indent=1) + "\n")
    if extra:
        (directory / "config.json").write_text(json.dumps(extra) + "\n")
    merged = adapted.merge_and_unload().eval()
    with torch.no_grad():
        values = merged(torch.tensor([IDS])).logits[0]
    row = values[-1] if values.ndim == 2 else values
    return {"directory": name, "ids": IDS, "values": [round(float(x), 6) for x in row]}


def main():
    t = transformers
    everything = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    cases = [
        make("causal", base(t.AutoModelForCausalLM), "CAUSAL_LM", r=4, lora_alpha=6,
             target_modules=everything),
        make("rslora", base(t.AutoModelForCausalLM), "CAUSAL_LM", r=2, lora_alpha=3,
             use_rslora=True, fan_in_fan_out=True, target_modules=["q_proj", "v_proj"]),
        make("scorer", base(t.AutoModelForSequenceClassification, num_labels=1), "SEQ_CLS",
             extra={"num_labels": 1}, r=2, lora_alpha=4, target_modules=["q_proj", "down_proj"]),
    ]
    (OUT / "cases.json").write_text(
        "[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")


if __name__ == "__main__":
    main()
