#!/usr/bin/env bash
# model-signing 1.1.1 cannot be imported with what it declares, and takes the password of a key as bytes alone.
#
# Guess: `pip install model-signing` gives a package that can be imported, and `password: str | None` takes a str.
# Seen (model-signing 1.1.1 with sigstore 4.5.1, cryptography 50.0.2, Python 3.11): `import model_signing` raises
# ModuleNotFoundError for OpenSSL, since _signing/sign_certificate.py imports pyOpenSSL, which earlier sigstore releases
# brought and this one does not. With pyopenssl installed, use_elliptic_key_signer(private_key=..., password="secret")
# raises "Cannot convert "<class 'str'>" instance to a buffer": the annotated str reaches cryptography as it is; bytes work.
# What audit does: the extra `sign` names pyopenssl too, and passwords are passed as bytes (tests/storage/test_signature.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip=("$folder/venv/bin/pip" install -q --disable-pip-version-check)
"${pip[@]}" model-signing==1.1.1 sigstore==4.5.1 cryptography==50.0.2
said=$("$folder/venv/bin/python" -c "import model_signing" 2>&1 || true)
echo "$said" | tail -1
grep -q "No module named 'OpenSSL'" <<<"$said"
"${pip[@]}" pyopenssl cryptography==50.0.2
cat > "$folder/password.py" <<'PY'
import pathlib
import sys

import model_signing
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

key = pathlib.Path(sys.argv[1], "key.pem")
lock = serialization.BestAvailableEncryption(b"secret")
forms = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)
key.write_bytes(ec.generate_private_key(ec.SECP256R1()).private_bytes(*forms))
try:
    model_signing.signing.Config().use_elliptic_key_signer(private_key=key, password="secret")
except TypeError as fault:
    print(fault)
else:
    raise SystemExit("a str is taken")
model_signing.signing.Config().use_elliptic_key_signer(private_key=key, password=b"secret")
PY
"$folder/venv/bin/python" "$folder/password.py" "$folder"
