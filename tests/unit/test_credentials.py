"""Passkeys, SSH keys and desks: one valid signature, one change, and what it is worth then."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from console.pen import unarmoured
from custody import sshsig, webauthn
from custody.canonical import encode
from custody.credentials import may_ask, proofs_by
from custody.errors import MalformedError, Refused
from custody.people import Ballot, check_approval, check_initiator
from custody.policy import Policy, parse_policy
from custody.possession import Possession, read_possession
from custody.quorum import key_holders
from custody.statements import Endorsement, Kind, Signed, endorse
from custody.webauthn import BACKED_UP, HAS_EXTENSIONS, HAS_KEY, MAY_BACK_UP, PRESENT, VERIFIED, parse_assertion
from tests.fakes.authenticators import ORIGIN, RP_ID, SYNCED, FidoKey, Passkey, desk_seed
from tests.fakes.rules import NOW, approval, document, principal, seed_of, withdrawal

VECTORS = Path(__file__).parent.parent / "vectors" / "sshsig"
W = withdrawal()


def rules(*credentials: Mapping[str, Any], name: str = "bob", **roots: Any) -> dict[str, Any]:
    """Return the tests' rules with other credentials for one person."""
    found = document()
    found["roots"] = {**found["roots"], "rp_ids": [RP_ID], "origins": [ORIGIN], **roots}
    for user in found["principals"]["users"]:
        if user["name"] == name:
            user["credentials"] = list(credentials)
    return found


def bobs(*credentials: Mapping[str, Any]) -> Policy:
    """Return rules under which bob has these credentials."""
    return parse_policy(rules(*credentials))


def statement() -> Signed:
    """Return bob's approval of W, signed by nobody."""
    return replace(approval(W, "bob")[1], endorsements=())


def desk(signed: Signed, owner: str = "bob") -> Endorsement:
    """Return the signature of a person's desk."""
    return endorse(signed.kind, signed.raw, desk_seed(owner))


def worth(policy: Policy, *endorsements: Endorsement) -> str:
    """Return what bob's approval of W counts as: seen, blind, or the code of its refusal."""
    signed = replace(statement(), endorsements=endorsements)
    found = check_approval(policy, W, approval(W, "bob")[0], signed, NOW)
    if isinstance(found, Refused):
        return found.code
    return "seen" if found.seen else "blind"


@pytest.mark.parametrize("alg", [webauthn.ES256, webauthn.EDDSA])
def test_passkey_beside_its_desk_is_seen_and_alone_is_blind(alg: str) -> None:
    """Two signatures over one digest: what the passkey signed, the desk showed."""
    key = Passkey("bob", alg)
    policy, signed = bobs(key.credential()), statement()
    assertion = key.endorse(signed.digest)

    assert worth(policy, assertion, desk(signed)) == "seen"
    assert worth(policy, assertion) == "blind"
    assert worth(policy, assertion, desk(signed, "carol")) == "blind"
    assert worth(policy, desk(signed)) == "APPROVAL_SIGNATURE"


def test_passkey_without_a_desk_key_is_blind_whoever_signs_beside_it() -> None:
    """What the rules do not call seen is never inferred."""
    key = Passkey("bob")
    signed = statement()

    assert worth(bobs(key.credential(seen=False)), key.endorse(signed.digest), desk(signed)) == "blind"


