#!/usr/bin/env bash
# Ray 2.60 on Linux listens on every network interface, whatever address it is given.
#
# Guess: ray.init(address="local", _node_ip_address="127.0.0.1") starts Ray for this process alone, as a server that is
# given the loopback address does.
# Seen (ray 2.60.0): the address is replaced by the machine's own (services.resolve_ip_for_localhost), and the sockets of
# the scheduler, of its store and of every worker are bound to all interfaces. With the variable that is meant for laptops,
# RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0, set before Ray is imported, the same call binds them to 127.0.0.1. Since 2.60 a
# token in the home folder guards the ports; before, whoever reached one ran code.
# What audit does: audit/runs/ray_pool.py sets the variable where it starts Ray by itself; tests/runs/test_ray_workers.py
# looks at the socket.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check ray==2.60.0
cat > "$folder/ports.py" <<'PY'
import logging
import pathlib

import ray

def listening():
    lines = [line.split() for name in ("tcp", "tcp6") for line in pathlib.Path(f"/proc/net/{name}").read_text().splitlines()]
    return {words[1] for words in lines if len(words) > 3 and words[3] == "0A"}


before = listening()
logging.getLogger("ray").setLevel(logging.ERROR)
ray.init(
    address="local", num_cpus=1, include_dashboard=False, _node_ip_address="127.0.0.1", log_to_driver=False, logging_level=40
)
opened = listening() - before
everywhere = {address for address in opened if set(address.rpartition(":")[0]) == {"0"}}
print(f"ray {ray.__version__}: {len(opened)} sockets listen, {len(everywhere)} of them on every interface")
ray.shutdown()
PY
export HOME="$folder" RAY_USAGE_STATS_ENABLED=0
said=$("$folder/venv/bin/python" "$folder/ports.py")
echo "as it is: $said"
[[ $said != *" 0 of them"* ]]
said=$(RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 "$folder/venv/bin/python" "$folder/ports.py")
echo "with RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0: $said"
[[ $said == *" 0 of them"* ]]
