"""Texts and token ids of conversations by `surefoot models render` and by transformers' apply_chat_template, for
model directories with a tokenizer and a chat template: equal when control tokens in messages count
(content_tokens as-written), and without any where they do not.

    python tests/parity/chat_ids_parity.py build/bin/surefoot DIRECTORY..."""

import json
import subprocess
import sys

from jinja_parity import CONVERSATIONS
from transformers import AutoTokenizer


def render(program, directory, messages, continues, variables, tokens):
    command = [program, "models", "render", directory, "--json", "--content-tokens", tokens,
               "--date", "2026-11-28"]
    for message in messages:
        command += ["--message", f"{message['role']}:{message['content']}"]
    for name, value in variables.items():
        command += ["--template-var", f"{name}={json.dumps(value)}"]
    if continues:
        command.append("--continue-final-message")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return None
    answer = json.loads(done.stdout)
    return "".join(segment["text"] for segment in answer["segments"]), answer["ids"]


def reference(tokenizer, messages, continues, variables):
    try:
        return tuple(tokenizer.apply_chat_template(messages, tokenize=tokenize, return_dict=False,
                                                   add_generation_prompt=not continues,
                                                   continue_final_message=continues, **variables)
                     for tokenize in (False, True))
    except Exception:  # whatever the template raises
        return None


def main():
    different = 0
    for directory in sys.argv[2:]:
        tokenizer = AutoTokenizer.from_pretrained(directory)
        equal = 0
        for title, messages, _, more in CONVERSATIONS:
            if any("\0" in message["content"] for message in messages):
                continue  # what no command line can hold
            if any(name not in tokenizer.chat_template for name in more):
                continue  # refused here: nothing reads it
            continues = messages[-1]["role"] == "assistant"
            wanted = reference(tokenizer, messages, continues, more)
            given = render(sys.argv[1], directory, messages, continues, more, "as-written")
            if wanted == given:
                equal += 1
            else:
                different += 1
                print(f"{directory} [{title}]\n  transformers: {wanted}\n  here:         {given}")
        print(f"{directory}: {equal} conversations equal")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
