#!/usr/bin/env bash
# torchattacks 3.5.1: its C&W attack changes nothing where logits are negative; a constant added to them decides.
#
# Guess: the attack's margin is the label's logit less the largest other, so a constant added to all logits, which changes no
# prediction, no probability and no gradient of a difference, changes nothing.
# Seen (torchattacks 3.5.1, torch 2.13.0, Python 3.11): `CW.f` takes the maximum of the logits times a mask of ones and zeros,
# so the masked ones count as 0. With a constant of 100 all 32 images of a linear model are broken; with -100 both maxima
# are 0, so is the gradient, and every image comes back unchanged: robust accuracy 100%. Without one it depends on the net:
# those with a log-softmax at their end have negative outputs only.
# What audit does: margins by selection, and every attack is held to the exact distance of a linear boundary
# (tests/attacks).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torchattacks==3.5.1 torch==2.13.0 torchvision==0.28.0
cat > "$folder/constant.py" <<'PY'
import torch
import torchattacks


class Shifted(torch.nn.Module):
    def __init__(self, linear, constant):
        super().__init__()
        self.linear, self.constant = linear, constant

    def forward(self, images):
        return self.linear(images.flatten(1)) + self.constant


torch.manual_seed(0)
linear = torch.nn.Linear(64, 5)
images = torch.rand(32, 1, 8, 8) * 0.8 + 0.1
labels = Shifted(linear, 0.0)(images).argmax(1)
broken = {}
for constant in (100.0, -100.0):
    net = Shifted(linear, constant).eval()
    assert torch.equal(net(images).argmax(1), labels)
    found = torchattacks.CW(net, c=10, steps=100, lr=0.01)(images, labels)
    broken[constant] = int((net(found).argmax(1) != labels).sum())
print(broken, "unchanged", torch.equal(found, images))
assert broken == {100.0: 32, -100.0: 0} and torch.equal(found, images), broken
PY
"$folder/venv/bin/python" "$folder/constant.py"
