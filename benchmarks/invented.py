"""Make the files of the invented worlds from their tables of words.

python -m benchmarks.invented
"""

import argparse
import json
from pathlib import Path

from rich.console import Console

from rmu_lab.files import write_text
from rmu_lab.invented import folder, made_files


def main() -> None:
    """Write every file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=folder(), help="the folder; by default data/invented")
    out = parser.parse_args().out
    for name, rows in made_files():
        write_text(out / name, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        Console().print(f"{name}: {len(rows)} rows")


if __name__ == "__main__":
    main()