LIES: dict[str, Passkey] = {
    "another origin": Passkey("bob", client={"origin": "http://localhost:8421"}),
    "an origin with a slash": Passkey("bob", client={"origin": ORIGIN + "/"}),
    "inside another page": Passkey("bob", client={"crossOrigin": True}),
    "a word for crossOrigin": Passkey("bob", client={"crossOrigin": "false"}),
    "below another page": Passkey("bob", client={"topOrigin": ORIGIN}),
    "another ceremony": Passkey("bob", client={"type": "webauthn.create"}),
    "another challenge": Passkey("bob", client={"challenge": "A" * 43}),
    "a padded challenge": Passkey("bob", client={"challenge": "A" * 43 + "="}),
    "another RP id": Passkey("bob", rp_id="example.org"),
    "nobody there": Passkey("bob", flags=VERIFIED),
    "nobody verified": Passkey("bob", flags=PRESENT),
    "backed up without leave": Passkey("bob", flags=PRESENT | VERIFIED | BACKED_UP),
    "a new key in it": Passkey("bob", flags=PRESENT | VERIFIED | HAS_KEY),
    "bytes behind the counter": Passkey("bob", extra=b"\xa0"),
    "another person's passkey": Passkey("carol"),
    "the same person's other kind of key": Passkey("bob", webauthn.EDDSA),
}


@pytest.mark.parametrize("lie", LIES)
def test_passkey_given_one_lie_counts_nothing(lie: str) -> None:
    """Every item of protocol.md's list refuses by itself, though the desk signed honestly."""
    policy, signed = bobs(Passkey("bob").credential()), statement()

    assert worth(policy, LIES[lie].endorse(signed.digest), desk(signed)) == "APPROVAL_SIGNATURE"


def test_passkey_for_one_withdrawal_counts_nothing_for_another() -> None:
    """The challenge is the digest of this approval, byte by byte."""
    policy, signed = bobs(Passkey("bob").credential()), statement()
    other = approval(withdrawal(withdrawal_id="w-2"), "bob")[1]

    assert worth(policy, Passkey("bob").endorse(other.digest), desk(signed)) == "APPROVAL_SIGNATURE"


def test_passkey_with_extensions_or_synced_counts_and_device_bound_only_if_it_stays() -> None:
    """A synced key is fine unless the rules say that it never leaves its device."""
    signed = statement()
    extended = Passkey("bob", flags=PRESENT | VERIFIED | HAS_EXTENSIONS, extra=b"\xa0")
    synced = Passkey("bob", flags=SYNCED)
    for key in (extended, synced):
        assert worth(bobs(key.credential()), key.endorse(signed.digest), desk(signed)) == "seen"

    bound = bobs(synced.credential(device_bound=True))
    assert worth(bound, synced.endorse(signed.digest), desk(signed)) == "APPROVAL_SIGNATURE"
    may = Passkey("bob", flags=PRESENT | VERIFIED | MAY_BACK_UP)
    assert worth(bound, may.endorse(signed.digest), desk(signed)) == "APPROVAL_SIGNATURE"
    made = Passkey("bob").endorse(signed.digest)
    found = check_approval(bound, W, approval(W, "bob")[0], replace(signed, endorsements=(made, desk(signed))), NOW)
    assert isinstance(found, Ballot)
    assert found.device_bound


@pytest.mark.parametrize(
    "client_data",
    [b'{"type":"webauthn.get","type":"webauthn.get"}', b"[]", b"\xff", b"", b"[" * 3000],
    ids=["a name twice", "a list", "no UTF-8", "nothing", "too deep"],
)
def test_assertion_with_foreign_client_data_counts_nothing_and_raises_nothing(client_data: bytes) -> None:
    """Bytes of others are read or refused, never crashed over."""
    made = parse_assertion(Passkey("bob").endorse(statement().digest).signature)
    forged = replace(made, client_data=client_data).to_bytes()

    assert not webauthn.holds(webauthn.ES256, Passkey("bob").key, statement().digest, forged)


@pytest.mark.parametrize("cut", [0, 3, 40, -1])
def test_assertion_that_is_cut_or_longer_is_malformed(cut: int) -> None:
    """Every length is checked, and nothing may follow."""
    raw = Passkey("bob").endorse(statement().digest).signature
    for wrong in (raw[:cut], raw + b"\0", b"\0" * (webauthn.MAX_ASSERTION_BYTES + 1)):
        with pytest.raises(MalformedError, match="ASSERTION"):
            parse_assertion(wrong)


