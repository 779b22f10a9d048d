#!/usr/bin/env bash
# pyautoattack 0.2.0: the standard version raises an IndexError on a net of fewer than ten classes.
#
# Guess: the standard version aims at as many other classes as there are, so that it runs on any net of four or more.
# Seen (pyautoattack 0.2.0, torch 2.13.0, numpy 2.4.1, Python 3.11): its targeted APGD aims at nine other classes whatever the net has;
# on five it prints that this seems more than possible, goes on, and raises "index -6 is out of bounds for dimension 1
# with size 5" once an image is left for the sixth. Where the first attack breaks every image nothing is raised: it shows
# on robust nets alone, after the time of the first attacks.
# What audit does: `autoattack` aims at the classes that there are (audit/attacks/apgd.py, audit/models/losses.py), with
# the margin in place of DLR where those are too few.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check pyautoattack==0.2.0 torch==2.13.0 numpy==2.4.1
cat > "$folder/five.py" <<'PY'
import torch
from pyautoattack import AutoAttack

torch.manual_seed(0)


def asked(classes, eps):
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, classes)).eval()
    images = torch.rand(8, 1, 8, 8) * 0.8 + 0.1
    labels = net(images).argmax(1)
    try:
        AutoAttack(net, norm="Linf", eps=eps, version="standard", seed=0, device="cpu").run_standard_evaluation(
            images, labels, batch_size=8
        )
    except IndexError as fault:
        return str(fault)
    return "an answer"


robust, broken = asked(5, 0.001), asked(5, 0.9)
print("five classes, robust:", robust, "| all broken:", broken)
assert "index -6 is out of bounds" in robust and broken == "an answer"
PY
"$folder/venv/bin/python" "$folder/five.py"
