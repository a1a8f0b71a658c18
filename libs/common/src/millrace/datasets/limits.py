"""The sizes of the format, and what a parser believes at most. All in bytes unless said otherwise."""

MIB = 1024 * 1024

PACK_TARGET = 32 * MIB
"""A pack is closed when the next blob would take it past this."""

PACK_MAX = 48 * MIB
"""No pack is larger; a reader refuses one before it allocates."""

CHUNKED_ABOVE = 8 * MIB
"""Files larger than this are stored as chunks of their own, not in packs."""

CHUNK = 16 * MIB
"""Every chunk but a file's last has exactly this size."""

MAX_PATH = 1_024
"""Longest path of a file in a version, in UTF-8."""

MAX_SEGMENT = 255
"""Longest folder or file name, in UTF-8: what every common file system takes."""

MAX_FILE = 1 << 44
"""Largest file: 16 TiB."""

MAX_FILES = 20_000_000
"""Most files of one version."""

MAX_MANIFEST = 1024 * MIB
"""Largest stored manifest."""

MAX_COMMIT = 256 * 1024
"""Largest commit object."""
