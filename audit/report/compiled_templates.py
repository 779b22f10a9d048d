"""Templates that were compiled before: compiling them anew takes a quarter of the time of a report."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from jinja2 import FileSystemBytecodeCache
from jinja2.bccache import Bucket

from audit.storage.cache import cache_folder


class CompiledTemplates(FileSystemBytecodeCache):
    """Compiled templates in the cache folder, as Python keeps modules; a folder that refuses is no error.

    Jinja checks that the template, its own version and Python's are still the same.
    """

    def __init__(self) -> None:
        """Nothing is read or written yet."""
        super().__init__(str(cache_folder() / "templates"), "%s.jinja")

    def load_bytecode(self, bucket: Bucket) -> None:
        """Fill in what was compiled before, if anything was.

        Args:
            bucket: Stands for one template.
        """
        with suppress(OSError):
            super().load_bytecode(bucket)

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Keep what was compiled now.

        Args:
            bucket: Stands for one template.
        """
        with suppress(OSError):
            Path(self.directory).mkdir(parents=True, exist_ok=True)
            super().dump_bytecode(bucket)
