"""Vectors of a value network: what PyTorch gives for V, for states moved along its gradient and the
logits that a head makes of them, and for the training loss in both forms. tests/critic/ builds the
same network and compares.

    python tests/parity/make_value_vectors.py tests/vectors/value.json

Needs torch.
"""

import json
import pathlib
import sys

import torch

HIDDEN, WIDTHS, VOCAB = 16, (24, 20), 11
ENDS = (False, False, True, True, False, True)  # texts of 3, 1 and 2 states
STEPS, SIZES = 30, (0.5, 0.05, 2.0, 0.0, 0.5, 1e-3)


def floats(tensor):
    return [float(f"{value:.9g}") for value in tensor.detach().flatten().tolist()]


def moved(net, states, sizes, steps):
    for _ in range(steps):
        at = states.clone().requires_grad_()
        net(at).sum().backward()
        states = states + sizes[:, None] * at.grad
    return states


def loss(values, targets, released):
    total, begin = values.new_zeros(()), 0
    for end in (i + 1 for i, last in enumerate(ENDS) if last):
        text = values[begin:end]
        after = text[1:] if released else text[1:].detach()
        held = text[0] if released else text[-1]
        total = total + ((text[:-1] - after) ** 2).sum() + (held - targets[begin]) ** 2
        begin = end
    return total / sum(ENDS)


def main():
    torch.manual_seed(20261130)
    dims = (HIDDEN, *WIDTHS, 1)
    layers = [torch.nn.Linear(a, b) for a, b in zip(dims, dims[1:])]
    net = torch.nn.Sequential(layers[0], torch.nn.ReLU(), layers[1], torch.nn.ReLU(), layers[2])
    states = torch.randn(len(ENDS), HIDDEN).to(torch.bfloat16).float()
    head = torch.randn(VOCAB, HIDDEN) / 4
    sizes = torch.tensor(SIZES)
    targets, begin = [], 0
    for i, last in enumerate(ENDS):
        if last:
            targets += [float(torch.randn(()))] * (i + 1 - begin)
            begin = i + 1
    targets = torch.tensor(targets)
    after = moved(net, states, sizes, STEPS)
    record = {
        "torch": torch.__version__, "form": "value", "dims": dims, "n_channels": 0, "n_parts": 1,
        "rows": len(ENDS), "vocab": VOCAB, "steps": STEPS, "sizes": SIZES, "ends": ENDS,
        "weights": [floats(layer.weight) for layer in layers],
        "biases": [floats(layer.bias) for layer in layers],
        "states": floats(states), "rewards": floats(targets), "head": floats(head),
        "raw": floats(net(states)), "moved_once": floats(moved(net, states, sizes, 1)),
        "moved": floats(after), "logits": floats(after @ head.T),
    }
    for form in ("value", "value-released"):
        net.zero_grad()
        values = net(states)[:, 0]
        values.retain_grad()
        mean = loss(values, targets, form == "value-released")
        mean.backward()
        record[form] = {
            "loss": float(mean), "by_raw": floats(values.grad),
            "by_weights": [floats(layer.weight.grad) for layer in layers],
            "by_biases": [floats(layer.bias.grad) for layer in layers],
        }
    pathlib.Path(sys.argv[1]).write_text(json.dumps(record) + "\n")


main()
