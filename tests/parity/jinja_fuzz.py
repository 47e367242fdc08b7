"""Mutates chat templates and compares Surefoot's interpreter with jinja2 as transformers calls it on
each: equal texts, or refused by both, or refused by name here (UNSUPPORTED, LIMIT).

    python tests/parity/jinja_fuzz.py build/tests/jinja_render_lines COUNT SEED DIRECTORY..."""

import json
import random
import re
import signal
import sys

from jinja_parity import CONVERSATIONS, TRUSTED, templates_below
from jinja_reference import Interpreter, render_reference
from make_jinja_vectors import CASES, LONG_CASES, VARIABLES

TOKEN = re.compile(r"\{[{%#][-+]?|[-+]?[}%#]\}|\w+|\s+|\"[^\"]*\"|'[^']*'|.", re.S)


def mutate(rng, text, others):
    tokens = TOKEN.findall(text)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        if not tokens:
            return ""
        at = rng.randrange(len(tokens))
        kind = rng.randrange(6)
        if kind == 0:
            del tokens[at]
        elif kind == 1:
            tokens.insert(at, tokens[rng.randrange(len(tokens))])
        elif kind == 2:
            other = rng.randrange(len(tokens))
            tokens[at], tokens[other] = tokens[other], tokens[at]
        elif kind == 3:
            tokens[at] = rng.choice(others)
        elif kind == 4:
            tokens.insert(at, rng.choice(others))
        else:
            end = min(len(tokens), at + rng.randrange(1, 8))
            tokens[at:end] = tokens[at:end] * rng.randrange(0, 3)
    return "".join(tokens)


class TooSlow(BaseException):
    pass


def give_up(_signal, _frame):
    raise TooSlow


def main():
    interpreter = Interpreter(sys.argv[1])
    count, seed = int(sys.argv[2]), int(sys.argv[3])
    rng = random.Random(seed)
    sources = [text for _, text in templates_below(sys.argv[4:])]
    sources += [line for line in CASES.split("\n") if line] * 3 + LONG_CASES
    others = sorted({token for text in sources for token in TOKEN.findall(text)})
    signal.signal(signal.SIGALRM, give_up)
    tally = {}
    for number in range(count):
        text = mutate(rng, rng.choice(sources), others)
        _, messages, add, more = rng.choice(CONVERSATIONS)
        data = {**VARIABLES, "messages": messages, "tools": None, "add_generation_prompt": add, **more}
        try:
            signal.alarm(10)
            wanted = render_reference(text, {**data, **TRUSTED})
            signal.alarm(0)
        except (TooSlow, RecursionError):
            signal.alarm(0)
            interpreter.render(text, TRUSTED, data)
            continue
        given = interpreter.render(text, TRUSTED, data)
        if wanted[0] == "ok" and " at 0x" in wanted[1]:
            continue
        if wanted[0] == given[0]:
            verdict = "equal" if wanted[0] == "error" or wanted[1] == given[1] else "DIFFERENT"
        elif given[0] == "error" and given[1].startswith(("UNSUPPORTED", "LIMIT")):
            verdict = "refused by name"
        else:
            verdict = "DIFFERENT"
        tally[verdict] = tally.get(verdict, 0) + 1
        if verdict == "DIFFERENT" and tally[verdict] <= 25:
            print(f"{number}: {text!r}\n  jinja2: {str(wanted)[:300]}\n  here:   {str(given[:2])[:300]}",
                  flush=True)
    print(json.dumps(tally))


if __name__ == "__main__":
    main()
