"""The quick check: is what has changed in order? `make check`; `make test` checks everything.

Looks at lines, the house and the export of the whole project, and runs the notebooks and the tests
of the modules that differ from the last commit (where nothing does, of those that it changed).
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent


def git(*words: str) -> list[str]:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def changed_files() -> list[Path]:
    "What differs from the last commit, or what that commit changed"
    names = git("diff", "--name-only", "HEAD") + git("ls-files", "--others", "--exclude-standard")
    names = names or git("diff", "--name-only", "HEAD~1", "HEAD")
    return [ROOT / n for n in names if (ROOT / n).is_file()]


def tests_for(path: Path) -> list[Path]:
    "The tests that a changed file asks for: itself, or those of the module that it is exported to"
    if path.is_relative_to(ROOT / "tests"):
        return [path] if path.name.startswith("test_") else []
    if path.suffix == ".ipynb" and path.parent.parent == ROOT / "nbs":
        module = path.stem.split("_", 1)[-1]
        return sorted((ROOT / "tests" / path.parent.name).glob(f"test_{module}*.py"))
    return []


def main() -> int:
    changed = changed_files()
    notebooks = [p for p in changed if p.suffix == ".ipynb" and p.is_relative_to(ROOT / "nbs")]
    tests = {t for p in changed for t in tests_for(p)} | {ROOT / "tests/test_house.py"}
    python = BIN / "python"
    steps = [
        [BIN / "ruff", "format", "--check", "--quiet", "."],
        [BIN / "ruff", "check", "--quiet", "."],
        [python, "tests/in_step.py"],
        [python, "-m", "pytest", "-q", *sorted(tests)],
    ]
    if notebooks:
        steps.append([python, "tests/notebooks.py", *notebooks])
    for step in steps:
        if subprocess.run(step, cwd=ROOT).returncode:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
