"""A bundle: a folder of compiled programs with its manifest. Opening one checks every file against it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from calotype.errors import BundleError
from calotype.manifest import FileSpec, Manifest, ProgramSpec

MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Bundle:
    """An opened bundle, whose files were found to be what the manifest says."""

    root: Path
    manifest: Manifest
    digest: str  # sha256 of the manifest, which holds the digests of everything else

    @classmethod
    def open(cls, path: str | Path) -> Bundle:
        """Open the bundle at `path` and compare each file's kind, size and sha256 with the manifest.

        BundleError names the first file that is missing, truncated, changed, a link or outside the folder.
        """
        root = Path(path)
        if not root.is_dir():
            found = "a file" if root.exists() else "nothing"
            raise BundleError(
                f"{root} is no bundle: expected a folder, found {found}",
                "make one with `calotype-export build CHECKPOINT -o BUNDLE`",
            )
        if not (root / MANIFEST).is_file():
            raise BundleError(
                f"{root} is no bundle: it has no {MANIFEST}",
                "make one with `calotype-export build CHECKPOINT -o BUNDLE`",
            )
        where = f"{root.name}/{MANIFEST}"
        try:
            data = (root / MANIFEST).read_bytes()
            manifest = Manifest.from_json(data.decode("utf-8"), where)
        except (OSError, UnicodeDecodeError) as error:
            raise BundleError(f"{where} cannot be read: {error}", "export the bundle again") from error
        for spec in {file.path: file for file in _all_files(manifest)}.values():
            _check(root, spec)
        return cls(root, manifest, hashlib.sha256(data).hexdigest())

    def check_kept(self) -> None:
        """BundleError where another bundle, or none, is in the place of the one that was opened."""
        try:
            found = hashlib.sha256((self.root / MANIFEST).read_bytes()).hexdigest()
        except OSError:
            found = "nothing"
        if found != self.digest:
            raise BundleError(
                f"{self.root.name} was replaced since it was opened: expected {MANIFEST} of sha256 {self.digest}, "
                f"found {found}",
                "load the pipeline again",
            )

    def program(self, name: str, batch: int = 1) -> ProgramSpec:
        """The program `name` for `batch` images; BundleError where the bundle has none."""
        spec = self.manifest.program(name, batch)
        if spec is None:
            present = ", ".join(
                f"{program.name} (batch {program.batch})" for program in self.manifest.programs
            )
            raise BundleError(
                f"{self.root.name} has no program {name} for batch {batch}; it has {present}",
                "export a checkpoint that has this component, or with --batch for another batch size",
            )
        return spec

    def has(self, name: str) -> bool:
        """Whether the bundle has a program or a file called `name`."""
        files = {file.path for file in self.manifest.files}
        return name in files or any(program.name == name for program in self.manifest.programs)

    def json(self, name: str) -> Mapping[str, Any]:
        """The JSON file `name` of the bundle; BundleError where it cannot be read."""
        where = f"{self.root.name}/{name}"
        try:
            found = json.loads((self.root / name).read_text("utf-8"))
        except (OSError, ValueError) as error:  # no UTF-8, or no JSON
            raise BundleError(f"{where} cannot be read: {error}", "export the bundle again") from error
        if not isinstance(found, dict):
            raise BundleError(f"{where}: expected an object, found {found!r}", "export the bundle again")
        return found


def _all_files(manifest: Manifest) -> tuple[FileSpec, ...]:
    programs = manifest.programs
    return manifest.files + tuple(file for one in programs for file in (*one.files, *one.cuda_files))


def _check(root: Path, spec: FileSpec) -> None:
    where = f"{root.name}/{spec.path}"
    parts = PurePosixPath(spec.path)
    if parts.is_absolute() or ".." in parts.parts or "\\" in spec.path:
        raise BundleError(f"{where} lies outside the bundle", "export the bundle again; do not load this one")
    path = root / spec.path
    if any(
        folder.is_symlink()
        for folder in (path, *path.parents)
        if folder.is_relative_to(root) and folder != root
    ):
        raise BundleError(f"{where} is a link; a bundle holds plain files", "copy the bundle with its files")
    if not path.is_file():
        raise BundleError(f"{where} is missing", "export the bundle again, or copy it whole")
    size = path.stat().st_size
    if size != spec.size:
        raise BundleError(
            f"{where}: expected {spec.size} bytes, found {size}", "copy the bundle again, whole"
        )
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != spec.sha256:
        raise BundleError(
            f"{where}: expected sha256 {spec.sha256}, found {found}",
            "the file was changed: export the bundle again",
        )
