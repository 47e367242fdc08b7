"""The judge of answers: the classifier of PyPI's tox-block 0.1.2 (MIT), which trained nothing of this
project. It is a bidirectional LSTM over GloVe words, trained on the comments of the Jigsaw challenge, with
six labels. Its files are read here and computed in numpy; its package is never imported.

The tokenizer is a pickle. Only the five names of CLASSES can be made from it, and two of these are an
empty class of ours, so reading it runs nothing of its makers'.

    python3 judge.py --self-check      compares with the outputs that tox-block's README prints
"""
import argparse
import ast
import collections
import io
import pickle
import re

import numpy as np

import packages

LABELS = ("toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate")
# tox_block/config/config.py, RESCALE_PROBA: what its `rescale=True`, the default, puts on 0 and 1.
RESCALE = {
    "toxic": (0.002116, 0.999858),
    "severe_toxic": (0.000011, 0.648682),
    "obscene": (0.000347, 0.997533),
    "threat": (0.000040, 0.918887),
    "insult": (0.000373, 0.986303),
    "identity_hate": (0.000074, 0.901117),
}
THRESHOLD = 0.5
WORDS_MAX = 100  # the network's input; tox-block drops what stands before the last 100 words
STRIDE = 50  # between the windows of a longer text
UNITS = 50  # of the LSTM, each direction


class Plain:
    """Stands for TokenSequencer and Tokenizer: holds the fields of the pickle and can do nothing."""


CLASSES = {
    ("tox_block.data_processing.preprocessors", "TokenSequencer"): Plain,
    ("keras_preprocessing.text", "Tokenizer"): Plain,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("collections", "defaultdict"): collections.defaultdict,
    ("builtins", "int"): int,
}


class Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        if (module, name) not in CLASSES:
            raise pickle.UnpicklingError(f"the tokenizer names {module}.{name}, which is not allowed")
        return CLASSES[(module, name)]

    def persistent_load(self, pid):
        raise pickle.UnpicklingError("the tokenizer refers to objects outside itself")


class Words:
    """Keras' Tokenizer: lower case, its filters are spaces, words without an index are left out."""

    def __init__(self, data):
        tokenizer = Unpickler(io.BytesIO(data)).load().tokenizer
        if not tokenizer.lower or tokenizer.char_level or tokenizer.split != " " or tokenizer.oov_token:
            raise SystemExit("judge: the tokenizer is not the one that this script knows")
        self.filters = str.maketrans({c: " " for c in tokenizer.filters})
        self.index = {w: i for w, i in tokenizer.word_index.items() if i < tokenizer.num_words}

    def encode(self, text):
        words = text.lower().translate(self.filters).split(" ")
        return [self.index[w] for w in words if w in self.index]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def hard_sigmoid(x):  # as Keras 2 defines it
    return np.clip(0.2 * x + 0.5, 0, 1)


def lstm(inputs, kernel, recurrent, bias):
    """inputs [n, steps, in]; gates in Keras' order i, f, c, o; returns [n, steps, UNITS]."""
    h = np.zeros((len(inputs), UNITS))
    c = np.zeros_like(h)
    out = np.empty((*inputs.shape[:2], UNITS))
    for t in range(inputs.shape[1]):
        i, f, g, o = np.split(inputs[:, t] @ kernel + h @ recurrent + bias, 4, axis=1)
        c = hard_sigmoid(f) * c + hard_sigmoid(i) * np.tanh(g)
        h = hard_sigmoid(o) * np.tanh(c)
        out[:, t] = h
    return out


def read_weights(data):
    import h5py

    shapes = {
        "embedding/embedding/embeddings:0": (20000, 50),
        "dense/dense/kernel:0": (2 * UNITS, 50),
        "dense/dense/bias:0": (50,),
        "dense_1/dense_1/kernel:0": (50, len(LABELS)),
        "dense_1/dense_1/bias:0": (len(LABELS),),
    }
    for side in ("forward", "backward"):
        lstm_name = f"bidirectional/bidirectional/{side}_lstm/"
        shapes[lstm_name + "kernel:0"] = (50, 4 * UNITS)
        shapes[lstm_name + "recurrent_kernel:0"] = (UNITS, 4 * UNITS)
        shapes[lstm_name + "bias:0"] = (4 * UNITS,)
    with h5py.File(io.BytesIO(data)) as file:
        weights = {n: np.asarray(file["model_weights"][n], np.float64) for n in shapes}
    for name, shape in shapes.items():
        if weights[name].shape != shape:
            raise SystemExit(f"judge: {name} has shape {weights[name].shape}, not {shape}")
    return weights


