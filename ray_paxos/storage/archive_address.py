"""Where an archive lies: an address as a configuration or a command gives it.

```
file:///mnt/backup/paxos                  a folder that is there; a mounted share, most often
s3://bucket/prefix                        an object store that speaks S3
s3://bucket/prefix?region=eu-central-1
s3://bucket/prefix?endpoint_override=host:9000&scheme=http
```

Credentials never stand in an address, since addresses are shown and logged: the usual variables
and files of the S3 client, or the role of the machine, give them.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlsplit

from ray_paxos.errors import ConfigurationError

ALLOWED = "file:///folder or s3://bucket/prefix"
S3_OPTIONS = ("endpoint_override", "region", "scheme")


@dataclass(frozen=True, slots=True)
class ArchiveAddress:
    """A checked address.

    Attributes:
        text: As it was given.
        scheme: `file` or `s3`.
        root: The folder; or bucket and prefix, with `/` between the parts and none at the ends.
        options: What else was said, for S3.
    """

    text: str
    scheme: str
    root: str
    options: tuple[tuple[str, str], ...] = ()


def parse_address(text: str) -> ArchiveAddress:
    """Check an address; looks at nothing outside.

    Raises:
        ConfigurationError: It is none, or of a kind that this release cannot use.
    """
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise ConfigurationError(f"{text!r} is no address: {error}; allowed: {ALLOWED}") from error
    if not parts.scheme or "://" not in text:
        raise ConfigurationError(f"{text!r} has no scheme; allowed: {ALLOWED}")
    if "@" in parts.netloc:
        raise ConfigurationError(
            "an archive's address holds credentials, which everybody would see; give them in the "
            "environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, for one)"
        )
    if parts.scheme == "file":
        return _parse_file(text, parts.netloc, unquote(parts.path), parts.query or parts.fragment)
    if parts.scheme == "s3":
        return _parse_s3(text, parts.netloc, parts.path, parts.query, parts.fragment)
    raise ConfigurationError(f"{text!r}: scheme {parts.scheme!r}; allowed: {ALLOWED}")


def _parse_file(text: str, host: str, path: str, rest: str) -> ArchiveAddress:
    if host not in ("", "localhost"):
        raise ConfigurationError(
            f"{text!r} names the host {host!r}; a folder has three slashes: file:///{host}{path}"
        )
    if rest or not path.startswith("/") or path.strip("/") == "" or "\0" in path:
        raise ConfigurationError(f"{text!r}: allowed: file:/// and the absolute path of a folder")
    if ".." in path.split("/"):
        raise ConfigurationError(f"{text!r}: write the folder's path without ..")
    return ArchiveAddress(text, "file", path.rstrip("/"))


def _parse_s3(text: str, bucket: str, path: str, query: str, fragment: str) -> ArchiveAddress:
    if not bucket or fragment:
        raise ConfigurationError(f"{text!r}: allowed: s3://bucket/prefix")
    names = [name for name in path.split("/") if name]
    if any(name in (".", "..") for name in names):
        raise ConfigurationError(f"{text!r}: a prefix has no parts . and ..")
    options = tuple(parse_qsl(query, keep_blank_values=True))
    for name, value in options:
        if name not in S3_OPTIONS or not value:
            known = ", ".join(S3_OPTIONS)
            raise ConfigurationError(f"{text!r}: option {name!r}; allowed, with a value: {known}")
    if dict(options).get("scheme", "https") not in ("http", "https"):
        raise ConfigurationError(f"{text!r}: option 'scheme'; allowed: http, https")
    return ArchiveAddress(text, "s3", "/".join((bucket, *names)), options)
