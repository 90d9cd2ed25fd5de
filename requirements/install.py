"""Make .venv hold what a lock file lists, and plugkeep itself, editable.

    python3 requirements/install.py run     what the demo and the command line need
    python3 requirements/install.py dev     that, and what tests, checks and benchmarks need

Does nothing where it has done all of it before. Needs only the standard library, and is written
in words that an old Python understands too, so that it can say that it is too old.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys

OLDEST = (3, 11)
VENV = ".venv"
PYTHON = os.path.join(VENV, "bin", "python")
STAMP = os.path.join(VENV, "installed.json")
#: For each kind, its lock file and the kinds that it makes whole.
KINDS = {
    "run": ("requirements/run.lock", ["run"]),
    "dev": ("requirements/dev.lock", ["run", "dev"]),
}
#: Of the environment, what pip and Python must not see: all that is theirs, for it could send
#: packages elsewhere, but not what says where packages come from.
BENDING = re.compile(
    "PYTHON|PIP_(?!(?:EXTRA_)?INDEX_URL$|FIND_LINKS$|NO_INDEX$|(?:CLIENT_)?CERT$|TRUSTED_HOST$"
    "|PROXY$|(?:DEFAULT_)?TIMEOUT$|RETRIES$|(?:NO_)?CACHE_DIR$|CONFIG_FILE$|KEYRING_PROVIDER$)"
)


def main(kind):
    if sys.version_info < OLDEST:
        sys.exit(too_old())
    os.chdir(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    with Lock("requirements"):  # another `make` may be at it
        if digest(kind) == stamp().get(kind) and usable():
            return
        print("Setting up {} from {}".format(VENV, KINDS[kind][0]), flush=True)
        set_up(kind)


def set_up(kind):
    fresh = not usable()
    if fresh:
        create()
    try:
        install(kind)
    except subprocess.CalledProcessError:
        if fresh:
            sys.exit("Installing failed; pip says why above. The next try begins afresh.")
        print("What was in {} is in the way: making it anew".format(VENV), flush=True)
        create()
        install(kind)


def install(kind):
    """Install what the lock file lists, by its hashes, then plugkeep; stamp only a whole job."""
    stamped = stamp()
    write_stamp({"unfinished": True, "root": os.getcwd()})
    pip("--require-hashes", "--requirement", KINDS[kind][0])
    pip("--no-deps", "--no-build-isolation", "--editable", ".")
    stamped.update({included: digest(included) for included in KINDS[kind][1]}, root=os.getcwd())
    write_stamp(stamped)


def create():
    """Make the environment, and pip in it, whether or not Python came with a pip to put there."""
    remove()
    base = getattr(sys, "_base_executable", sys.executable)  # ours may be the one just removed
    make = [base, "-m", "venv"]
    if subprocess.run([*make, VENV], env=environment(), stdout=subprocess.DEVNULL).returncode:
        print("This Python has no pip of its own to give; taking the one beside it", flush=True)
        remove()
        subprocess.run([*make, "--without-pip", VENV], env=environment(), check=True)
        run_pip([base, "-m", "pip", "--python", PYTHON, "install", "pip"])


def remove():
    if os.path.islink(VENV) or os.path.isfile(VENV):
        os.remove(VENV)
    elif os.path.exists(VENV):
        shutil.rmtree(VENV)


def pip(*arguments):
    run_pip([PYTHON, "-m", "pip", "install", "--no-user", *arguments])


def run_pip(command):
    quiet = ["--quiet", "--no-input", "--disable-pip-version-check"]
    subprocess.run([*command, *quiet], env=environment(), check=True)


def environment():
    return {name: value for name, value in os.environ.items() if not BENDING.match(name)}


def usable():
    """Say whether .venv is whole, in its place, and of this Python's version."""
    stamped = stamp()
    if stamped.get("unfinished") or stamped.get("root", os.getcwd()) != os.getcwd():
        return False  # a moved one's scripts name an interpreter that is gone
    probe = "import pip, sys; print(*sys.version_info[:2])"
    try:
        found = subprocess.run(
            [PYTHON, "-c", probe],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment(),
        )
    except OSError:
        return False
    return found.stdout.decode().split() == [str(part) for part in sys.version_info[:2]]


def digest(kind):
    """Return a digest of what the outcome depends on: lock file, metadata and version."""
    sha = hashlib.sha256()
    for path in (KINDS[kind][0], "pyproject.toml", "src/plugkeep/_version.py"):
        with open(path, "rb") as file:
            sha.update(file.read())
    return sha.hexdigest()


def stamp():
    try:
        with open(STAMP) as file:
            return json.load(file)
    except (OSError, ValueError):
        return {}


def write_stamp(content):
    with open(STAMP, "w") as file:
        json.dump(content, file)


def too_old():
    wanted = "{}.{}".format(*OLDEST)
    names = ["python3.14", "python3.13", "python3.12", "python3.11"]
    newer = [name for name in names if shutil.which(name)]
    advice = "say PYTHON={}".format(newer[0]) if newer else "install one and say PYTHON=its path"
    return "plugkeep needs Python {} or newer; {} is {}. To use a newer one, {}.".format(
        wanted, sys.executable, sys.version.split()[0], advice
    )


class Lock:
    """Holds a folder for one process at a time."""

    def __init__(self, folder):
        self.folder = folder

    def __enter__(self):
        self.descriptor = os.open(self.folder, os.O_RDONLY)
        fcntl.flock(self.descriptor, fcntl.LOCK_EX)

    def __exit__(self, *_):
        os.close(self.descriptor)


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in KINDS:
        sys.exit(__doc__)
    main(sys.argv[1])