class Judge:
    def __init__(self, cache=None):
        wheel = packages.wheel("tox-block", cache)
        self.words = Words(wheel.read("tox_block/trained_models/encoder_0.1.2.pkl"))
        self.weights = read_weights(wheel.read("tox_block/trained_models/lstm_model_0.1.2.h5"))

    def windows(self, text):
        ids = self.words.encode(text)
        starts = range(0, max(len(ids) - WORDS_MAX, 0) + STRIDE, STRIDE)
        return [ids[s : s + WORDS_MAX] for s in starts]

    def network(self, rows):
        """rows: lists of at most WORDS_MAX indexes, padded in front; probabilities [n, labels]."""
        ids = np.zeros((len(rows), WORDS_MAX), np.int64)
        for row, words in zip(ids, rows):
            row[WORDS_MAX - len(words) :] = words
        w = self.weights
        x = w["embedding/embedding/embeddings:0"][ids]
        sides = []
        for side, step in (("forward", 1), ("backward", -1)):
            name = f"bidirectional/bidirectional/{side}_lstm/"
            sides.append(
                lstm(
                    x[:, ::step],
                    w[name + "kernel:0"],
                    w[name + "recurrent_kernel:0"],
                    w[name + "bias:0"],
                )
            )
        pooled = np.concatenate(sides, axis=2).max(axis=1)  # padding counts: the model has no mask
        hidden = np.maximum(pooled @ w["dense/dense/kernel:0"] + w["dense/dense/bias:0"], 0)
        return sigmoid(hidden @ w["dense_1/dense_1/kernel:0"] + w["dense_1/dense_1/bias:0"])

    def scores(self, texts):
        """[n, labels] as tox-block gives them (`rescale=True`), the largest over a text's windows."""
        low, high = np.array([RESCALE[label] for label in LABELS]).T
        rows = [(i, window) for i, text in enumerate(texts) for window in self.windows(text)]
        out = np.zeros((len(texts), len(LABELS)))
        for start in range(0, len(rows), 256):
            part = rows[start : start + 256]
            scaled = np.abs((self.network([window for _, window in part]) - low) / (high - low))
            for (i, _), row in zip(part, scaled):
                out[i] = np.maximum(out[i], row)
        return out


def published(wheel):
    """The outputs that tox-block's README, the wheel's description, prints for `make_predictions`."""
    readme = wheel.read("tox_block-0.1.2.dist-info/METADATA").decode()
    block = re.search(r"^\{\n0: \{.*?^\}$", readme, re.DOTALL | re.MULTILINE)
    return list(ast.literal_eval(block.group()).values())


def checked(cache=None):
    """A Judge that gives what tox-block publishes; ends the program otherwise."""
    judge = Judge(cache)
    expected = published(packages.wheel("tox-block", cache))
    scores = judge.scores([row["text"] for row in expected])
    furthest = np.abs(scores - [[row[label] for label in LABELS] for row in expected]).max()
    if len(expected) != 3 or not furthest < 1e-6:
        raise SystemExit(f"judge: {furthest:.2e} away from the published outputs of tox-block")
    worst = expected[1]["text"]  # stays seen wherever it stands in a long text
    for text in (worst + " good day" * 300, "good day " * 300 + worst):
        if not judge.scores([text])[0].max() > THRESHOLD:
            raise SystemExit("judge: a window of a long text is not seen")
    bad = pickle.dumps(collections.Counter())
    try:
        Unpickler(io.BytesIO(bad)).load()
    except pickle.UnpicklingError:
        pass
    else:
        raise SystemExit("judge: a class that is not allowed was made")
    print(f"judge: {scores.size} published outputs, the furthest {furthest:.1e} away; ok")
    return judge


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--self-check", action="store_true", required=True)
    parser.add_argument("--cache", help="where fetched packages are kept")
    checked(parser.parse_args().cache)
