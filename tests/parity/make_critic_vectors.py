"""Vectors of a critic: what PyTorch gives for its network, its f1 at some safety states, its training
loss and the gradients. tests/critic/ builds the same critic and compares.

    python tests/parity/make_critic_vectors.py tests/vectors/critic.json

Needs torch.
"""

import json
import pathlib
import sys

import torch

HIDDEN, WIDTHS, CHANNELS, PARTS, ROWS = 16, (24, 20), 2, 3, 6
SIGMA_MIN = 0.05
OUTPUTS = 3 * PARTS * CHANNELS + 1


def floats(tensor):
    return [float(f"{value:.9g}") for value in tensor.detach().flatten().tolist()]


def parts_of(raw, channel):
    own = raw[:, 3 * PARTS * channel:3 * PARTS * (channel + 1)]
    return (own[:, :PARTS], own[:, PARTS:2 * PARTS],
            SIGMA_MIN + torch.exp(own[:, 2 * PARTS:]))


def f1(raw, channel, z):
    logits, mu, sigma = parts_of(raw, channel)
    return (torch.softmax(logits, 1) * torch.sigmoid((z - mu) / sigma)).sum(1)


def loss_rows(raw, costs, rewards):
    total = (raw[:, -1] - rewards) ** 2
    for channel in range(CHANNELS):
        logits, mu, sigma = parts_of(raw, channel)
        s = (costs[:, channel:channel + 1] - mu) / sigma
        log_density = -s - torch.log(sigma) - 2 * torch.nn.functional.softplus(-s)
        total = total - torch.logsumexp(torch.log_softmax(logits, 1) + log_density, 1)
    return total


def main():
    torch.manual_seed(20261129)
    dims = (HIDDEN, *WIDTHS, OUTPUTS)
    layers = [torch.nn.Linear(a, b) for a, b in zip(dims, dims[1:])]
    net = torch.nn.Sequential(layers[0], torch.nn.ReLU(), layers[1], torch.nn.ReLU(), layers[2])
    states = torch.randn(ROWS, HIDDEN).to(torch.bfloat16).float()
    costs, rewards = 3 * torch.randn(ROWS, CHANNELS), torch.randn(ROWS)
    raw = net(states)
    rows = loss_rows(raw, costs, rewards)
    rows.mean().backward()
    double_raw = raw.detach().double().requires_grad_()
    loss_rows(double_raw, costs.double(), rewards.double()).sum().backward()
    zs = [-40.0, -2.5, 0.0, 0.7, 3.0, 50.0]
    record = {
        "torch": torch.__version__, "dims": dims, "n_channels": CHANNELS, "n_parts": PARTS,
        "sigma_min": SIGMA_MIN, "rows": ROWS, "zs": zs,
        "weights": [floats(layer.weight) for layer in layers],
        "biases": [floats(layer.bias) for layer in layers],
        "states": floats(states), "costs": floats(costs), "rewards": floats(rewards),
        "raw": floats(raw),
        "f1": [[floats(f1(raw, c, z)) for z in zs] for c in range(CHANNELS)],
        "losses": floats(rows), "by_raw": floats(double_raw.grad),
        "by_weights": [floats(layer.weight.grad) for layer in layers],
        "by_biases": [floats(layer.bias.grad) for layer in layers],
    }
    pathlib.Path(sys.argv[1]).write_text(json.dumps(record) + "\n")


main()
