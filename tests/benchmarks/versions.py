"""The same stored weights audited on the same images under other versions of what the product stands on.

`python tests/benchmarks/versions.py FOLDER` makes an isolated environment a row (with `uv`, which must be installed),
asks in it what `version_probes.py` lists, keeps the answers in FOLDER/answers and deletes the environment. Answers that
are there are not asked again. `... FOLDER --only torch-2.10` asks some rows, `--with scipy==1.16.0` one of your own
beside them (to find the release that changed something), `... FOLDER --table samples/versions.md` writes the table.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks.version_rows import BASE, GROUPS, ROWS, requirements_of

ROOT = Path(__file__).parents[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="holds environments, the stored net and the answers")
    parser.add_argument("--only", nargs="*", default=[], help="names of rows")
    parser.add_argument("--with", nargs="*", default=[], dest="others", help="requirements, each a row of its own")
    parser.add_argument("--groups", nargs="*", default=[], help="probes to ask: audit, map, net, ... (all that apply)")
    parser.add_argument("--keep", action="store_true", help="do not delete the environments")
    parser.add_argument("--again", action="store_true", help="ask rows that have answers, too")
    parser.add_argument("--table", type=Path, help="write the table of the answers and stop")
    options = parser.parse_args()
    folder = options.folder.resolve()
    if options.table:
        from tests.benchmarks.version_table import render

        options.table.write_text(render(folder / "answers"))
        return
    rows = {name: ROWS[name] for name in options.only or ROWS} if options.only or not options.others else {}
    rows |= {other.replace("==", "-"): (other,) for other in options.others}
    for name, changed in rows.items():
        answers = folder / "answers" / f"{name}.npz"
        if options.again or not answers.exists():
            asked(folder, name, requirements_of(changed), answers, options.groups, keep=options.keep)


def asked(folder: Path, name: str, requirements: list[str], answers: Path, groups: list[str], *, keep: bool) -> None:
    """Make a row's environment, ask in it, and delete it."""
    python = made(folder / "environments" / name, requirements)
    subject = folder / "subject"
    if not (subject / "done").exists():
        run(made(folder / "environments" / BASE, requirements_of(ROWS[BASE])), "version_subject", str(subject))
    answers.parent.mkdir(exist_ok=True)
    run(python, "version_probes", str(subject), str(answers), *(groups or GROUPS.get(name, ())))
    if not keep:
        shutil.rmtree(folder / "environments" / name)


def made(environment: Path, requirements: list[str]) -> Path:
    """The Python of an environment that holds the requirements."""
    python = environment / "bin" / "python"
    if not (environment / "done").exists():
        shutil.rmtree(environment, ignore_errors=True)
        subprocess.run(["uv", "venv", "-q", "--python", sys.executable, str(environment)], check=True)
        install = ["uv", "pip", "install", "-q", "--python", str(python)]
        subprocess.run([*install, *requirements], check=True)
        (environment / "done").touch()
    return python


def run(python: Path, module: str, *words: str) -> None:
    """Run a module of this folder with one thread, without what the caller's environment adds."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "OMP_", "MKL_"))}
    environment = {**plain, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    print(f"{python.parents[1].name}: {module}", flush=True)
    subprocess.run([str(python), "-m", f"tests.benchmarks.{module}", *words], check=True, cwd=ROOT, env=environment)


if __name__ == "__main__":
    main()
