"""What makes one nonce for one plaintext: bytes are sealed only under the name that they themselves give."""

from __future__ import annotations

from blake3 import blake3

from millrace.datasets.keys import LakeKind
from millrace.datasets.pack import read_pack
from millrace.errors import Corrupt, Invalid
from millrace.sealing.segments import Data


def check_content(kind: LakeKind, digest: str, data: Data) -> None:
    """Return if `data` is what `digest` names: a pack by trailer, index and blobs, all else by its BLAKE3. Blocking.

    Raises:
        Invalid: it is not.
    """
    if kind == "packs":
        try:
            read_pack(data, expect=digest)
        except Corrupt as error:
            raise Invalid(f"pack {digest} is not sealed: {error.message}") from None
    elif blake3(data).hexdigest() != digest:
        raise Invalid(f"{kind}/{digest} is not sealed: its bytes do not have that digest")
