"""Archives in object stores that speak S3, through pyarrow's file system.

An object appears whole when its upload is completed, and not before. Folders do not exist there:
nothing makes one, and markers that a deletion leaves are taken for what they are, nothing.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping

import pyarrow as pa
import pyarrow.fs as pafs

from ray_paxos.errors import DamageError, StorageError
from ray_paxos.storage.archive_address import ArchiveAddress
from ray_paxos.storage.archive_files import CHUNK_BYTES

CONNECT_TIMEOUT_S = 5.0
REQUEST_TIMEOUT_S = 30.0
ATTEMPTS_MAX = 3
_REASON_CHARACTERS_MAX = 300

# With one of these set the client finds its region, or needs none.
_REGION_VARIABLES = (
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
)


class S3Archive:
    """An archive below a prefix of a bucket, which has to be there."""

    def __init__(self, address: ArchiveAddress) -> None:
        """Make a client; asks nothing but, where nobody says it, for the bucket's region.

        Raises:
            StorageError: The region cannot be found out.
        """
        self._root = address.root
        bucket, _, self._prefix = address.root.partition("/")
        self._bucket = bucket
        options = dict(address.options)
        region = options.get("region")
        is_said = region is not None or "endpoint_override" in options
        if not is_said and not any(os.environ.get(name) for name in _REGION_VARIABLES):
            with _refusals(f"cannot find the region of bucket {bucket}"):
                region = pafs.resolve_s3_region(bucket)
        with _refusals(f"cannot use {address.text}"):
            self._fs = pafs.S3FileSystem(
                region=region,
                scheme="http" if options.get("scheme") == "http" else "https",
                endpoint_override=options.get("endpoint_override"),
                connect_timeout=CONNECT_TIMEOUT_S,
                request_timeout=REQUEST_TIMEOUT_S,
                # An upload in the background would go on, and be completed, after a failure.
                background_writes=False,
                retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS_MAX),
            )

    def where(self, path: str) -> str:
        """As an address."""
        return f"s3://{self._full(path)}"

    def check(self) -> None:
        """The bucket is there."""
        with _refusals(f"cannot reach s3://{self._bucket}"):
            info = self._fs.get_file_info(self._bucket)
        if info.type == pafs.FileType.NotFound:
            raise StorageError(f"s3://{self._bucket} is no bucket that is there: make it")

    def list(self, folder: str) -> Mapping[str, int | None]:
        """Names and sizes."""
        selector = pafs.FileSelector(self._full(folder), allow_not_found=True)
        with _refusals(f"cannot list {self.where(folder)}"):
            infos = self._fs.get_file_info(selector)
        return {
            info.base_name: info.size if info.type == pafs.FileType.File else None for info in infos
        }

    def put(self, path: str, chunks: Iterable[bytes]) -> None:
        """Upload."""
        with (
            _refusals(f"cannot write {self.where(path)}"),
            self._fs.open_output_stream(self._full(path)) as stream,
        ):
            for chunk in chunks:
                stream.write(chunk)

    def chunks(self, path: str) -> Iterator[bytes]:
        """Read a part at a time."""
        where = self.where(path)
        with _refusals(f"cannot read {where}"):
            try:
                stream = self._fs.open_input_stream(self._full(path))
            except FileNotFoundError as error:
                raise DamageError(f"{where} is missing") from error
        with contextlib.closing(stream):
            while True:
                with _refusals(f"cannot read {where}"):
                    data = stream.read(CHUNK_BYTES)
                if not data:
                    return
                yield data

    def move(self, old: str, new: str) -> None:
        """Copy within the store, which is whole or not at all, and remove the old name."""
        with _refusals(f"cannot rename {self.where(old)}"):
            self._fs.move(self._full(old), self._full(new))

    def delete(self, path: str) -> None:
        """Remove."""
        with (
            _refusals(f"cannot remove {self.where(path)}"),
            contextlib.suppress(FileNotFoundError),
        ):
            self._fs.delete_file(self._full(path))

    def delete_folder(self, folder: str) -> None:
        """Remove everything below."""
        with (
            _refusals(f"cannot remove {self.where(folder)}"),
            contextlib.suppress(FileNotFoundError),
        ):
            self._fs.delete_dir(self._full(folder))

    def _full(self, path: str) -> str:
        return f"{self._root}/{path}" if path else self._root


@contextlib.contextmanager
def _refusals(what: str) -> Iterator[None]:
    """Turn the client's errors into ours, as one line."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:_REASON_CHARACTERS_MAX]
        raise StorageError(f"{what}: {reason}") from error