def test_initiator_with_a_passkey_counts_only_beside_the_desk() -> None:
    """A page could have asked for another withdrawal than it showed."""
    key = Passkey("alice")
    policy = parse_policy(rules(key.credential(), name="alice"))
    signed = Signed(Kind.WITHDRAWAL, encode(W.to_json()), ())
    alone = replace(signed, endorsements=(key.endorse(signed.digest),))
    shown = replace(alone, endorsements=(*alone.endorsements, desk(signed, "alice")))

    assert check_initiator(policy, W, shown, NOW) is None
    refused = check_initiator(policy, W, alone, NOW)
    assert isinstance(refused, Refused)
    assert refused.code == "INITIATOR_SIGNATURE"


def test_quorum_that_loosens_counts_no_blind_passkey() -> None:
    """A rule document is never signed blind; a freeze may be: it can only protect."""
    key = Passkey("erin")
    policy = parse_policy(rules(key.credential(), name="erin"))
    raw = encode({"anything": 1})
    digest = Signed(Kind.RULES, raw, ()).digest
    alone = Signed(Kind.RULES, raw, (key.endorse(digest),))
    shown = replace(alone, endorsements=(*alone.endorsements, endorse(Kind.RULES, raw, desk_seed("erin"))))

    assert key_holders(policy, alone, groups=("admins",), seen=True) == frozenset()
    assert key_holders(policy, shown, groups=("admins",), seen=True) == {"erin"}
    assert key_holders(policy, alone, groups=("admins",)) == {"erin"}


def test_ssh_key_signs_the_whole_statement_and_is_seen() -> None:
    """`ssh-keygen -Y sign` over the canonical bytes, under the namespace of the statement's kind; touch and PIN."""
    signed = statement()
    for kind in (sshsig.SK_ED25519, sshsig.SK_ECDSA):
        key = FidoKey("bob", kind)
        policy = bobs({"alg": "ssh", "key": key.key.hex(), "seen": True})
        assert worth(policy, key.endorse(signed.kind, signed.raw)) == "seen"
        for wrong in (
            replace(key, flags=sshsig.TOUCHED).endorse(signed.kind, signed.raw),
            replace(key, flags=sshsig.VERIFIED).endorse(signed.kind, signed.raw),
            key.endorse(signed.kind, signed.raw, namespace=b"file"),
            key.endorse(Kind.STOP, signed.raw),
            key.endorse(signed.kind, signed.raw + b" "),
            replace(key, application=b"ssh:other").endorse(signed.kind, signed.raw),
            replace(FidoKey("carol", kind).endorse(signed.kind, signed.raw), key=key.key),
        ):
            assert worth(policy, wrong) == "APPROVAL_SIGNATURE"


