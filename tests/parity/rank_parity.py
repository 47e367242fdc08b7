"""Files of ranks against PyPI's `tiktoken`, which their makers read them with.

    python tests/parity/rank_parity.py build/tests/tokenizer_ids TOK_DIR

Llama 3's tokenizer.model is that of TOK_DIR; qwen.tiktoken is made from Qwen2's vocab.json there, whose
pieces and ids it has. Special tokens and expressions are as llama3/api/tokenizer.py and tokenization_qwen.py
have them."""

import base64
import json
import pathlib
import subprocess
import sys
import tempfile
import unicodedata

import tiktoken
from make_tokenizer_vectors import fnv, hash_ids, make_texts
from tiktoken.load import load_tiktoken_bpe
from transformers.convert_slow_tokenizer import bytes_to_unicode

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+")


def llama3_specials():
    named = {0: "<|begin_of_text|>", 1: "<|end_of_text|>", 6: "<|start_header_id|>",
             7: "<|end_header_id|>", 9: "<|eot_id|>"}
    reserved = iter(range(1000))
    return [named.get(i) or f"<|reserved_special_token_{next(reserved)}|>" for i in range(256)]


def qwen_specials():
    return ["<|endoftext|>", "<|im_start|>", "<|im_end|>"] + [f"<|extra_{i}|>" for i in range(205)]


def write_qwen(tok, target):
    byte = {character: value for value, character in bytes_to_unicode().items()}
    vocab = json.loads((tok / "qwen2_vocab.json").read_text(encoding="utf-8"))
    with open(target, "w", encoding="ascii") as out:
        for piece, rank in sorted(vocab.items(), key=lambda entry: entry[1]):
            raw = bytes(byte[character] for character in piece)
            out.write(f"{base64.b64encode(raw).decode()} {rank}\n")


def compare(tool, directory, file, pattern, specials, normalize):
    ranks = load_tiktoken_bpe(str(directory / file))
    encoding = tiktoken.Encoding(file, pat_str=pattern, mergeable_ranks=ranks, special_tokens={
        content: len(ranks) + i for i, content in enumerate(specials)})
    texts = make_texts() + ["".join(specials), "a" + specials[0] + " b" + specials[-1]]
    run = subprocess.run([tool, str(directory)], input="".join(json.dumps(t) + "\n" for t in texts),
                         capture_output=True, text=True, check=True)
    different = 0
    for text, line in zip(texts, run.stdout.splitlines()):
        if any(0xD800 <= ord(character) < 0xE000 for character in text):
            continue
        ids = encoding.encode(normalize(text), allowed_special="all", disallowed_special=())
        plain = encoding.encode_ordinary(normalize(text))
        wanted = hash_ids(ids) + hash_ids(plain) + fnv(encoding.decode_bytes(ids))
        if wanted != line:
            different += 1
            print(f"{file}: {text!r} differs")
    print(f"{file}: {different} of {len(texts)} differ")
    return different


def main():
    tool, tok = sys.argv[1], pathlib.Path(sys.argv[2])
    with tempfile.TemporaryDirectory() as root:
        llama3, qwen = pathlib.Path(root) / "llama3", pathlib.Path(root) / "qwen"
        llama3.mkdir()
        qwen.mkdir()
        (llama3 / "tokenizer.model").symlink_to((tok / "llama3_tokenizer.model").resolve())
        write_qwen(tok, qwen / "qwen.tiktoken")
        (qwen / "tokenizer_config.json").write_text('{"tokenizer_class": "QWenTokenizer"}')
        different = compare(tool, llama3, "tokenizer.model", LLAMA3, llama3_specials(), str)
        different += compare(tool, qwen, "qwen.tiktoken", QWEN, qwen_specials(),
                             lambda text: unicodedata.normalize("NFC", text))
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
