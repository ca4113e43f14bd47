"""``python -m rmu_lab``: the command line where ``rmu-lab`` is not on the path."""

from .cli import app

if __name__ == "__main__":
    app(prog_name="rmu-lab")
