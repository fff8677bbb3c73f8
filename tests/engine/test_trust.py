"""Plans are native code: only what this user built, or signed with their key, is read."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from calotype import trust
from calotype.errors import BackendError


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "compiled" / "unet_step_1.plan"
    path.parent.mkdir()
    path.write_bytes(b"native code")
    return path


def home(tmp_path: Path, name: str) -> dict[str, str]:
    return {"XDG_STATE_HOME": str(tmp_path / name)}


def digest(plan: Path) -> str:
    return hashlib.sha256(plan.read_bytes()).hexdigest()


def with_key(tmp_path: Path, name: str, secret: str) -> dict[str, str]:
    path = tmp_path / f"{name}.key"
    path.write_text(secret, "utf-8")
    return home(tmp_path, name) | {trust.KEY: str(path)}


def test_what_was_built_here_is_read(tmp_path: Path, plan: Path) -> None:
    trust.admit(plan, digest(plan), home(tmp_path, "me"))
    assert trust.read(plan, digest(plan), home(tmp_path, "me")) == b"native code"


def test_what_another_user_built_is_refused(tmp_path: Path, plan: Path) -> None:
    trust.admit(plan, digest(plan), home(tmp_path, "another"))
    with pytest.raises(BackendError, match="was not built by this user, nor signed"):
        trust.read(plan, digest(plan), home(tmp_path, "me"))


def test_a_plan_that_was_changed_is_refused_by_its_digest(tmp_path: Path, plan: Path) -> None:
    trust.admit(plan, digest(plan), home(tmp_path, "me"))
    expected = digest(plan)
    plan.write_bytes(b"other code")
    with pytest.raises(BackendError, match=f"expected sha256 {expected}, found {digest(plan)}"):
        trust.read(plan, expected, home(tmp_path, "me"))


def test_a_plan_and_a_manifest_that_were_both_changed_are_refused(tmp_path: Path, plan: Path) -> None:
    trust.admit(plan, digest(plan), home(tmp_path, "me"))
    plan.write_bytes(b"other code")
    with pytest.raises(BackendError, match="was not built by this user"):
        trust.read(plan, digest(plan), home(tmp_path, "me"))


def test_a_key_carries_a_plan_to_another_machine(tmp_path: Path, plan: Path) -> None:
    trust.admit(plan, digest(plan), with_key(tmp_path, "builder", "a secret of some length"))
    assert trust.read(plan, digest(plan), with_key(tmp_path, "server", "a secret of some length"))


def test_a_key_may_be_as_short_as_its_limit_and_end_its_line_on_one_machine_alone(
    tmp_path: Path, plan: Path
) -> None:
    trust.admit(plan, digest(plan), with_key(tmp_path, "builder", "sixteen letters."))
    assert trust.read(plan, digest(plan), with_key(tmp_path, "server", "sixteen letters.\n"))


def test_a_signature_of_another_key_is_refused(tmp_path: Path, plan: Path) -> None:
    trust.admit(plan, digest(plan), with_key(tmp_path, "builder", "a secret of some length"))
    with pytest.raises(BackendError, match="was not built by this user"):
        trust.read(plan, digest(plan), with_key(tmp_path, "server", "another of that length"))


def test_a_signature_of_another_plan_is_refused(tmp_path: Path, plan: Path) -> None:
    trust.admit(plan, digest(plan), with_key(tmp_path, "builder", "a secret of some length"))
    plan.write_bytes(b"other code")
    with pytest.raises(BackendError, match="was not built by this user"):
        trust.read(plan, digest(plan), with_key(tmp_path, "server", "a secret of some length"))


def test_damaged_signatures_and_lists_are_none(tmp_path: Path, plan: Path) -> None:
    environment = with_key(tmp_path, "me", "a secret of some length")
    trust.admit(plan, digest(plan), environment)
    for path in (trust.signature_of(plan), tmp_path / "me" / "calotype" / "plans"):
        path.write_bytes("\u00fc".encode() + b"\xff\x00")
    with pytest.raises(BackendError, match="was not built by this user"):
        trust.read(plan, digest(plan), environment)


@pytest.mark.parametrize(("secret", "message"), [("short", "at least 16 bytes"), (None, "cannot be read")])
def test_a_key_that_is_none_is_refused(tmp_path: Path, plan: Path, secret: str | None, message: str) -> None:
    trust.admit(plan, digest(plan), home(tmp_path, "another"))
    environment = with_key(tmp_path, "me", secret or "")
    if secret is None:
        Path(environment[trust.KEY]).unlink()
    with pytest.raises(BackendError, match=message):
        trust.read(plan, digest(plan), environment)
