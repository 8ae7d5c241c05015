"""The code that a rule with `local_conf` wants typed at each signer's own machine, for one withdrawal.

It is no secret and signs nothing: that somebody stands at the machine and was told of this very withdrawal is what it
says. Whoever holds the machine could do without; whoever holds only the coordinator could not.
"""

from __future__ import annotations

from custody.canonical import encode, tagged_hash

DIGITS = 6  # long enough not to be hit by chance, short enough to be read out
_TAG = "keyturn/local-code/v1"


def local_code(genesis: bytes, withdrawal_digest: bytes, node: str) -> str:
    """Return the code of a withdrawal at `node`: six digits. genesis, withdrawal_digest: 32 bytes each."""
    said = {"genesis": genesis.hex(), "withdrawal_digest": withdrawal_digest.hex(), "node": node}
    number = int.from_bytes(tagged_hash(_TAG, encode(said))[:8]) % 10**DIGITS
    return str(number).zfill(DIGITS)
