"""From the words of a command line to a statement; from the log to "already paid"; from answers to values."""

import pytest

from console.drafts import already_paid, check_me, names_of, outputs_of, read_payment, read_relation
from console.follower import Followed, require_fresh
from console.pages import address_groups, key_words, span, utc, withdrawal_lines
from console.reading import read_view
from console.refusal import RefusedHereError
from console.statements import write_signed
from console.views import Stage, has_reached
from custody.errors import IntegrityError, MalformedError
from custody.units import Sats
from custody.v1 import withdrawal_pb2
from custody.wallet import Network
from custody.withdrawal import NEW, Payment, RelationKind
from tests.fakes.rules import DAY, EXCHANGE, NOW, STRANGER, address, key_of, policy, script
from tests.world import World, make_genesis, signed_by_initiator

GENESIS = make_genesis()


def test_read_payment_given_a_label_keeps_its_colons() -> None:
    """Only the first colon ends the amount."""
    found = read_payment(f"{address(EXCHANGE)}=25000:invoice 7: second", Network.REGTEST)
    assert found == Payment(address(EXCHANGE), Sats(25_000), "invoice 7: second")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (address(11), "PAYMENT"),
        (f"{address(11)}=0.5", "PAYMENT"),
        (f"{address(11)}=1e3", "PAYMENT"),
        (f"{address(11)}=-5", "PAYMENT"),
        (f"{address(11)}=٣", "PAYMENT"),
        (f"{address(11)}=0", "AMOUNT_OUT_OF_RANGE"),
        (f"{address(11)}=2100000000000001", "AMOUNT_OUT_OF_RANGE"),
        (f"{address(11)}=5:a\u202eb", "LABEL_UNPRINTABLE"),
        (f"{address(11)}=5:{'x' * 141}", "LABEL_TOO_LONG"),
        ("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4=5", "ADDRESS_NETWORK"),
        (f"{address(11)[:-1]}q=5", "ADDRESS_INVALID"),
    ],
)
def test_read_payment_given_anything_else_is_refused(text: str, code: str) -> None:
    """Each wrong word has its code."""
    with pytest.raises(MalformedError) as found:
        read_payment(text, Network.REGTEST)
    assert found.value.code == code


def test_already_paid_counts_ninety_days_of_the_log() -> None:
    """The same script and amount released within 90 days; another amount or an older one does not count."""
    world = World(GENESIS)
    world.spend(world.withdrawal((EXCHANGE, 50_000))).release()
    state, wanted = world.state(), outputs_of((Payment(address(EXCHANGE), Sats(50_000)),), Network.REGTEST)
    assert [found.release.withdrawal_id for found in already_paid(state, wanted, NOW)] == ["w-1"]
    assert already_paid(state, wanted, NOW + 91 * DAY) == ()
    other = outputs_of((Payment(address(EXCHANGE), Sats(50_001)),), Network.REGTEST)
    assert already_paid(state, other, NOW) == ()


def test_read_relation_additional_lists_what_was_paid() -> None:
    """The program fills the list from the log."""
    world = World(GENESIS)
    asked = world.withdrawal((EXCHANGE, 50_000))
    world.spend(asked).release()
    paid = already_paid(world.state(), outputs_of(asked.payments, Network.REGTEST), NOW)
    assert read_relation("additional", paid).digests == (asked.digest,)
    assert read_relation("new", paid) == NEW
    assert read_relation(f"supersedes:{asked.digest.hex()}", ()).kind is RelationKind.SUPERSEDES


@pytest.mark.parametrize("text", ["additional", "newer", "new:1", "supersedes", "supersedes:12", ""])
def test_read_relation_given_anything_else_is_refused(text: str) -> None:
    """A relation that says nothing is none."""
    with pytest.raises(MalformedError):
        read_relation(text, ())


def test_names_of_comes_from_the_pinned_lists_alone() -> None:
    """The very script is named, with a word where its entry does not count now; a stranger is not."""
    assert names_of(script(EXCHANGE), policy(), NOW) == ("exchanges: payee 11",)
    assert names_of(script(EXCHANGE), policy(), NOW - 2 * DAY) == ("exchanges: payee 11 (NOT YET: its cool-down runs)",)
    assert names_of(script(EXCHANGE), policy(), NOW + 366 * DAY) == ("exchanges: payee 11 (EXPIRED)",)
    assert names_of(script(STRANGER), policy(), NOW) == ()


