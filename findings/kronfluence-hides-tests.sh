#!/usr/bin/env bash
# kronfluence 1.0.1: once it is installed, a project's own `tests` folder can no longer be imported.
#
# Guess: a library brings one top-level package, its own.
# Seen (kronfluence 1.0.1): the wheel also brings the top-level packages `tests` and `examples`, each with an
# __init__.py. A folder `tests` without one is a namespace package, which Python takes only where no other package of
# that name is anywhere on the path: `from tests.helpers import ...` begins to fail with "No module named
# 'tests.helpers'", although the project's folder stands first on the path. With an __init__.py in it, it works.
# What audit does: kronfluence is an extra (`influence`) that the test environment leaves out.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
mkdir -p "$folder/project/tests"
echo 'ANSWER = 42' > "$folder/project/tests/helpers.py"
cd "$folder/project"
ask() { { "$folder/venv/bin/python" -c 'from tests.helpers import ANSWER; print(ANSWER)' 2>&1 || true; } | tail -1; }
before=$(ask)
"$folder/venv/bin/pip" install -q --disable-pip-version-check --no-deps kronfluence==1.0.1
after=$(ask)
touch tests/__init__.py
with_init=$(ask)
echo "kronfluence 1.0.1: before it '$before', after it '$after', with an __init__.py '$with_init'"
test "$before" = 42
test "$after" = "ModuleNotFoundError: No module named 'tests.helpers'"
test "$with_init" = 42
