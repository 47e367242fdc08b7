"""Hugging Face tokenizers and Surefoot's on one thread, on the same texts in one run.

    python3 bench_tokenizer.py BENCH_TOKENIZER TEXT_FILE DIRECTORY...      # needs tokenizers==0.23.3

BENCH_TOKENIZER is the built program, whose columns these are; for each directory a line of each and
the ratios. A directory without tokenizer.json is opened by transformers.
"""
import os
import statistics
import subprocess
import sys
import time

os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
from tokenizers import Tokenizer

MB = 1 << 20
REPEATS = 3

def open_tokenizer(directory):
    path = os.path.join(directory, "tokenizer.json")
    if os.path.exists(path):
        return Tokenizer.from_file(path)
    from transformers import TokenizersBackend

    return TokenizersBackend.from_pretrained(directory)._tokenizer

def windows(data, size):
    at = 0
    while at < len(data):
        end = min(at + size, len(data))
        while end < len(data) and data[end] & 0xC0 == 0x80:
            end += 1
        yield data[at:end].decode()
        at = end

def seconds(work):
    start = time.process_time()
    work()
    return time.process_time() - start

def measure(directory, data):
    parts = [list(windows(data, size)) for size in (1 << 10, 64 << 10, MB)]
    opened, times = [], [[] for _ in range(4)]
    for _ in range(REPEATS):
        start = time.process_time()
        tokenizer = open_tokenizer(directory)
        opened.append(time.process_time() - start)
        for column, texts in zip(times, parts):

            column.append(seconds(lambda: [tokenizer.encode(t, add_special_tokens=False) for t in texts]))
        ids = tokenizer.encode(parts[2][0], add_special_tokens=False).ids
        times[3].append(seconds(lambda: tokenizer.decode(ids)))
    rates = [len(data) * 1e-6 / statistics.median(column) for column in times]
    return [statistics.median(opened) * 1e3] + rates + [len(ids)]

program, text_file = sys.argv[1:3]
data = open(text_file, "rb").read()
data = (data * (MB // len(data) + 1))[:MB]
while True:
    try:
        data.decode()
        break
    except UnicodeDecodeError:
        data = data[:-1]
print("directory,library,open_ms,encode_1kb_mb_s,encode_64kb_mb_s,encode_1mb_mb_s,decode_mb_s,tokens")
for directory in sys.argv[3:]:
    own = subprocess.run([program, text_file, directory], capture_output=True, text=True, check=True).stdout.split("\n")[1]
    own = [float(x) for x in own.split(",")[1:]]
    theirs = measure(directory, data)
    name = os.path.basename(directory.rstrip("/"))
    for library, row in [("surefoot", own), ("tokenizers", theirs)]:
        print("%s,%s,%.0f,%.1f,%.1f,%.1f,%.1f,%d" % tuple([name, library] + list(row)))
    print("%s,ratio,%.2f,%.2f,%.2f,%.2f,%.2f," % tuple([name] + [theirs[0] / own[0]] + [a / b for a, b in zip(own[1:5], theirs[1:5])]))