@pytest.mark.parametrize(
    ("me", "key", "now", "code"),
    [
        ("alice", "alice", NOW, None),
        ("eve", "alice", NOW, "NOT_IN_RULES"),
        ("alice", "bob", NOW, "KEY_NOT_IN_RULES"),
        ("alice", "alice", NOW + 400 * DAY, "NOT_IN_RULES"),
    ],
)
def test_check_me_asks_the_rules(me: str, key: str, now: int, code: str | None) -> None:
    """A key signs only for the person whom the rules list with it, in date."""
    refused = check_me(policy(), me, key_of(key), now)
    assert (refused.code if refused is not None else None) == code


def test_require_fresh_given_an_old_checkpoint_says_stale() -> None:
    """Five minutes, in either direction of the clock."""
    followed = Followed(World(GENESIS).state(), "", NOW)
    assert require_fresh(followed, NOW + 300).size == 0
    for now in (NOW + 301, NOW - 301):
        with pytest.raises(RefusedHereError) as found:
            require_fresh(followed, now)
        assert found.value.code == "STALE"


def view_message(**changes: object) -> withdrawal_pb2.Withdrawal:
    """Return a view as the coordinator would send it, with changes."""
    asked = World(GENESIS).withdrawal()
    base = {"digest": asked.digest, "statement": write_signed(signed_by_initiator(asked)), "stage": 1}
    return withdrawal_pb2.Withdrawal(**{**base, **changes})  # type: ignore[arg-type]  # a test's own words


def test_read_view_computes_the_digest_itself() -> None:
    """The statement is read from its bytes."""
    view = read_view(view_message())
    assert (view.digest, view.stage) == (view.withdrawal.digest, Stage.APPROVING)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"digest": bytes(32)}, "DIGEST_OTHER"),
        ({"stage": 0}, "ANSWER_MALFORMED"),
        ({"stage": 99}, "ANSWER_MALFORMED"),
        ({"statement": None}, "ANSWER_MALFORMED"),
        ({"transaction": b"\x00"}, "ANSWER_MALFORMED"),
    ],
)
def test_read_view_given_a_lie_is_broken_not_usage(changes: dict[str, object], code: str) -> None:
    """What is wrong in an answer is the coordinator's fault."""
    with pytest.raises(IntegrityError) as found:
        read_view(view_message(**changes))
    assert found.value.code == code


def test_has_reached_follows_the_path() -> None:
    """Later stages on the way count; other ends do not."""
    assert has_reached(Stage.CONFIRMED, Stage.BROADCAST)
    assert not has_reached(Stage.SIGNING, Stage.BROADCAST)
    assert not has_reached(Stage.DENIED, Stage.APPROVING)
    assert has_reached(Stage.DENIED, Stage.DENIED)


def test_withdrawal_page_shows_all_that_is_signed() -> None:
    """Whole address in groups, the pinned name, the label quoted, fee, digest, words, and what was paid before."""
    world = World(GENESIS)
    world.spend(world.withdrawal((EXCHANGE, 50_000))).release()
    asked = world.withdrawal(withdrawal_id="w-2", payments=(Payment(address(EXCHANGE), Sats(50_000), "rent"),))
    paid = already_paid(world.state(), outputs_of(asked.payments, Network.REGTEST), NOW)
    page = "\n".join(withdrawal_lines(asked, GENESIS.policy, GENESIS, paid, NOW))
    for wanted in (
        address_groups(address(EXCHANGE)),
        "on pinned list exchanges: payee 11",
        'requester says: "rent"',
        "fee at most 0.00020000 BTC, so at most 0.00070000 BTC leave",
        asked.digest.hex(),
        "ALREADY PAID on 2027-01-15 08:00:00 UTC by w-1 of alice",
    ):
        assert wanted in page
    assert max(len(line) for line in page.splitlines()) <= 100


def test_withdrawal_page_given_tricks_in_its_words_shows_them_as_such() -> None:
    """A label cannot end its quotes, and what is no address of this network is called so."""
    tricks = (
        Payment(address(STRANGER), Sats(1), 'x" on pinned list exchanges: Kraken'),
        Payment("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", Sats(1)),
    )
    asked = World(GENESIS).withdrawal(payments=tricks)
    page = withdrawal_lines(asked, GENESIS.policy, GENESIS, (), NOW)
    assert r'      requester says: "x\" on pinned list exchanges: Kraken"' in page
    assert "      NO ADDRESS OF REGTEST: nobody will sign this" in page
    assert not [line for line in page if line.startswith("      on pinned list")]


def test_small_words_are_right() -> None:
    """Times, spans, groups and key words."""
    assert utc(NOW) == "2027-01-15 08:00:00 UTC"
    assert utc(10**15) == "1000000000000000 s after 1970"
    assert (span(45), span(7_200), span(3 * DAY)) == ("45 s", "2 h", "3 d")
    assert address_groups("abcdefghij") == "abcd efgh ij"
    assert len(key_words(key_of("alice")).split()) == 12
