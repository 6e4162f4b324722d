"The face of the package: what `import arabic_dialog` offers, and what it costs."

import json
import subprocess
import sys

import pytest

import arabic_dialog


def python(*args: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *args], capture_output=True, text=True, timeout=60)


def test_every_name_of_the_face_is_there():
    listed = dir(arabic_dialog)
    for name in arabic_dialog.__all__:
        assert getattr(arabic_dialog, name) is not None and name in listed
    with pytest.raises(AttributeError, match="no attribute 'Conversations'"):
        _ = arabic_dialog.Conversations


def test_the_import_waits_for_no_library():
    code = """
import json, sys, time
start = time.perf_counter()
import arabic_dialog
seconds = time.perf_counter() - start
loaded = [m for m in ("torch", "numpy", "pydantic", "typer") if m in sys.modules]
arabic_dialog.Conversation
print(json.dumps([seconds, loaded, "torch" in sys.modules]))
"""
    seconds, loaded, torch = json.loads(python("-c", code).stdout)
    assert seconds < 0.1 and loaded == [] and not torch


@pytest.mark.parametrize("module", ["arabic_dialog", "arabic_dialog.commands.cli"])
def test_the_package_is_a_command(module):
    done = python("-m", module, "version")
    assert (done.returncode, done.stdout) == (0, f"{arabic_dialog.__version__}\n"), done.stderr
    assert python("-m", module, "verify", "runs/nowhere").returncode == 2
