"""Chat templates rendered by jinja2 exactly as transformers calls it, and by Surefoot's interpreter.

Used by make_jinja_vectors.py and jinja_parity.py; needs transformers and jinja2."""

import datetime
import json
import subprocess

from transformers.utils.chat_template_utils import _cached_compile_jinja_template

DATE = "2026-11-28"


class Reference:
    """One template under jinja2; `render` gives the text, or raises."""

    def __init__(self, text):
        self.template = _cached_compile_jinja_template(text)
        day = datetime.datetime.strptime(DATE, "%Y-%m-%d")
        self.template.globals["strftime_now"] = lambda form: day.strftime(form)

    def render(self, variables):
        return self.template.render(**variables)


def render_reference(text, variables):
    """("ok", text) or ("error", reason)."""
    try:
        return "ok", Reference(text).render(variables)
    except RecursionError:
        raise
    except Exception as error:  # whatever jinja2 or Python raises is the template's error
        return "error", f"{type(error).__name__}: {error}"


class Interpreter:
    """The program tests/tokenizer/jinja/render_lines as a child."""

    def __init__(self, program):
        self.child = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def render(self, text, trusted, data):
        request = {"template": text, "trusted": trusted, "data": data, "date": DATE}
        self.child.stdin.write(json.dumps(request).encode() + b"\n")
        self.child.stdin.flush()
        line = self.child.stdout.readline()
        if not line:
            raise SystemExit(f"the interpreter died: {self.child.wait()}\n{json.dumps(request)}")
        answer = json.loads(line)
        if "segments" in answer:
            return "ok", "".join(part for part, _ in answer["segments"]), answer["segments"]
        return "error", f"{answer['status']}: {answer['error']}", []
