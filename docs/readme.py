"""Write README.md from nbs/index.ipynb: its prose, and its code without outputs."""

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main():
    cells = json.loads((ROOT / "nbs" / "index.ipynb").read_text(encoding="utf-8"))["cells"]
    parts = ["<!-- Written by docs/readme.py from nbs/index.ipynb: edit that. -->"]
    for c in cells:
        source = "".join(c["source"]).strip()
        if c["cell_type"] == "markdown":
            parts.append(source)
        elif source and not source.startswith("#| hide"):
            parts.append(f"```python\n{source}\n```")
    (ROOT / "README.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
