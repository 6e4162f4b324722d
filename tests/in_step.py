"""Is the package what the notebooks export, and are the notebooks clean?

Cleans and exports (and writes README.md from the index), and fails if that changed anything.
Compares the files with themselves rather than with git, so that it says the same before and after
a commit.
"""

import hashlib
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def fingerprints() -> dict[str, str]:
    files = [*ROOT.glob("nbs/**/*.ipynb"), *ROOT.glob("arabic_dialog/**/*.py"), ROOT / "README.md"]
    kept = [f for f in files if ".ipynb_checkpoints" not in f.parts]
    return {str(f.relative_to(ROOT)): hashlib.sha256(f.read_bytes()).hexdigest() for f in kept}


def main() -> None:
    before = fingerprints()
    for command in ("nbdev-clean", "nbdev-export"):
        subprocess.run([Path(sys.executable).with_name(command)], cwd=ROOT, check=True)
    subprocess.run([sys.executable, ROOT / "docs" / "readme.py"], check=True)
    after = fingerprints()
    changed = sorted(f for f in before.keys() | after.keys() if before.get(f) != after.get(f))
    if changed:
        sys.exit(
            "notebooks and package were not in step; they are now. Look at the change and commit "
            "it:\n  " + "\n  ".join(changed)
        )
    print(f"in step: {len(after)} files")


if __name__ == "__main__":
    main()