def test_ssh_signature_made_by_openssh_holds_and_its_changes_do_not() -> None:
    """Recorded from OpenSSH 9.2: the real thing, another namespace, another hash, and each bit of it flipped."""
    key = b64decode((VECTORS / "key.pub").read_text().split()[1])
    raw = (VECTORS / "statement.json").read_bytes()
    blob, other, weak = (
        unarmoured((VECTORS / name).read_bytes()) for name in ("approval.sig", "other-namespace.sig", "sha256.sig")
    )

    assert Endorsement("ssh", key, blob).holds(Kind.APPROVAL, raw)
    assert not Endorsement("ssh", key, blob).holds(Kind.WITHDRAWAL, raw)
    assert not Endorsement("ssh", key, other).holds(Kind.APPROVAL, raw)
    assert not Endorsement("ssh", key, weak).holds(Kind.APPROVAL, raw)
    for at in range(len(blob) * 8):
        flipped = bytearray(blob)
        flipped[at // 8] ^= 1 << at % 8
        assert not sshsig.verify(key, Kind.APPROVAL.value, raw, bytes(flipped)), at
    for size in range(len(blob)):
        assert not sshsig.verify(key, Kind.APPROVAL.value, raw, blob[:size])


SHAPES: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown algorithm": ({"alg": "rsa", "key": "00", "seen": True}, "POLICY_NOT_SUPPORTED"),
    "seen without a desk": (
        {k: v for k, v in Passkey("bob").credential().items() if k != "desk_key"},
        "POLICY_PASSKEY",
    ),
    "a desk that is not seen": (Passkey("bob").credential() | {"seen": False}, "POLICY_PASSKEY"),
    "no origin": (Passkey("bob").credential(origins=[]), "POLICY_PASSKEY"),
    "an origin that roots do not list": (Passkey("bob").credential(origins=["https://evil.example"]), "POLICY_PASSKEY"),
    "an RP id that roots do not list": (Passkey("bob").credential(rp_id="evil.example"), "POLICY_PASSKEY"),
    "an RSA key of SSH": ({"alg": "ssh", "key": "000000077373682d727361", "seen": True}, "SSH_KEY"),
    "a desk key of somebody else": (
        Passkey("bob").credential(desk_key=principal("alice", "acme", ["ops"])["credentials"][0]["key"]),
        "POLICY_KEY_REUSED",
    ),
    "an RP id for a plain key": (
        {**principal("bob", "acme", ["ops"])["credentials"][0], "rp_id": RP_ID},
        "FIELD_UNKNOWN",
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_credential_of_a_wrong_shape_is_refused(shape: str) -> None:
    """One valid list, one change, one code."""
    wrong, code = SHAPES[shape]
    parse_policy(rules(Passkey("bob").credential()))

    with pytest.raises(MalformedError) as refused:
        parse_policy(rules(wrong))

    assert refused.value.code == code


def test_proofs_of_a_principal_name_each_credential_once() -> None:
    """A person with two keys is one person; a signature that stands twice is one proof."""
    key = Passkey("bob")
    policy = bobs(key.credential(), principal("bob", "acme", ["ops"])["credentials"][0])
    signed = statement()
    both = replace(
        signed,
        endorsements=(
            key.endorse(signed.digest),
            key.endorse(signed.digest),
            endorse(signed.kind, signed.raw, seed_of("bob")),
        ),
    )
    bob = policy.principal("bob")
    assert bob is not None

    assert [(proof.credential.alg, proof.seen) for proof in proofs_by(bob, both)] == [
        (webauthn.ES256, False),
        ("ed25519", True),
    ]
    assert may_ask(bob, both)
    assert not may_ask(bob, replace(both, endorsements=both.endorsements[:1]))


@pytest.mark.parametrize("made_by", ["owner", "another key", "another kind", "nobody", "two"])
def test_possession_of_an_ssh_key_is_proven_by_that_key_alone(made_by: str) -> None:
    """One key, one signature, of the very statement that names it."""
    key = FidoKey("eve")
    said = Possession(bytes(32), "eve", "ssh", key.key)
    raw = encode(said.to_json())
    good = key.endorse(Kind.POSSESSION, raw)
    endorsements = {
        "owner": (good,),
        "another key": (FidoKey("mallory").endorse(Kind.POSSESSION, raw),),
        "another kind": (key.endorse(Kind.APPROVAL, raw),),
        "nobody": (),
        "two": (good, good),
    }[made_by]
    signed = Signed(Kind.POSSESSION, raw, endorsements)

    if made_by == "owner":
        assert read_possession(signed, bytes(32)) == said
    else:
        with pytest.raises(MalformedError, match="POSSESSION_SIGNATURE"):
            read_possession(signed, bytes(32))


def test_possession_of_a_passkey_without_its_desk_is_refused() -> None:
    """A passkey is enrolled where its owner's desk sees it, and with that desk's key."""
    raw = encode(Possession(bytes(32), "eve", webauthn.EDDSA, bytes(32)).to_json())
    with pytest.raises(MalformedError, match=r"FIELD_HEX: possession.desk_key"):
        read_possession(Signed(Kind.POSSESSION, raw, ()), bytes(32))
