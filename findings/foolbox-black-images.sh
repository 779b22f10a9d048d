#!/usr/bin/env bash
# foolbox 3.3.4: a Carlini-Wagner attack that fails returns a black image, and `epsilons=None` reports it as a success.
#
# Guess: a minimisation attack gives back the starting image where it finds nothing, and `success` is False there; the
# median distance of the successes is the usual measure of robustness.
# Seen (foolbox 3.3.4, torch 2.13.0, Python 3.11): after 2 x 3 steps L2CarliniWagnerAttack has found nothing for any of 64
# images. It returns zeros, and as the model takes a black image for another class, `success` is True. The
# distances are those to black. With `epsilons=[0.5]` the same call says False for all.
# What audit does: an independent check of every image that an attack proposes, and only those of this image's ball count
# (audit/adversarial/verify.py, tests/adversarial).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check foolbox==3.3.4 torch==2.13.0
cat > "$folder/black.py" <<'PY'
import foolbox
import torch

torch.manual_seed(0)
images = torch.rand(64, 1, 8, 8) * 0.6 + 0.4
net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2)).eval()
with torch.no_grad():  # class 1 where the image is bright, class 0 for darkness
    net[1].weight[0], net[1].weight[1] = 0.0, 1.0
    net[1].bias[0], net[1].bias[1] = 10.0, 0.0
labels = net(images).argmax(1)
assert labels.unique().tolist() == [1]
model = foolbox.PyTorchModel(net, bounds=(0, 1), device="cpu")
attack = foolbox.attacks.L2CarliniWagnerAttack(binary_search_steps=2, steps=3)
_, found, success = attack(model, images, labels, epsilons=None)
black = found.flatten(1).abs().amax(1) == 0
_, _, bounded = attack(model, images, labels, epsilons=[0.5])
print("success", int(success.sum()), "black", int(black.sum()), "both", int((success & black).sum()))
print("success within 0.5", int(bounded.sum()))
assert int((success & black).sum()) == 64 and int(bounded.sum()) == 0
PY
"$folder/venv/bin/python" "$folder/black.py"
