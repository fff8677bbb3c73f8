"""Which plans may be loaded. A plan is native code: it is run only if this user built it, or signed it with a key.

A build adds the plan's sha256 to a list in the user's own state folder. To carry plans to other machines, name a file
with a secret in CALOTYPE_PLAN_KEY on both: a build then writes an HMAC-SHA256 of each plan's digest
beside it.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Mapping
from pathlib import Path

from calotype.errors import BackendError, OutputError

KEY = "CALOTYPE_PLAN_KEY"
_SHORTEST_KEY = 16


def admit(plan: Path, sha256: str, environment: Mapping[str, str] = os.environ) -> None:
    """Say that the plan file was built here: record its digest, and sign it if there is a key. OutputError."""
    built = _built(environment)
    try:
        built.parent.mkdir(parents=True, exist_ok=True)
        with built.open("a", encoding="utf-8") as file:
            file.write(sha256 + "\n")
    except OSError as error:
        raise OutputError(f"{built}: the plan could not be recorded: {error.strerror or error}") from error
    key = _key(environment)
    if key:
        signature_of(plan).write_text(_sign(sha256, key) + "\n", "utf-8")


def read(plan: Path, sha256: str, environment: Mapping[str, str] = os.environ) -> bytes:
    """The bytes of a plan file whose digest the manifest gives as `sha256`.

    BackendError where the file is not that, or neither built by this user nor signed with the user's key.
    """
    try:
        data = plan.read_bytes()
    except OSError as error:
        raise BackendError(f"{plan} cannot be read: {error}", "compile the bundle again") from error
    _check(plan, hashlib.sha256(data).hexdigest(), sha256, environment)
    return data


def check(plan: Path, sha256: str, environment: Mapping[str, str] = os.environ) -> None:
    """`read`, of a file that a library will open by itself. BackendError."""
    try:
        with plan.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BackendError(f"{plan} cannot be read: {error}", "compile the bundle again") from error
    _check(plan, found, sha256, environment)


def _check(plan: Path, found: str, expected: str, environment: Mapping[str, str]) -> None:
    if found != expected:
        raise BackendError(f"{plan}: expected sha256 {expected}, found {found}", "compile the bundle again")
    if found not in _recorded(environment) and not _is_signed(plan, found, environment):
        raise BackendError(
            f"{plan} was not built by this user, nor signed with a key of theirs; a plan is native code",
            f"compile the bundle here, or name the key that it was built with in {KEY}",
        )


def signature_of(plan: Path) -> Path:
    """Where the signature of a plan file lies."""
    return plan.with_name(plan.name + ".hmac")


def _recorded(environment: Mapping[str, str]) -> set[str]:
    built = _built(environment)
    return set(built.read_text("utf-8", errors="replace").split()) if built.is_file() else set()


def _is_signed(plan: Path, digest: str, environment: Mapping[str, str]) -> bool:
    key, signature = _key(environment), signature_of(plan)
    if not key or not signature.is_file():
        return False
    return hmac.compare_digest(signature.read_bytes().strip(), _sign(digest, key).encode())


def _sign(digest: str, key: bytes) -> str:
    return hmac.new(key, digest.encode(), hashlib.sha256).hexdigest()


def _key(environment: Mapping[str, str]) -> bytes:
    """The secret, empty where none is configured. BackendError where its file is missing or too short to be one."""
    if not environment.get(KEY):
        return b""
    path = Path(environment[KEY])
    try:
        key = path.read_bytes().strip()
    except OSError as error:
        raise BackendError(f"{KEY}: {path} cannot be read: {error.strerror or error}") from error
    if len(key) < _SHORTEST_KEY:
        raise BackendError(
            f"{KEY}: expected at least {_SHORTEST_KEY} bytes in {path}, found {len(key)}",
            f"head -c 32 /dev/urandom | base64 > {path}",
        )
    return key


def _built(environment: Mapping[str, str]) -> Path:
    """The list of digests: $XDG_STATE_HOME/calotype/plans, in ~/.local/state unless that is set."""
    state = environment.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "calotype" / "plans"
