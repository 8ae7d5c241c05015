"""SLIP-39: any m shares bring the entropy back, fewer bring nothing, and no message repeats a word."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, permutations

import pytest
from shamir_mnemonic.share import Share

from custody.errors import CustodyError
from signer_node.shares import join, needed_of, split

ENTROPY = bytes(range(16))
PASSPHRASE = b"TREZOR"


def made(needed: int = 2, count: int = 3, passphrase: bytes = b"", entropy: bytes = ENTROPY) -> tuple[str, ...]:
    """Return fresh shares."""
    return split(bytearray(entropy), needed, count, bytearray(passphrase))


def code_of(shares: Sequence[str], passphrase: bytes = b"") -> str:
    """Return the code with which shares are refused, or OK."""
    try:
        join(shares, bytearray(passphrase))
    except CustodyError as error:
        return error.code
    return "OK"


@pytest.mark.parametrize(("needed", "count", "size"), [(2, 3, 16), (3, 5, 32), (2, 2, 32)])
def test_join_given_any_m_shares_in_any_order_gives_the_entropy(needed: int, count: int, size: int) -> None:
    """Which ones, and in which order, does not matter; neither do more than are needed."""
    entropy = bytes(range(size))
    shares = made(needed, count, PASSPHRASE, entropy)
    for some in combinations(shares, needed):
        assert join(some, bytearray(PASSPHRASE)) == entropy
    assert join(next(permutations(shares)), bytearray(PASSPHRASE)) == entropy
    assert {needed_of(share) for share in shares} == {needed}


def test_join_given_fewer_shares_says_how_many_are_missing() -> None:
    """One share of 2 of 3 brings nothing back."""
    shares = made()
    assert [code_of(shares[at : at + 1]) for at in range(3)] == ["SHARES_FEW"] * 3
    assert code_of(()) == "SHARES_FEW"


def test_join_given_the_wrong_passphrase_gives_another_secret() -> None:
    """SLIP-0039 has no error for it: the fingerprint tells, as `signer_node.secret.check_fingerprint` demands."""
    shares = made(passphrase=PASSPHRASE)
    assert join(shares, bytearray(b"trezor")) != ENTROPY


def test_join_given_shares_of_two_sets_or_one_twice_refuses() -> None:
    """What does not belong together is not guessed at."""
    shares, others = made(), made()
    assert code_of((shares[0], others[1])) == "SHARES_MIXED"
    assert code_of((shares[0], shares[0])) == "SHARES_TWICE"


def test_join_given_a_wrong_word_names_the_share_and_repeats_no_word() -> None:
    """A typo is found by the share's checksum; the message says which sheet to look at."""
    first, second, _ = made()
    wrong = f"{second.rpartition(' ')[0]} academicsss"
    for bad in (wrong, "academic " * 20, second.replace(second.split()[4], "zzz")):
        with pytest.raises(CustodyError) as refused:
            join((first, bad), bytearray())
        assert refused.value.code == "SHARE_WRONG"
        assert "share 2" in refused.value.message
        assert "academic" not in refused.value.message
        assert refused.value.__cause__ is None


def test_split_makes_extendable_shares_of_one_group() -> None:
    """The `ext` flag is set: a second set under the same passphrase gives the same secret."""
    again = [join(made(passphrase=PASSPHRASE)[:2], bytearray(PASSPHRASE)) for _ in range(2)]
    share = Share.from_mnemonic(made()[0])
    assert again == [ENTROPY, ENTROPY]
    assert (share.extendable, share.group_count, share.group_threshold, share.iteration_exponent) == (True, 1, 1, 1)


@pytest.mark.parametrize(("needed", "count"), [(1, 1), (1, 3), (3, 2), (2, 17), (0, 3)])
def test_split_given_numbers_that_share_nothing_refuses(needed: int, count: int) -> None:
    """One share that is enough is no sharing."""
    with pytest.raises(CustodyError, match="SHARES_COUNT"):
        made(needed, count)


@pytest.mark.parametrize("passphrase", ["über".encode(), b"tab\t", b"\xff"])
def test_split_given_a_passphrase_beyond_printable_ascii_refuses(passphrase: bytes) -> None:
    """SLIP-0039 says nothing of other letters: programs would differ."""
    with pytest.raises(CustodyError):
        made(passphrase=passphrase)
